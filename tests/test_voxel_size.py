"""A study on larger voxels than its scans have: its volumes, its record, its fingerprint, its external cohort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from datamodules.files.tables import CohortError
from experiments.analysis.baselines import make_baselines
from experiments.commands import external
from experiments.study.opening import fingerprint_of
from experiments.study.runs import grid
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import open_study
from experiments.training.worker import work
from regions.errors import UserError


def settings_of(home: Path, cohort: Path, *more: str) -> Settings:
    words = ["--cohort", str(cohort), "--study", "mine", "--studies", str(home / "studies"), "--preset", "demo"]
    words += ["--store", str(home / "store"), "--folds", "3", "--network.init_args.stages", "2"]
    words += ["--network.init_args.width", "2", "--trainer.max_epochs", "1", "--tracking.mode", "disabled"]
    words += ["--data.augmentation.flip", "0"]  # x = 0 lies beside the middle of an averaged voxel
    return parse_settings([*words, *more])


def test_a_study_trains_on_larger_voxels_than_its_scans_have(
    phantom_cohort: Path, external_cohort: Path, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, phantom_cohort, "--voxel_mm", "12")
    study = open_study(settings.study_options())
    assert study.prepared.grid.spacing == (12.0, 12.0, 12.0)
    assert yaml.safe_load((study.folder / "study.yaml").read_text())["voxel_mm"] == 12.0
    own = settings_of(tmp_path, phantom_cohort, "--voxel_mm", "0")
    assert fingerprint_of(settings, study).config != fingerprint_of(own, study).config
    assert own.hash() == settings_of(tmp_path / "elsewhere", phantom_cohort).hash()
    assert settings_of(tmp_path, phantom_cohort).hash() == settings.hash()
    with pytest.raises(CohortError, match=r"study mine was begun with --voxel_mm 12, not 0; use another STUDY"):
        open_study(own.study_options())

    assert work(settings, study, grid(("global",), [0], 3)) == 0
    assert set(make_baselines(study, 1, None)["baselines"]) >= {"age_sex_volumes"}
    words = ["--study", "mine", "--studies", str(tmp_path / "studies"), "--store", str(tmp_path / "store"), "--draws", "200"]
    assert external.main([*words, "--inputs", "global", "--cohort", str(external_cohort)]) == 0
    folder = study.folder / "external" / external_cohort.name
    frozen = json.loads((folder / "frozen.json").read_text())
    assert np.diag(frozen["grid"]["affine"])[:3].tolist() == [12.0, 12.0, 12.0]
    assert np.diag(frozen["scan_grid"]["affine"])[:3].tolist() == [6.0, 6.0, 6.0]
    assert external.main([*words, "--inputs", "global", "--cohort", str(external_cohort), "--verify"]) == 0


@pytest.mark.parametrize("size", ["9", "3"])
def test_voxels_that_cannot_be_put_together_are_told(size: str, phantom_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"--voxel_mm {size}: voxels of 6 mm can be put together to 12, 18, \.\.\. mm"):
        open_study(settings_of(tmp_path, phantom_cohort, f"--voxel_mm={size}").study_options())


def test_voxels_below_0_are_refused_before_a_study_is_opened(phantom_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"voxel_mm is -6.0; give a number from 0 on"):
        settings_of(tmp_path, phantom_cohort, "--voxel_mm=-6")
