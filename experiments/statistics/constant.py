"""Inputs that say nothing: one probability, or one decision, for all scans of a fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.statistics.predictions import FloatArray, IntArray, Predictions

SAME = 1e-6
"""Probabilities that differ by less are one: such differences come from the order of additions."""


def constant_folds(pred: Predictions) -> list[int]:
    """Folds of two or more scans that all got one probability."""
    return [fold for fold, values in _by_fold(pred, pred.p) if values.size > 1 and np.ptp(values) < SAME]


def is_silent(tables: Predictions | Sequence[Predictions], metric: str) -> bool:
    """Whether in any table no fold tells its scans apart, by decisions or, for the AUC, by probabilities.

    Such a score is a known number, 0.5, whatever the images hold. It can be neither equal to another nor at chance.
    """
    return any(
        all(np.ptp(values) < SAME for _, values in _by_fold(table, table.p if metric == "auc" else table.decision))
        for table in ([tables] if isinstance(tables, Predictions) else tables)
    )


def _by_fold(pred: Predictions, column: FloatArray | IntArray) -> list[tuple[int, FloatArray | IntArray]]:
    return [(int(fold), column[pred.fold == fold]) for fold in np.unique(pred.fold)]
