"""Controls on cohorts whose truth is known: what a control must catch it catches, what it must let pass it lets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.commands import controls

pytestmark = pytest.mark.long


def controlled(folder: Path, options: PhantomOptions, words: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of controls.json, by control, of one input on a phantom cohort."""
    cohort = write_phantom_cohort(folder / "cohort", options)
    where = ["--cohort", str(cohort), "--study", "planted", "--studies", str(folder), "--store", str(folder / "store")]
    cheap = ["--network.init_args.stages", "3", "--draws", "2000", "--permutations", "1", "--quiet"]
    assert controls.main([*where, *cheap, *words]) == 0
    found = json.loads((folder / "planted" / "controls.json").read_text())
    return {row["control"]: row for row in found["controls"]}


def auc(row: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = row["estimates"]["auc"]
    return found


MASK_ONLY = ["--controls", "mask_only", "--data.mask_mode", "subject"]


def test_atrophy_without_any_change_of_signal_is_caught_by_the_mask_alone(tmp_path: Path) -> None:
    words = [*MASK_ONLY, "--inputs", "subcortical_gray_matter", "--trainer.max_epochs", "15", "--early_stopping.patience", "15"]
    rows = controlled(tmp_path, PhantomOptions("shape_only", 120, 120, 6.0, 0), words)
    assert auc(rows["mask_only"])["low"] > 0.5
    assert rows["mask_only"]["flag"] == "warning"
    assert rows["mask_only"]["verdict"] == "no evidence of information beyond region size and shape"


def test_a_change_of_signal_without_atrophy_is_not_caught_by_the_mask_alone(tmp_path: Path) -> None:
    words = [*MASK_ONLY, "--inputs", "white_matter", "--trainer.max_epochs", "12", "--early_stopping.patience", "12"]
    rows = controlled(tmp_path, PhantomOptions("intensity_only", 120, 120, 6.0, 0), words)
    assert auc(rows["image"])["value"] > 0.7
    assert rows["image"]["verdict"] == "predicts the label"
    assert auc(rows["mask_only"])["low"] < 0.5 < auc(rows["mask_only"])["high"]
    assert rows["mask_only"]["flag"] == "ok"
    assert rows["mask_only"]["difference"]["auc"]["low"] > 0


def test_a_scanner_that_goes_with_the_label_is_caught_by_the_header_alone(tmp_path: Path) -> None:
    words = ["--inputs", "brainstem", "--controls", "header_only", "--trainer.max_epochs", "2"]
    rows = controlled(tmp_path, PhantomOptions("site_confounded", 84, 84, 6.0, 0), words)
    assert auc(rows["header_only"])["low"] > 0.6
    assert rows["header_only"]["flag"] == "warning"
    assert rows["header_only"]["details"]["columns"] == ["field_strength"]


def test_a_split_by_scan_shows_accuracy_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    words = ["--inputs", "global", "--controls", "leaky", "--trainer.max_epochs", "1"]
    row = controlled(tmp_path, PhantomOptions("null", 60, 120, 6.0, 0), words)["leaky"]
    honest = row["details"]["honest"]["auc"]
    assert honest["low"] < 0.5 < honest["high"]
    assert auc(row)["low"] > 0.6
    assert row["difference"]["auc"]["low"] > 0
    assert "inflates the AUC by" in row["verdict"]


def test_permuted_labels_are_at_chance_where_the_true_ones_are_predicted(tmp_path: Path) -> None:
    words = ["--inputs", "ventricles", "--controls", "permuted", "--permutations", "3", "--trainer.max_epochs", "12"]
    rows = controlled(tmp_path, PhantomOptions("single_region:ventricles", 84, 100, 6.0, 3), words)
    assert auc(rows["image"])["low"] > 0.6
    assert auc(rows["permuted"])["low"] < 0.5 < auc(rows["permuted"])["high"]
    assert rows["permuted"]["flag"] == "ok"
