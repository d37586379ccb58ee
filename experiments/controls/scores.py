"""From the controls' predictions to rows with intervals, paired differences and a verdict each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.controls.plan import TITLES, ControlRun
from experiments.controls.rules import ALONE, METRIC, verdict
from experiments.statistics.constant import has_few_patients, is_silent
from experiments.statistics.paired import paired_differences
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import (
    METRICS,
    Estimate,
    bootstrap_interval,
    draw_patient_weights,
    mean_values,
    percentile_interval,
    point_values,
)
from experiments.study.run_folder import RunFolder

Scores = Mapping[str, Estimate]


@dataclass(frozen=True)
class Row:
    """What one control of one input found; ``input`` is None where it is of the study as a whole."""

    control: str
    input: str | None
    reason: str | None = None
    scans: int | None = None
    patients: int | None = None
    positives: int | None = None
    repetitions: int | None = None
    estimates: Scores | None = None
    difference_of: str | None = None
    difference: Scores | None = None
    flag: str = "info"
    verdict: str = "not run"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The control's name in tables."""
        return TITLES[self.control]


def pooled(folder: Path, runs: Sequence[ControlRun]) -> Predictions:
    """Internal test rows of all folds of one control, decided at each fold's own threshold.

    Raises:
        PredictionsError: if the rows cannot be scored.
    """
    return Predictions(**_columns(folder, runs))


def _columns(folder: Path, runs: Sequence[ControlRun]) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {name: [] for name in ("patient", "session", "fold", "y", "p", "decision")}
    for run in runs:
        predicted, threshold = RunFolder(run.folder(folder)).result()
        rows = predicted.of("internal_test")
        decision = (rows.p >= threshold).astype(np.int64)
        values = (rows.patient, rows.session, np.full(len(rows.y), run.fold), rows.y, rows.p, decision)
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value)
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    order = np.lexsort((joined["session"], joined["patient"], joined["fold"]))
    return {name: column[order] for name, column in joined.items()}


def ranked(folder: Path, runs: Sequence[ControlRun]) -> Predictions:
    """As `pooled`, with each probability replaced by its rank within its fold, and all folds put together.

    A split by scan puts a patient into several folds, so the two splits cannot be compared within folds; ranks of different
    folds share a scale, so that one AUC over all scans can be.
    """
    columns = _columns(folder, runs)
    p = np.empty(len(columns["p"]))
    for fold in np.unique(columns["fold"]):
        rows = columns["fold"] == fold
        p[rows] = (rankdata(columns["p"][rows]) - 0.5) / rows.sum()
    order = np.lexsort((columns["session"], columns["patient"]))
    sorted_columns = {name: column[order] for name, column in (columns | {"p": p}).items()}
    return Predictions(**sorted_columns | {"fold": np.zeros(len(p), dtype=np.int64)})


def plain_row(control: str, name: str | None, table: Predictions, scores: Scores, repetitions: int = 1, **more: Any) -> Row:
    """A row with counts and estimates."""
    return Row(
        control,
        name,
        scans=len(table.y),
        patients=table.patients.size,
        positives=int(table.y.sum()),
        repetitions=repetitions,
        estimates=scores,
        **more,
    )


def judged(row: Row, tables: Mapping[str, Sequence[Predictions]], image: Scores | None = None) -> Row:
    """A row with its verdict.

    Args:
        row: The row.
        tables: What is judged and what it is compared with -> predictions, one table for each repetition.
        image: Scores of the image that it is compared with.
    """
    assert row.estimates is not None
    gain = row.difference[METRIC] if row.difference else None
    silent = " and ".join(name for name, repeats in tables.items() if is_silent(repeats, METRIC))
    few = any(map(has_few_patients, tables.values()))
    said = verdict(row.control, row.estimates[METRIC], image[METRIC] if image else None, gain, silent, few)
    return replace(row, flag=said.flag, verdict=said.text)


def compared_row(control: str, name: str | None, table: Predictions, image: Predictions, weights: WeightArray) -> Row:
    """A control beside the image it is compared with, on the same draws of patients."""
    row = plain_row(
        control,
        name,
        table,
        bootstrap_interval(table, weights),
        difference_of=f"image minus {TITLES[control]}",
        difference=paired_differences(image, table, weights),
    )
    return judged(row, {ALONE.get(control, TITLES[control]): [table], "the image": [image]}, bootstrap_interval(image, weights))


def permuted_row(name: str, tables: Sequence[Predictions], draws: int, rng: np.random.Generator) -> Row:
    """The mean over permutations; each permutation has labels and draws of its own."""
    points = [point_values(table) for table in tables]
    drawn = [mean_values(table, draw_patient_weights(table, draws, rng)) for table in tables]
    scores = {}
    for metric in METRICS:
        values = [point[metric] for point in points]
        known = [value for value in values if value is not None]
        low, high = percentile_interval(np.mean([draw[metric][1] for draw in drawn], axis=0))
        scores[metric] = Estimate(float(np.mean(known)), low, high) if len(known) == len(values) else Estimate(None, None, None)
    each = [point[METRIC] for point in points]
    row = plain_row("permuted", name, tables[0], scores, len(tables), details={f"{METRIC}_of_each": each})
    return judged(row, {"a repetition": tables})


def leaky_row(name: str, leaky: Predictions, honest: Predictions, weights: WeightArray, repeated: int) -> Row:
    """The leaky split beside the honest one, both as ranks within folds."""
    row = plain_row(
        "leaky",
        name,
        leaky,
        bootstrap_interval(leaky, weights),
        difference_of="leaky minus honest split",
        difference=paired_differences(leaky, honest, weights),
        details={"repeated_patients": repeated, "honest": _plain(bootstrap_interval(honest, weights))},
    )
    return judged(row, {"the leaky split": [leaky], "the honest split": [honest]})


def unscored_row(control: str, name: str | None, reason: str) -> Row:
    """A control that could not be run or scored, and why."""
    return Row(control, name, reason=reason)


def as_json(row: Row) -> dict[str, Any]:
    """A row as it stands in controls.json."""
    return {
        "control": row.control,
        "title": row.title,
        "input": row.input,
        "state": "not run" if row.estimates is None else "complete",
        "reason": row.reason,
        "scans": row.scans,
        "patients": row.patients,
        "positives": row.positives,
        "repetitions": row.repetitions,
        "estimates": _plain(row.estimates),
        "difference_of": row.difference_of,
        "difference": _plain(row.difference),
        "flag": row.flag,
        "verdict": row.verdict,
        "details": dict(row.details),
    }


def _plain(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        metric: {"value": estimate.value, "low": estimate.low, "high": estimate.high} for metric, estimate in scores.items()
    }
