"""Real raw scans of two patients, 3 and 4 mm slices, one with the top and the bottom of the brain cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.__main__ import main

RAW = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "raw"

needs_scans = pytest.mark.skipif(not RAW.is_dir(), reason="the raw scans are not on this machine")


def numbers(out: Path) -> dict[str, dict[str, Any]]:
    return {path.name.split("_desc")[0]: json.loads(path.read_text())["numbers"] for path in sorted(out.rglob("*_qc.json"))}


@pytest.mark.slow
@needs_scans
def test_a_real_session(tmp_path: Path) -> None:
    assert main(["prepare", "--bids", str(RAW), "--out", str(tmp_path), "--only", "sub-01/ses-1"]) == 0
    (told,) = numbers(tmp_path).values()
    assert told["dice_in_field"] > 0.93
    assert 0.01 < told["template_unseen"] < 0.05
    assert told["flair_moved_mm"] < 1.5
    assert told["pair_nmi"] > 1.05
    assert told["pair_mi"] > 0.35
    assert 1.2 < told["determinant"] < 1.7


@pytest.mark.long
@needs_scans
def test_all_real_sessions(tmp_path: Path) -> None:
    assert main(["prepare", "--bids", str(RAW), "--out", str(tmp_path), "--jobs", "2"]) == 0
    told = numbers(tmp_path)
    assert list(told) == ["sub-01_ses-1", "sub-01_ses-2", "sub-03_ses-2"]
    assert min(one["dice_in_field"] for one in told.values()) > 0.93
    assert min(one["contrast_order"] for one in told.values()) > 0.3
    assert told["sub-01_ses-1"]["determinant"] == pytest.approx(told["sub-01_ses-2"]["determinant"], rel=0.05)
    participants = (tmp_path / "participants.tsv").read_text()
    assert participants == "participant_id\nsub-01\nsub-03\n"


@pytest.mark.long
@needs_scans
@pytest.mark.parametrize("name", ["sub-01/ses-1", "sub-03/ses-2"])
def test_the_mask_by_registration_is_near_deepbets(name: str) -> None:
    from datamodules.preparation.brain import deepbet_mask
    from datamodules.preparation.template_brain import registered_mask
    from datamodules.volumes import read_volume

    t1w = read_volume(RAW / name / "anat" / f"{name.replace('/', '_')}_T1w.nii.gz")
    first, second = deepbet_mask(t1w), registered_mask(t1w)
    assert 2 * np.sum(first & second) / (first.sum() + second.sum()) > 0.9
