"""Draws for scores that the bootstrap cannot vary: score intervals, written as distributions.

Patients are drawn within fold and label. Where a class is decided alike throughout, or alike within each fold, such draws
hardly differ, and their interval says that the score is known. Then they are replaced by the quantiles of a score interval, so
that every percentile interval, mean and difference made from them has its width:

- sensitivity and specificity: Wilson's interval (J Am Stat Assoc 1927;22:209-212), with the effective number of patients in
  place of the scans, as Dean and Pagano advise for clustered data (J Surv Stat Methodol 2015;3:484-503);
- an area of 0 or 1: Newcombe's method 5 (Stat Med 2006;25:559-573), which is Wilson's with the variance of Hanley and McNeil.
  An area from one probability for all scans of each fold is 0.5 whatever the images hold: it has no interval.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy.stats import norm

from experiments.statistics.constant import LEAST_PATIENTS, SAME, is_silent
from experiments.statistics.predictions import FloatArray, Predictions
from experiments.statistics.resampling import WeightArray

WITHIN = 0.5
"""Share of a score's variance over patients that must lie within folds; below it the draws are replaced.

Where folds do not differ it is 1 on average: of 2,000 simulated studies 1 had less with 42 patients in 7 folds, 16 with 26."""
RATES = {"sensitivity": 1, "specificity": 0}


def repaired(
    pred: Predictions,
    points: Mapping[str, float | None],
    drawn: Mapping[str, FloatArray],
    weights: WeightArray,
    number: int = 0,
) -> dict[str, FloatArray]:
    """The draws of every metric, those that say nothing replaced.

    Args:
        pred: Predictions of one input.
        points: Its `point_values`.
        drawn: Metric -> (draws,) bootstrap values.
        weights: What they were drawn with; replaced draws of other weights are independent.
        number: Position of the input among those compared: replaced draws of two inputs are independent, of two seeds alike.
    """
    out = dict(drawn)
    count = len(weights)
    rng = np.random.default_rng([zlib.crc32(weights[:100].tobytes()), number])
    levels = norm.ppf(np.clip(np.linspace(0, 1, count), 1e-9, 1 - 1e-9))
    normal = {name: rng.permutation(levels) for name in (*RATES, "auc")}
    for name, label in RATES.items():
        value = points[name]
        if value is not None and count and _says_nothing(pred, label, value, drawn[name]):
            size = effective_patients(pred, label)
            out[name] = score_draws(value, partial(_binomial, size), normal[name])
            out["balanced_accuracy"] = (out["sensitivity"] + out["specificity"]) / 2
    area = points["auc"]
    if area is not None and is_silent(pred, "auc"):
        out["auc"] = np.full(count, np.nan)
    elif area is not None and count and np.ptp(drawn["auc"]) < SAME:
        out["auc"] = score_draws(area, area_variance(pred), normal["auc"])
    return out


def _binomial(size: float, rate: FloatArray) -> FloatArray:
    return rate * (1 - rate) / size


def _says_nothing(pred: Predictions, label: int, value: float, drawn: FloatArray) -> bool:
    """Whether a class has too few patients, or its hits vary too little within folds."""
    size, hits = (pred.per_patient((pred.y == label) * part) for part in (1, pred.decision == pred.y))
    patients = np.count_nonzero(size)
    if patients < LEAST_PATIENTS:
        return True
    whole = np.sum((hits - value * size) ** 2) / size.sum() ** 2 * patients / (patients - 1)
    return bool(np.nanvar(drawn) <= WITHIN * whole)


def effective_patients(pred: Predictions, label: int, fold: int | None = None) -> float:
    """Patients with scans of a class, fewer where they have unlike numbers of scans (Kish): all scans of one count as one.

    Args:
        pred: Predictions of one input.
        label: The class.
        fold: Count in one fold only.
    """
    size = pred.per_patient((pred.y == label) & (True if fold is None else pred.fold == fold))
    return float(size.sum() ** 2 / np.sum(size**2)) if size.any() else 0.0


def area_variance(pred: Predictions) -> Callable[[FloatArray], FloatArray]:
    """Variance of the fold-stratified area as a function of the true one, by Hanley and McNeil in each fold."""
    sizes = [[effective_patients(pred, label, int(fold)) for label in (1, 0)] for fold in np.unique(pred.fold)]
    pairs = np.array([size for size in sizes if min(size) > 0])
    share = np.prod(pairs, axis=1) / np.prod(pairs, axis=1).sum()

    def variance(area: FloatArray) -> FloatArray:
        shape = (1 - area) / (2 - area) + area / (1 + area)
        parts = [w**2 * (1 + ((m + n) / 2 - 1) * shape) / (m * n) for w, (m, n) in zip(share, pairs, strict=True)]
        return np.asarray(area * (1 - area) * np.sum(parts, axis=0))

    return variance


def score_draws(value: float, variance: Callable[[FloatArray], FloatArray], normal: FloatArray) -> FloatArray:
    """Invert a score test: for each z the parameter that lies z of its own standard errors from the value.

    Args:
        value: The estimate, within 0 ... 1.
        variance: Variance of the estimate as a function of the parameter.
        normal: (draws,) z.
    """
    grid = np.sin(np.linspace(0, np.pi / 2, 20_001)[1:-1]) ** 2
    return np.interp(normal, (grid - value) / np.sqrt(variance(grid)), grid, left=0.0, right=1.0)
