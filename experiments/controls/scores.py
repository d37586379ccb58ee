"""From the controls' predictions to rows with intervals, paired differences and a verdict each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from datamodules.cohort.target import Target
from experiments.controls.measures import (
    Scores,
    Table,
    differences,
    estimated,
    is_small,
    measured,
    metric_of,
    on_scale,
    reworded,
    values_of,
)
from experiments.controls.plan import TITLES, ControlRun
from experiments.controls.rules import ALONE, METRIC, verdict
from experiments.statistics.constant import is_silent
from experiments.statistics.numeric import Numbers
from experiments.statistics.numeric_pairs import SECONDARY
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import WeightArray
from experiments.statistics.scores import METRICS, mean_or_none
from experiments.statistics.significance import draw_patient_weights
from experiments.study.run_folder import RunFolder, Scale


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


def pooled(folder: Path, runs: Sequence[ControlRun]) -> Table:
    """Internal test rows of all folds of one control, decided at each fold's own threshold.

    Raises:
        PredictionsError: if the rows cannot be scored.
    """
    return _table(_columns(folder, runs))


def _table(columns: dict[str, Any]) -> Table:
    scale = columns.pop("steps", None)
    return Predictions(**columns) if scale is None else Numbers(**columns, steps=scale)


def _columns(folder: Path, runs: Sequence[ControlRun]) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {}
    scale: Scale | None = None
    for run in runs:
        run_folder = RunFolder(run.folder(folder))
        predicted, threshold = run_folder.result()
        rows, scale = predicted.of("internal_test"), Scale.of(run_folder.facts())
        columns = {"patient": rows.patient, "session": rows.session, "fold": np.full(len(rows.y), run.fold)}
        columns |= {"y": rows.y, "p": rows.p}
        columns |= {"mean": np.full(len(rows.y), scale.mean)} if scale else {"decision": (rows.p >= threshold).astype(np.int64)}
        for name, value in columns.items():
            parts.setdefault(name, []).append(value)
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    order = np.lexsort((joined["session"], joined["patient"], joined["fold"]))
    return {name: column[order] for name, column in joined.items()} | ({"steps": scale.steps} if scale else {})


def ranked(folder: Path, runs: Sequence[ControlRun]) -> Table:
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
    steps = {"steps": columns.pop("steps")} if "steps" in columns else {}
    sorted_columns = {name: column[order] for name, column in (columns | {"p": p}).items()}
    return _table(sorted_columns | {"fold": np.zeros(len(p), dtype=np.int64)} | steps)


def plain_row(control: str, name: str | None, table: Table, scores: Scores, repetitions: int = 1, **more: Any) -> Row:
    """A row with counts and estimates."""
    return Row(
        control,
        name,
        scans=len(table.y),
        patients=table.patients.size,
        positives=int(table.y.sum()) if isinstance(table, Predictions) else None,
        repetitions=repetitions,
        estimates=scores,
        **more,
    )


def judged(row: Row, tables: Mapping[str, Sequence[Table]], image: Scores | None = None, target: Target = Target()) -> Row:
    """A row with its verdict.

    Args:
        row: The row.
        tables: What is judged and what it is compared with -> predictions, one table for each repetition.
        image: Scores of the image that it is compared with.
        target: What is told; a row of another target, as of sex, is judged by that one's classes.
    """
    assert row.estimates is not None
    metric = METRIC if METRIC in row.estimates else metric_of(target)
    gain = row.difference[metric] if row.difference else None
    silent = " and ".join(name for name, repeats in tables.items() if is_silent(repeats, METRIC))
    few = any(map(is_small, tables.values()))
    scores = [row.estimates[metric], image[metric] if image else None]
    own, other = scores if metric == METRIC else map(on_scale, scores)
    assert own is not None
    said = verdict(row.control, own, other, gain, silent, few)
    said = said if metric == METRIC else reworded(said, target)
    return replace(row, flag=said.flag, verdict=said.text)


def compared_row(
    control: str, name: str | None, table: Table, image: Table, weights: WeightArray, target: Target = Target()
) -> Row:
    """A control beside the image it is compared with, on the same draws of patients."""
    row = plain_row(
        control,
        name,
        table,
        measured(table, weights),
        difference_of=f"image minus {TITLES[control]}",
        difference=differences(image, table, weights),
    )
    tables = {ALONE.get(control, TITLES[control]): [table], "the image": [image]}
    return judged(row, tables, measured(image, weights), target)


def permuted_row(name: str, tables: Sequence[Table], draws: int, rng: np.random.Generator, target: Target = Target()) -> Row:
    """The mean over permutations; each permutation has labels and draws of its own."""
    drawn = [values_of(table, draw_patient_weights(table, draws, rng)) for table in tables]
    main = metric_of(target)
    means = {
        metric: (mean_or_none([draw[metric][0] for draw in drawn]), np.mean([draw[metric][1] for draw in drawn], axis=0))
        for metric in drawn[0]
    }
    scores = estimated(tables[0], means)
    each = [draw[main][0] for draw in drawn]
    row = plain_row("permuted", name, tables[0], scores, len(tables), details={f"{main}_of_each": each})
    return judged(row, {"a repetition": tables}, target=target)


def leaky_row(name: str, leaky: Table, honest: Table, weights: WeightArray, repeated: int, target: Target = Target()) -> Row:
    """The leaky split beside the honest one, both as ranks within folds."""
    row = plain_row(
        "leaky",
        name,
        leaky,
        _of_ranks(measured(leaky, weights)),
        difference_of="leaky minus honest split",
        difference=_of_ranks(differences(leaky, honest, weights)),
        details={"repeated_patients": repeated, "honest": _plain(_of_ranks(measured(honest, weights)))},
    )
    return judged(row, {"the leaky split": [leaky], "the honest split": [honest]}, target=target)


def _of_ranks(scores: Scores) -> Scores:
    """Scores that ranks in the place of predictions have too: not the errors of a predicted number."""
    kept = [metric for metric in scores if metric in (*METRICS, SECONDARY) or metric.startswith("auc_")]
    return {metric: scores[metric] for metric in kept}


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
