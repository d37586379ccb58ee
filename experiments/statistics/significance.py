"""Intervals for one input by the patient-cluster bootstrap, and the names that a results table needs.

Estimand: the performance of this training procedure on a new patient of this population. The patient is the unit: all
scans of a patient are drawn together. The bootstrap holds the trained models fixed, so it does not contain the
variation from training again; `experiments.statistics.seeds` reports that beside it.

The same weight matrix must be used for every input of a study: then the draws are paired, and
`experiments.statistics.paired` subtracts them draw by draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics.concordance import concordance
from experiments.statistics.predictions import FloatArray, IntArray, Predictions, PredictionsError, check_same_scans
from experiments.statistics.resampling import WeightArray, draw_patient_weights
from experiments.statistics.scores import (
    METRICS,
    Counts,
    FoldSummary,
    balanced_accuracy,
    counts,
    fold_stratified_auc,
    fold_summary,
    mean_or_none,
    point_values,
    pooled_auc,
    sensitivity,
    specificity,
)

__all__ = [
    "METRICS",
    "Counts",
    "Estimate",
    "FoldSummary",
    "Predictions",
    "PredictionsError",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_values",
    "check_same_scans",
    "counts",
    "draw_patient_weights",
    "fold_stratified_auc",
    "fold_summary",
    "mean_interval",
    "mean_values",
    "percentile_interval",
    "point_values",
    "pooled_auc",
    "runs",
    "sensitivity",
    "specificity",
    "summarise",
]

Runs = Predictions | Sequence[Predictions]
Values = Mapping[str, tuple[float | None, FloatArray]]
CHUNK = 1000
"""Draws handled at once; 1000 draws x 400 patients are 3 MB of float64."""
MAX_UNDEFINED = 0.05
"""An interval is not reported when a larger share of the draws is undefined."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and its spread over folds where that makes sense.

    Attributes:
        value: Point estimate, or None when undefined.
        low: Lower end of the interval, or None.
        high: Upper end of the interval, or None.
        fold_mean: Mean over folds, or None.
        fold_sd: Standard deviation over folds (ddof 1), or None.
        folds: Number of folds where the metric is defined.
    """

    value: float | None
    low: float | None
    high: float | None
    fold_mean: float | None = None
    fold_sd: float | None = None
    folds: int = 0


def bootstrap_values(pred: Predictions, weights: WeightArray) -> dict[str, FloatArray]:
    """Recompute every metric of `METRICS` under each row of weights.

    Args:
        pred: Predictions of one input.
        weights: (draws, patients) from `draw_patient_weights`.

    Returns:
        Metric -> (draws,) float64; NaN where a draw leaves the metric undefined.

    Raises:
        ValueError: If the weights do not have one column per patient.
    """
    if weights.ndim != 2 or weights.shape[1] != pred.patients.size:
        raise ValueError(f"weights have shape {weights.shape}, expected (draws, {pred.patients.size} patients)")
    hit = pred.y == pred.decision
    cells = [pred.per_patient(part) for part in (hit * pred.y, pred.y, hit * (1 - pred.y), 1 - pred.y)]
    table = np.stack(cells, axis=1)
    blocks = [concordance(pred, fold) for fold in np.unique(pred.fold)]
    out = {metric: np.full(weights.shape[0], np.nan) for metric in METRICS}
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, weights.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            chunk = weights[rows].astype(np.float64)
            sums = chunk @ table
            out["sensitivity"][rows] = sums[:, 0] / sums[:, 1]
            out["specificity"][rows] = sums[:, 2] / sums[:, 3]
            out["auc"][rows] = _weighted_auc(chunk, blocks)
    out["balanced_accuracy"] = (out["sensitivity"] + out["specificity"]) / 2
    return out


def _weighted_auc(chunk: FloatArray, blocks: list[tuple[IntArray, FloatArray, FloatArray]]) -> FloatArray:
    wins, pairs = np.zeros(chunk.shape[0]), np.zeros(chunk.shape[0])
    for members, win, pair in blocks:
        part = chunk[:, members]
        wins += np.einsum("ij,ij->i", part @ win, part)
        pairs += np.einsum("ij,ij->i", part @ pair, part)
    return np.asarray(wins / pairs, dtype=np.float64)


def percentile_interval(values: FloatArray, level: float = 0.95) -> tuple[float | None, float | None]:
    """Percentile interval of bootstrap values; (None, None) when more than 5 % of the draws are undefined."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, for example 0.95")
    defined = values[~np.isnan(values)]
    if defined.size < (1 - MAX_UNDEFINED) * values.size:
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def runs(pred: Runs) -> list[Predictions]:
    """One table or one for each seed, as a list; all must list the same scans.

    Raises:
        PredictionsError: If there is none, or the tables differ in their scans.
    """
    tables = [pred] if isinstance(pred, Predictions) else list(pred)
    if not tables:
        raise PredictionsError("no predictions given; at least one seed is needed")
    check_same_scans({f"seed table {number}": table for number, table in enumerate(tables)})
    return tables


def mean_values(pred: Runs, weights: WeightArray) -> Values:
    """Metric -> pooled value and (draws,) bootstrap values, each averaged over seeds; None if undefined in one."""
    tables = runs(pred)
    points = [point_values(table) for table in tables]
    draws = [bootstrap_values(table, weights) for table in tables]
    return {m: (mean_or_none([point[m] for point in points]), np.mean([draw[m] for draw in draws], axis=0)) for m in METRICS}


def bootstrap_interval(pred: Runs, weights: WeightArray, level: float = 0.95) -> dict[str, Estimate]:
    """Pooled value and percentile interval of every metric of `METRICS`, the mean over seeds when several are given."""
    return {metric: _estimate(*pair, level) for metric, pair in mean_values(pred, weights).items()}


def _estimate(value: float | None, draws: FloatArray, level: float) -> Estimate:
    low, high = (None, None) if value is None else percentile_interval(draws, level)
    return Estimate(value, low, high)


def summarise(pred: Runs, weights: WeightArray, level: float = 0.95) -> dict[str, Estimate]:
    """Everything a results table says about one input: pooled value, interval, and mean and SD over folds.

    Args:
        pred: Predictions of one input, or one table for each seed: then every value is averaged over seeds first, and
            the interval is that of the average. It is not the performance of an ensemble.
        weights: (draws, patients) from `draw_patient_weights`, the same for all inputs.
        level: Level of the interval.
    """
    folds = fold_summary(*runs(pred))
    return {
        metric: Estimate(found.value, found.low, found.high, folds[metric].mean, folds[metric].sd, folds[metric].folds)
        for metric, found in bootstrap_interval(pred, weights, level).items()
    }


def mean_interval(pred: Predictions, values: FloatArray, weights: WeightArray, level: float = 0.95) -> Estimate:
    """Mean of a (n,) quantity over scans, such as the Brier loss, with its patient-cluster interval."""
    table = np.stack([pred.per_patient(values), pred.per_patient(np.ones(values.size))], axis=1)
    total = weights.astype(np.float64) @ table
    return _estimate(float(np.mean(values)), total[:, 0] / total[:, 1], level)
