"""Rows of complete runs, pooled over folds: what every comparison starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from experiments.statistics.numeric import Numbers
from experiments.statistics.predictions import FloatArray, IntArray, Predictions
from experiments.study.parts import Parts, read_parts
from experiments.study.run_folder import ResultsError, Rows, RunFolder, Scale
from experiments.study.runs import PlanError, Run

HALF = 0.5
Table = TypeVar("Table")


@dataclass(frozen=True)
class Pooled:
    """One input and one seed, all folds.

    Attributes:
        test: Internal test rows, decided at each fold's own threshold.
        tuning: Fold -> labels and probabilities of its tuning rows.
        thresholds: Fold -> its threshold.
        tuning_scans: Fold -> patient and session of its tuning rows.
    """

    test: Predictions
    tuning: Mapping[int, tuple[IntArray, FloatArray]]
    thresholds: Mapping[int, float]
    tuning_scans: Mapping[int, Sequence[tuple[str, str]]] = field(default_factory=dict)

    def at_half(self) -> Predictions:
        """The same test rows decided at 0.5."""
        return replace(self.test, decision=(self.test.p >= HALF).astype(np.int64))


Tables = Mapping[str, Sequence[Pooled]]
"""Input or baseline -> its pooled predictions, one for each seed."""


def pool(folders: Mapping[int, Path], parts: Parts) -> Pooled:
    """Read the tuning and internal test rows of one run folder for each fold.

    Args:
        folders: Fold -> folder with predictions.tsv and run.json.
        parts: The scans of each fold and their labels.

    Raises:
        ResultsError: if a file is missing, was changed, or holds other scans or labels than the study's.
    """
    tuning: dict[int, tuple[IntArray, FloatArray]] = {}
    thresholds: dict[int, float] = {}
    scans: dict[int, list[tuple[str, str]]] = {}
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    for fold, path in folders.items():
        rows, thresholds[fold] = RunFolder(path).result()
        parts.check(path / "predictions.tsv", rows, fold)
        tuned = rows.of("tuning")
        tuning[fold] = (tuned.y, tuned.p)
        scans[fold] = list(zip(tuned.patient.tolist(), tuned.session.tolist(), strict=True))
        for name, values in _test_columns(rows, fold, thresholds[fold]).items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(of_folds) for name, of_folds in columns.items()}
    order = np.lexsort((joined["session"], joined["patient"], joined["fold"]))
    return Pooled(Predictions(**{name: column[order] for name, column in joined.items()}), tuning, thresholds, scans)


def pool_numbers(folders: Mapping[int, Path], parts: Parts) -> Numbers:
    """As ``pool``, where a number is predicted: the internal test rows of all folds.

    Raises:
        ResultsError: as ``pool``, or if a run has no scale.
    """
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    for fold, path in folders.items():
        folder = RunFolder(path)
        rows, scale = folder.result()[0], Scale.of(folder.facts())
        if scale is None or scale.steps != parts.target.steps:
            raise ResultsError(f"{path} predicts no {parts.target.name}; train the run again with --restart")
        parts.check(path / "predictions.tsv", rows, fold)
        test = rows.of("internal_test")
        names = {"patient": test.patient, "session": test.session, "y": test.y, "p": test.p}
        filled = {"fold": np.full(len(test.y), fold), "mean": np.full(len(test.y), scale.mean)}
        for name, values in (names | filled).items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(of_folds) for name, of_folds in columns.items()}
    order = np.lexsort((joined["session"], joined["patient"], joined["fold"]))
    sorted_columns: dict[str, Any] = {name: column[order] for name, column in joined.items()}
    return Numbers(**sorted_columns, steps=parts.target.steps)


def _test_columns(rows: Rows, fold: int, threshold: float) -> dict[str, np.ndarray[Any, Any]]:
    test = rows.of("internal_test")
    decision = (test.p >= threshold).astype(np.int64)
    marks = np.full(len(test.y), fold)
    return {"patient": test.patient, "session": test.session, "fold": marks, "y": test.y, "p": test.p, "decision": decision}


def pooled_predictions(folder: Path, runs: Sequence[Run]) -> Predictions:
    """Internal test rows of all folds of one input, decided at each fold's own threshold."""
    return pool({run.fold: run.folder(folder) for run in runs}, read_parts(folder)).test


def shared_folds(complete: Sequence[Run], folder: Path) -> dict[str, list[Run]]:
    """The complete runs of each input, cut to the folds that every input has in every seed.

    Raises:
        PlanError: if there is no such fold.
    """
    by_input: dict[str, dict[int, dict[int, Run]]] = {}
    for run in complete:
        by_input.setdefault(run.input, {}).setdefault(run.seed, {})[run.fold] = run
    seeds = set.union(*(set(runs) for runs in by_input.values()))
    shared = set.intersection(*(set(runs.get(seed, {})) for runs in by_input.values() for seed in seeds))
    if not shared:
        raise PlanError(
            f"no fold of {folder} is complete for every input that was begun; make sweep, or name inputs: --inputs global"
        )
    return {name: [runs[seed][fold] for seed in sorted(seeds) for fold in sorted(shared)] for name, runs in by_input.items()}


def pool_inputs(folder: Path, runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Pooled]]:
    """Input -> one table for each seed, in the order of the seeds."""
    return _by_seed(folder, runs, pool)


def number_inputs(folder: Path, runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Numbers]]:
    """Input -> one table for each seed, where a number is predicted."""
    return _by_seed(folder, runs, pool_numbers)


def _by_seed(
    folder: Path, runs: Mapping[str, Sequence[Run]], pool_folds: Callable[[Mapping[int, Path], Parts], Table]
) -> dict[str, list[Table]]:
    parts = read_parts(folder)
    return {
        name: [
            pool_folds({run.fold: run.folder(folder) for run in members if run.seed == seed}, parts)
            for seed in dict.fromkeys(run.seed for run in members)
        ]
        for name, members in runs.items()
    }
