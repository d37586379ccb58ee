"""A study with everything a report can show, without any training: runs, histories, settings, controls, an external cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_study import Made, write_study

from datamodules.files.sealed import write_sealed
from experiments.__main__ import main
from experiments.study.run_folder import RunFolder

SCRIPT = '<script>alert("x")</script>'
"""Stands in a field that comes from a user's table; a report must show it as text."""
CONFIG = """
label: {threshold: 3.0, min_days: 0, max_days: 183, undated: exclude}
data: {batch_size: 4, mask_mode: template, dilate_mm: 3.0, augmentation: {flip: 0.5, noise: 0.02, gamma: 0.0}}
network:
  class_path: lightning_modules.networks.ResidualCNN
  init_args: {width: 8, stages: 4}
model: {optimizer: adamw, learning_rate: 0.001, lr_decay: 0.99, betas: [0.9, 0.999], weight_decay: 0.01}
trainer: {max_epochs: 3}
early_stopping: {patience: 2}
"""
FLOW = {
    "found": {"scans": 60, "patients": 45, "positive_scans": 17},
    "excluded": [
        {"reason": f"assessed outside the window {SCRIPT}", "scans": 4, "patients": 3, "positive_scans": 1, "who": []}
    ],
    "used": {"scans": 56, "patients": 42, "positive_scans": 16},
}


def estimate(value: float | None = 0.7, half: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": None if value is None else value - half, "high": None if value is None else value + half}


def write_reportable(folder: Path, made: Made | None = None, draws: int = 200) -> Path:
    """Write a study, compare it, and put beside it what other commands would leave."""
    made = made or Made(baselines=("prevalence", "age_sex"))
    write_study(folder, made)
    rng = np.random.default_rng(1)
    for path in sorted(folder.glob("*/fold-*/seed-*")):
        (path / "config.yaml").write_text(CONFIG, encoding="utf-8")
        rows = [f"{epoch}\t{0.7 - 0.05 * epoch + rng.normal(0, 0.02)}\t{'' if epoch == 0 else 0.6}" for epoch in range(3)]
        (path / "history.tsv").write_text("\n".join(["epoch\ttuning/loss\ttrain/loss", *rows]) + "\n", encoding="utf-8")
        own = RunFolder(path)
        own.write_complete(own.facts() | _facts())
    write_sealed(folder / "flow.json", FLOW)
    words = ["compare", "--study", folder.name, "--studies", str(folder.parent), "--draws", str(draws)]
    assert main([*words, "--inputs", ",".join(made.inputs), "--tracking.mode", "disabled"]) == 0
    return folder


def _facts() -> dict[str, Any]:
    return {
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef",
        "best_epoch": 2,
        "epochs": 3,
        "box": {"start": [0, 0, 0], "stop": [16, 24, 8]},
        "parameters": 19470,
        "seconds": {"training": 36.0, "epoch": 12.0, "this_attempt": 40.0},
        "scans_per_second": 3.5,
        "peak_memory_mb": 812.0,
        "device": "cpu",
        "precision": "32-true",
        "attempts": 1,
        "started": "2026-01-01T10:00:00+0000",
        "finished": "2026-01-02T10:00:40+0000",
    }


def write_controls(folder: Path, inputs: list[str]) -> None:
    """controls.json with a control that warns, and one that was not run."""
    scores = {name: estimate() for name in ("auc", "balanced_accuracy", "sensitivity", "specificity")}
    base = {"scans": 56, "patients": 42, "positives": 16, "repetitions": 1, "details": {}, "reason": None, "state": "complete"}
    rows: list[dict[str, Any]] = [
        base
        | {"control": "image", "title": "the image itself", "input": name, "estimates": scores, "difference_of": None}
        | {"difference": None, "flag": "info", "verdict": "predicts the label"}
        for name in inputs
    ]
    rows.append(
        base
        | {"control": "mask_only", "title": "mask only", "input": inputs[-1], "estimates": scores}
        | {"difference_of": "image minus mask only", "difference": {"auc": estimate(0.01)}}
        | {"flag": "warning", "verdict": "no evidence of information beyond region size and shape"}
    )
    rows.append(
        base
        | {"control": "header_only", "title": "header only", "input": None, "state": "not run", "reason": "nothing differs"}
        | {"estimates": None, "difference_of": None, "difference": None, "flag": "info", "verdict": "not run"}
    )
    facts = {"mask_mode": "template", "spacing_mm": [3.0, 3.0, 3.0], "epochs": 8, "rules": {"mask_only": "a rule"}}
    write_sealed(folder / "controls.json", facts | {"controls": rows})


def write_external(folder: Path, inputs: list[str]) -> None:
    """external/hospitals/external.json, one site of which has one class only."""
    metrics = ("balanced_accuracy", "sensitivity", "specificity", "auc")
    scores = {name: estimate() for name in metrics}
    sites = [
        {"site": "A", "scans": 12, "patients": 10, "positives": 4},
        {"site": "B", "scans": 3, "patients": 3, "positives": 0},
    ]
    one = {
        "ensemble": scores,
        "single": {
            "balanced_accuracy": {"mean": 0.66, "sd": 0.03, "values": [0.66] * 7, "low": 0.6, "high": 0.7},
            "auc": {"mean": 0.71, "sd": 0.02, "values": [0.71] * 7, "low": 0.6, "high": 0.8},
        },
        "internal": scores,
        "change": {
            "balanced_accuracy": {"value": -0.09, "low": -0.17, "high": 0.01},
            "auc": {"value": -0.05, "low": -0.14, "high": 0.06},
        },
        "calibration": {"brier": estimate(0.2), "in_the_large": estimate(0.1), "slope": estimate(0.9)},
        "sites": [sites[0] | scores, sites[1] | {name: estimate(None) for name in metrics}],
        "leave_one_site_out": {"balanced_accuracy": {"low": 0.66, "high": 0.73, "without": {"A": 0.66, "B": 0.73}}},
    }
    pair = {"first": inputs[-1], "second": "global", "metric": "balanced_accuracy", "difference": estimate(0.0)}
    content = {
        "study": folder.name,
        "cohort": "hospitals",
        "scans": 15,
        "patients": 13,
        "positives": 4,
        "sites": sites,
        "frozen": {"time": "2026-01-03T10:00:00+0000", "hash": "ab" * 32},
        "primary": "mean of the seven calibrated probabilities",
        "interval": "95 % patient-cluster bootstrap, stratified by site and label, percentile",
        "inputs": [{"input": name, "threshold": 0.3, **one} for name in inputs],
        "paired": [pair | {"p": 0.5, "p_holm": 1.0, "p_fdr": 0.8, "verdict": "not distinguishable"}],
        "independent_tests": "not used: 2 repeated scans of patients",
        "remarks": [],
        "same_decisions": [],
    }
    place = folder / "external" / "hospitals"
    place.mkdir(parents=True)
    write_sealed(place / "external.json", content)
