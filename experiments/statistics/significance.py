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
from typing import Any

import numpy as np

from experiments.statistics.concordance import ordered_pairs, weighted_auc
from experiments.statistics.constant import SAME, is_silent
from experiments.statistics.degenerate import repaired
from experiments.statistics.predictions import FloatArray, Predictions, PredictionsError, check_same_scans
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
    "INTERVAL",
    "METRICS",
    "Counts",
    "Estimate",
    "FoldSummary",
    "Predictions",
    "PredictionsError",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_tables",
    "bootstrap_values",
    "check_same_scans",
    "counts",
    "draw_patient_weights",
    "family_values",
    "fold_stratified_auc",
    "fold_summary",
    "interval_text",
    "mean_interval",
    "mean_values",
    "p_text",
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
INTERVAL = (
    "95 % patient-cluster bootstrap, percentile; Wilson's (rates) or Newcombe's (AUC) where patients of a fold hardly differ"
)
"""What the intervals of all tables are, see `experiments.statistics.degenerate`."""
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


def interval_text(estimate: Estimate | Mapping[str, Any] | None, sign: str = "", digits: int = 2) -> str:
    """An estimate as ``value [low, high]``; without an interval ``value [not estimable]``."""
    value, low, high = (
        (estimate.value, estimate.low, estimate.high)
        if isinstance(estimate, Estimate)
        else ((estimate or {}).get(name) for name in ("value", "low", "high"))
    )
    if value is None:
        return "undefined"
    ends = "not estimable" if low is None or high is None else f"{low:{sign}.{digits}f}, {high:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} [{ends}]"


def p_text(p: float | None) -> str:
    """A p value with three digits, never 0."""
    return "undefined" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    return bootstrap_tables([pred], weights)[0]


def bootstrap_tables(tables: Sequence[Predictions], weights: WeightArray) -> list[dict[str, FloatArray]]:
    """`bootstrap_values` of several inputs or seeds on the same scans; the draws are gone through once for all.

    Raises:
        PredictionsError: If the tables do not list the same scans.
        ValueError: If the weights do not have one column per patient.
    """
    check_same_scans({f"table {number}": table for number, table in enumerate(tables)})
    first = tables[0]
    if weights.ndim != 2 or weights.shape[1] != first.patients.size:
        raise ValueError(f"weights have shape {weights.shape}, expected (draws, {first.patients.size} patients)")
    cells = [first.per_patient(first.y), first.per_patient(1 - first.y)]
    for table in tables:
        hit = table.y == table.decision
        cells += [table.per_patient(hit * table.y), table.per_patient(hit * (1 - table.y))]
    per_patient = np.stack(cells, axis=1)
    blocks = [ordered_pairs(tables, int(fold)) for fold in np.unique(first.fold)]
    rates, areas = np.empty((2 * len(tables), weights.shape[0])), np.empty((len(tables), weights.shape[0]))
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, weights.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            chunk = np.asarray(weights[rows], dtype=np.float64)
            sums = (chunk @ per_patient).T
            rates[:, rows] = sums[2:] / np.tile(sums[:2], (len(tables), 1))
            areas[:, rows] = weighted_auc(chunk, blocks, len(tables))
    return [_by_metric(rates[2 * index], rates[2 * index + 1], areas[index]) for index in range(len(tables))]


def _by_metric(sens: FloatArray, spec: FloatArray, auc: FloatArray) -> dict[str, FloatArray]:
    return {"balanced_accuracy": (sens + spec) / 2, "sensitivity": sens, "specificity": spec, "auc": auc}


def percentile_interval(values: FloatArray, level: float = 0.95, same: float = SAME) -> tuple[float | None, float | None]:
    """Percentile interval of bootstrap values; draws that differ by less than `same` are equal.

    Returns:
        (None, None), shown as not estimable, without draws, when more than 5 % of them are undefined, or when all are equal.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, for example 0.95")
    defined = values[~np.isnan(values)]
    if not values.size or defined.size < (1 - MAX_UNDEFINED) * values.size or np.ptp(defined) < same:
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def runs(pred: Runs) -> list[Predictions]:
    """One table or one for each seed, as a list; all must list the same scans.

    Raises:
        PredictionsError: If it is empty, or the tables differ in their scans.
    """
    tables = [pred] if isinstance(pred, Predictions) else list(pred)
    if not tables:
        raise PredictionsError("no predictions given; at least one seed is needed")
    check_same_scans({f"seed table {number}": table for number, table in enumerate(tables)})
    return tables


def mean_values(pred: Runs, weights: WeightArray) -> Values:
    """Metric -> pooled value and (draws,) values, each averaged over seeds; None if undefined in one."""
    return family_values({"": pred}, weights)[""]


def family_values(inputs: Mapping[str, Runs], weights: WeightArray) -> dict[str, Values]:
    """`mean_values` of every input; the draws are gone through once for all.

    Draws that say nothing are replaced first, see `experiments.statistics.degenerate`.

    Raises:
        PredictionsError: If the inputs do not list the same scans.
    """
    tables = {name: runs(pred) for name, pred in inputs.items()}
    drawn = iter(bootstrap_tables([table for seed_tables in tables.values() for table in seed_tables], weights))
    out: dict[str, Values] = {}
    for number, (name, seed_tables) in enumerate(tables.items()):
        points = [point_values(table) for table in seed_tables]
        draws = [repaired(table, point, next(drawn), weights, number) for table, point in zip(seed_tables, points, strict=True)]
        out[name] = {
            metric: (mean_or_none([point[metric] for point in points]), np.mean([draw[metric] for draw in draws], axis=0))
            for metric in METRICS
        }
    return out


def bootstrap_interval(
    pred: Runs, weights: WeightArray, level: float = 0.95, values: Values | None = None
) -> dict[str, Estimate]:
    """Pooled value and percentile interval of every metric of `METRICS`, the mean over seeds when several are given.

    Args:
        pred: Predictions of one input, or one table for each seed.
        weights: (draws, patients) from `draw_patient_weights`.
        level: Level of the interval.
        values: `mean_values` of these if already computed.
    """
    pairs = mean_values(pred, weights) if values is None else values
    return {metric: _estimate(*pair, level) for metric, pair in pairs.items()}


def _estimate(value: float | None, draws: FloatArray, level: float) -> Estimate:
    low, high = (None, None) if value is None else percentile_interval(draws, level)
    return Estimate(value, low, high)


def summarise(pred: Runs, weights: WeightArray, level: float = 0.95, values: Values | None = None) -> dict[str, Estimate]:
    """Everything a results table says about one input: pooled value, interval, and mean and SD over folds.

    Args:
        pred: Predictions of one input, or one table for each seed: then every value is averaged over seeds first, and
            the interval is that of the average. It is not the performance of an ensemble.
        weights: (draws, patients) from `draw_patient_weights`, the same for all inputs.
        level: Level of the interval.
        values: `mean_values` of these if already computed.
    """
    folds = fold_summary(*runs(pred))
    return {
        metric: Estimate(estimate.value, estimate.low, estimate.high, folds[metric].mean, folds[metric].sd, folds[metric].folds)
        for metric, estimate in bootstrap_interval(pred, weights, level, values).items()
    }


def mean_interval(pred: Predictions, values: FloatArray, weights: WeightArray, level: float = 0.95) -> Estimate:
    """Mean of a (n,) quantity over scans, such as the Brier loss, with its patient-cluster interval.

    Where the probabilities hardly vary within folds there is no interval, as there is none of the AUC.
    """
    if is_silent(pred, "auc"):
        return Estimate(float(np.mean(values)), None, None)
    return _estimate(float(np.mean(values)), mean_draws(pred, values, weights), level)


def mean_draws(pred: Predictions, values: FloatArray, weights: WeightArray) -> FloatArray:
    """(draws,) mean of a (n,) quantity over scans under each draw of patients."""
    table = np.stack([pred.per_patient(values), pred.per_patient(np.ones(values.size))], axis=1)
    total = np.asarray(weights, dtype=np.float64) @ table
    return np.asarray(total[:, 0] / total[:, 1])
