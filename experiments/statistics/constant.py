"""Inputs of which nothing can be said: one probability, or one decision, for the scans of a fold; or too few patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.statistics.predictions import FloatArray, IntArray, PatientTable, Predictions

SAME = 1e-6
"""Probabilities that differ by less are one, numbers by less of their range: that comes from the order of additions."""
LEAST_PATIENTS = 5
"""Patients of each class that a verdict, and a bootstrap interval, needs: of four, one decides a quarter of a rate."""
VARIED = 0.5
"""Share of the scans that must lie in folds that tell their scans apart, before anything is said of an input."""


def constant_folds(pred: PatientTable, metric: str = "auc") -> list[int]:
    """Folds of two or more scans that all got one probability, or one decision where the metric rests on these."""
    return [fold for fold, values in _by_fold(pred, metric) if values.size > 1 and np.ptp(values) < SAME * pred.unit]


def is_silent(tables: PatientTable | Sequence[PatientTable], metric: str) -> bool:
    """Whether in any table most folds tell no scans apart, by decisions or, for AUC and Brier score, by probabilities.

    Such a score is mostly a known number, 0.5, whatever the images hold. It can be neither equal to another nor at chance.
    """
    return any(
        sum(values.size for _, values in _by_fold(table, metric) if np.ptp(values) >= SAME * table.unit) < VARIED * table.y.size
        for table in ([tables] if isinstance(tables, PatientTable) else tables)
    )


def has_few_patients(tables: Predictions | Sequence[Predictions]) -> bool:
    """Whether a class has fewer than ``LEAST_PATIENTS`` patients; all tables list the same scans."""
    pred = tables if isinstance(tables, Predictions) else tables[0]
    return min(np.unique(pred.patient_index[pred.y == label]).size for label in (0, 1)) < LEAST_PATIENTS


def _by_fold(pred: PatientTable, metric: str) -> list[tuple[int, FloatArray | IntArray]]:
    column = pred.decision if isinstance(pred, Predictions) and metric not in ("auc", "brier") else pred.p
    return [(int(fold), column[pred.fold == fold]) for fold in np.unique(pred.fold)]
