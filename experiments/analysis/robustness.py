"""Under which changes the results stand: another EDSS threshold, another window, one scan a patient, no borderline scores.

Nothing is trained again: the same predictions are scored against other labels or on fewer scans. Written as robustness.json,
with each network's worst errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.target import EDSS_SCALE, EDSS_THRESHOLD
from datamodules.files.sealed import write_sealed
from experiments.analysis.baseline_files import BASELINES, SOMETIMES
from experiments.analysis.pooling import Pooled, Tables
from experiments.analysis.subgroups import part, scans_and_draws
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.study.record import read_record
from experiments.study.scan_table import ScanTable

BoolArray = npt.NDArray[np.bool_]

EDSS_THRESHOLDS = tuple(float(value) for value in np.arange(2.0, 6.01, 0.5))
WINDOWS_DAYS = (30, 91, 183)
WORST = 10
ABOUT = (
    "The same predictions and decisions scored again; no network was trained for another question. With another EDSS "
    "threshold the AUC says how well the scores order the patients around it; balanced accuracy keeps decisions that were "
    "tuned for the study's own threshold, so it falls away from it also for a good score."
)


def write_robustness(study: Path, tables: Tables, draws: int) -> None:
    """Write robustness.json.

    Args:
        study: The study's folder.
        tables: Input or baseline -> one table for each seed.
        draws: Bootstrap draws.
    """
    scans, rows, weights = scans_and_draws(study, tables, draws)
    threshold = label_threshold(study, scans) if scans.target.is_edss else None
    subsets = [{"name": name} | part(tables, chosen, weights) for name, chosen in robustness_subsets(scans, rows, threshold)]
    others = EDSS_THRESHOLDS if threshold is not None else ()
    below = scans.target.direction == "below"
    edss = [relabelled(tables, scans.value[rows], value, draws, below) for value in others]
    networks = {name: by_seed for name, by_seed in tables.items() if name not in (*BASELINES, *SOMETIMES)}
    worst = {name: worst_errors(by_seed, scans.value[rows]) for name, by_seed in networks.items()}
    about = ABOUT if edss else ABOUT.partition(" With")[0]
    content = {"draws": draws, "about": about, "label_threshold": threshold, "edss": edss, "subsets": subsets}
    write_sealed(study / "robustness.json", content | {"worst_errors": worst})


def label_threshold(study: Path, scans: ScanTable) -> float:
    """The study's EDSS threshold, from its record; else the usual one where it fits, or the lowest positive score."""
    record = read_record(study)
    if record is not None and record.label.threshold is not None:
        return record.label.threshold
    usual = EDSS_THRESHOLD
    if np.array_equal(scans.label == 1, scans.value >= usual):
        return usual
    return float(scans.value[scans.label == 1].min())


def robustness_subsets(
    scans: ScanTable, rows: npt.NDArray[np.int64], threshold: float | None
) -> Iterator[tuple[str, BoolArray]]:
    """Name and predictions of every subset that leaves scans out.

    Args:
        scans: The study's scans.
        rows: (n,) row of each prediction in `scans`.
        threshold: Lowest EDSS of the higher class; None where the target is another one.
    """
    everything = np.ones(rows.size, dtype=bool)
    yield "all scans", everything
    single = first_scans(scans)[rows]
    if not single.all():
        yield "one scan a patient, the first", single
    days = scans.days[rows]
    for most in WINDOWS_DAYS:
        chosen = np.abs(days) <= most
        if chosen.any() and not chosen.all():
            yield f"assessed within {most} days", chosen
    if threshold is None:
        return
    edss = scans.value[rows]
    steps = [step for step in (threshold - 0.5, threshold) if step in EDSS_SCALE]  # below 1 there is 0 alone
    borderline = np.isin(edss, steps)
    if borderline.any():
        yield f"without EDSS {' and '.join(f'{step:g}' for step in steps)}", ~borderline


def first_scans(scans: ScanTable) -> BoolArray:
    """(n,) whether a scan is its patient's first by session name (ses-2 before ses-10)."""
    order = sorted(range(scans.patient.size), key=lambda row: (len(scans.session[row]), str(scans.session[row])))
    seen: set[str] = set()
    first = np.zeros(scans.patient.size, dtype=bool)
    for row in order:
        first[row] = str(scans.patient[row]) not in seen
        seen.add(str(scans.patient[row]))
    return first


def relabelled(
    tables: Tables, edss: npt.NDArray[np.float64], threshold: float, draws: int, below: bool = False
) -> dict[str, Any]:
    """Balanced accuracy and AUC of the same predictions against EDSS >= `threshold`; draws are stratified by the new label.

    Args:
        tables: Input or baseline -> one table for each seed.
        edss: (n,) score of each prediction.
        threshold: Lowest EDSS that counts as positive.
        draws: Bootstrap draws.
        below: A lower EDSS is positive instead, as in the study itself.
    """
    y = ((edss < threshold) if below else (edss >= threshold)).astype(np.int64)
    facts: dict[str, Any] = {"threshold": threshold, "scans": int(y.size), "events": int(y.sum()), "note": "", "inputs": {}}
    if np.unique(y).size < 2:
        return facts | {"note": "one class only, no score"}
    again = {name: [replace(pooled, test=replace(pooled.test, y=y)) for pooled in by_seed] for name, by_seed in tables.items()}
    first = next(iter(again.values()))[0].test
    weights = draw_patient_weights(first, draws, np.random.default_rng(0))
    scored = part(again, np.ones(y.size, dtype=bool), weights)
    inputs = {
        name: {metric: scores[metric] for metric in ("balanced_accuracy", "auc")} for name, scores in scored["inputs"].items()
    }
    return facts | {"note": scored["note"], "inputs": inputs}


def worst_errors(by_seed: Sequence[Pooled], values: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Wrongly decided scans of the first seed, those furthest beyond their threshold first.

    The distance is measured towards the wrong end: 1 is a probability of 0 or 1 for the wrong class.
    """
    pred: Predictions = by_seed[0].test
    cut = np.array([by_seed[0].thresholds[int(fold)] for fold in pred.fold])
    room = np.where(pred.y == 1, cut, 1 - cut)
    beyond = np.where(pred.y == 1, cut - pred.p, pred.p - cut) / np.maximum(room, 1e-12)
    wrong = np.flatnonzero(pred.decision != pred.y)
    session = np.full(pred.y.size, "") if pred.session is None else pred.session
    return [
        {
            "patient": str(pred.patient[row]),
            "session": str(session[row]),
            "fold": int(pred.fold[row]),
            "y": int(pred.y[row]),
            "p": float(pred.p[row]),
            "threshold": float(cut[row]),
            "value": float(values[row]),
        }
        for row in wrong[np.argsort(-beyond[wrong], kind="stable")][:WORST]
    ]
