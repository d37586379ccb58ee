"""Scores of one input from its internal test predictions: point values only.

Intervals are in `experiments.statistics.significance`, comparisons in `experiments.statistics.paired`. A score that is
undefined (no positive scan, no pair of classes) is None and never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from experiments.statistics.predictions import FloatArray, IntArray, Predictions

METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auc")


@dataclass(frozen=True)
class Counts:
    """Confusion counts, in scans."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


@dataclass(frozen=True)
class FoldSummary:
    """Values of one metric over the folds.

    Attributes:
        mean: Mean over the folds where the metric is defined, or None.
        sd: Standard deviation (ddof 1) over the same folds, or None with fewer than two. It describes the spread of
            folds. Divided by the root of their number it is not a standard error: the folds share training data.
        folds: Number of folds where the metric is defined.
        values: Fold number -> value or None.
    """

    mean: float | None
    sd: float | None
    folds: int
    values: Mapping[int, float | None]


def counts(pred: Predictions) -> Counts:
    """Confusion counts pooled over all folds, each scan decided by its own fold's model and threshold."""
    return _count(pred.y, pred.decision)


def _count(y: IntArray, decision: IntArray) -> Counts:
    hit = y == decision
    positive = y == 1
    cells = [int(np.sum(part)) for part in (hit & positive, ~hit & positive, hit & ~positive, ~hit & ~positive)]
    return Counts(*cells)


def sensitivity(pred: Predictions) -> float | None:
    """Share of positive scans that were decided positive, pooled over folds; None without a positive scan."""
    return _rates(counts(pred))["sensitivity"]


def specificity(pred: Predictions) -> float | None:
    """Share of negative scans that were decided negative, pooled over folds; None without a negative scan."""
    return _rates(counts(pred))["specificity"]


def balanced_accuracy(pred: Predictions) -> float | None:
    """Mean of pooled sensitivity and specificity; None when either is undefined."""
    return _rates(counts(pred))["balanced_accuracy"]


def _rates(cells: Counts) -> dict[str, float | None]:
    positives = cells.true_positive + cells.false_negative
    negatives = cells.true_negative + cells.false_positive
    sens = cells.true_positive / positives if positives else None
    spec = cells.true_negative / negatives if negatives else None
    both = None if sens is None or spec is None else (sens + spec) / 2
    return {"balanced_accuracy": both, "sensitivity": sens, "specificity": spec}


def _auc(y: IntArray, p: FloatArray) -> tuple[float | None, int]:
    """Area under the ROC curve by ranks (ties count 1/2), and the number of positive-negative pairs."""
    positives = int(np.sum(y))
    pairs = positives * (y.size - positives)
    if pairs == 0:
        return None, 0
    wins = float(np.sum(rankdata(p)[y == 1])) - positives * (positives + 1) / 2
    return wins / pairs, pairs


def pooled_auc(pred: Predictions) -> float | None:
    """Area under the ROC curve over all scans at once.

    Compares scores of different folds' models, whose scales differ; `fold_stratified_auc` is the primary value.
    """
    return _auc(pred.y, pred.p)[0]


def fold_stratified_auc(pred: Predictions) -> float | None:
    """Share of positive-negative pairs within a fold where the positive scan scores higher; ties count 1/2.

    Each fold's area is weighted by its number of pairs, so every pair counts once. A fold with one class has no pair
    and no weight. Two scans of one patient with different labels are a pair as well.

    Returns:
        The weighted mean, or None when no fold holds both classes.

    References:
        Forman and Scholz, Apples-to-apples in cross-validation studies, SIGKDD Explorations 2010;12(1):49-57.
    """
    areas = [_auc(pred.y[pred.fold == fold], pred.p[pred.fold == fold]) for fold in np.unique(pred.fold)]
    total = sum(pairs for _, pairs in areas)
    return sum(area * pairs for area, pairs in areas if area is not None) / total if total else None


def point_values(pred: Predictions) -> dict[str, float | None]:
    """All of `METRICS`, pooled over folds; `auc` is the fold-stratified one."""
    return {**_rates(counts(pred)), "auc": fold_stratified_auc(pred)}


def fold_summary(*seeds: Predictions) -> dict[str, FoldSummary]:
    """Mean and spread of each metric over the folds, for comparison with studies that report mean +/- SD.

    Args:
        *seeds: Predictions of one input, one table for each seed. With several, each fold's value is the mean over
            seeds, and undefined if it is undefined in one of them.
    """
    tables = [_fold_values(pred) for pred in seeds]
    return {
        metric: _summary({fold: mean_or_none([table[fold][metric] for table in tables]) for fold in tables[0]})
        for metric in METRICS
    }


def _fold_values(pred: Predictions) -> dict[int, dict[str, float | None]]:
    out: dict[int, dict[str, float | None]] = {}
    for fold in np.unique(pred.fold):
        rows = pred.fold == fold
        y, p, decision = pred.y[rows], pred.p[rows], pred.decision[rows]
        out[int(fold)] = {**_rates(_count(y, decision)), "auc": _auc(y, p)[0]}
    return out


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Mean of the values, or None when one of them is undefined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def _summary(values: dict[int, float | None]) -> FoldSummary:
    defined = [value for value in values.values() if value is not None]
    mean = float(np.mean(defined)) if defined else None
    sd = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return FoldSummary(mean, sd, len(defined), values)
