"""Do networks look at a region more than networks without anything to find do, and do they agree on it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from experiments.statistics.chance import OVERLAP
from experiments.statistics.predictions import FloatArray, IntArray

LEVEL = 0.95
LEAST_NETWORKS = 5
"""Networks with permuted labels that a band needs."""


@dataclass(frozen=True)
class Band:
    """Where the mean over folds of a further set of networks would lie.

    Attributes:
        mean: Mean of the networks.
        low: Lower end of the two-sided prediction interval.
        high: Upper end.
        p: One-sided p of a value at least as high; None where the band is not known.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None


def band(networks: Sequence[float] | FloatArray, value: float, folds: int = 1, level: float = LEVEL) -> Band:
    """The prediction interval for the mean over folds of further networks, and how far beyond it a value lies.

    mean +/- t(n - 1) * SD * sqrt(c / folds + 1 / n). Of networks that were trained on overlapping parts of the same patients
    and labels the variance of the mean is c / folds of that of one, c = 2 (`experiments.statistics.chance.OVERLAP`), and never
    more than that of one.

    Args:
        networks: (n,) values of networks with labels of their own, roughly normal; densities enter as logarithms.
        value: What is compared with them, a mean over folds. Several seeds of a fold count as one network: labels and patients
            are the same.
        folds: Number of folds; 1 for one further network.
        level: Level of the interval.

    References:
        Hahn, Factors for calculating two-sided prediction intervals for samples from a normal distribution, J Am Stat Assoc
        1969;64:878-888 (of one further value, or of the mean of several).
        Nadeau and Bengio, Inference for the generalization error, Mach Learn 2003;52:239-281 (overlapping training parts).
    """
    values = np.asarray(networks, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size < LEAST_NETWORKS or not np.isfinite(value) or np.ptp(values) == 0:
        return Band(float(values.mean()) if values.size else float("nan"), None, None, None)
    share = min(1.0, OVERLAP**2 / folds)
    mean, error = float(values.mean()), float(values.std(ddof=1) * np.sqrt(share + 1 / values.size))
    reach = float(student.ppf((1 + level) / 2, values.size - 1)) * error
    return Band(mean, mean - reach, mean + reach, float(student.sf((value - mean) / error, values.size - 1)))


def rank_correlations(rows: FloatArray) -> FloatArray:
    """Spearman's correlation of every two rows (networks, values): (networks, networks) float64, NaN for a constant row.

    References:
        Spearman, The proof and measurement of association between two things, Am J Psychol 1904;15:72-101.
    """
    ranks = np.stack([rankdata(row) for row in rows]).astype(np.float64)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((ranks**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(ranks @ ranks.T / np.outer(length, length), dtype=np.float64)


def agreements(rows: FloatArray, group: Sequence[int]) -> FloatArray:
    """For each network (networks,) its mean rank correlation with those of other groups; NaN where there is none.

    With a group for each network their mean r is Kendall's coefficient of concordance W in another form: of m networks,
    r = (m W - 1) / (m - 1).

    Args:
        rows: (networks, values).
        group: The fold of each network; two of one fold are looked at with the same scans.

    References:
        Kendall and Babington Smith, The problem of m rankings, Ann Math Stat 1939;10:275-287.
    """
    others = np.not_equal.outer(np.asarray(group), np.asarray(group))
    total = np.where(others, rank_correlations(rows), 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / others.sum(axis=1), dtype=np.float64)


def weighted_mean(values: FloatArray, patient_index: IntArray, weights: FloatArray) -> FloatArray:
    """Mean of scans' values under draws of patients: (n,), (n,) and (draws, patients) -> (draws,); NaN values are left out."""
    known = np.isfinite(values)
    patients = weights.shape[1]
    total = np.bincount(patient_index[known], weights=values[known], minlength=patients)
    scans = np.bincount(patient_index[known], minlength=patients)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ total) / (weights @ scans), dtype=np.float64)


def separation(change: FloatArray, y: IntArray, patient_index: IntArray, weights: FloatArray) -> FloatArray:
    """Mean of the positive scans minus that of the negative ones, under draws of patients: (draws,).

    Of the change of log odds when a region is taken away: by how much the classes come nearer to each other.
    """
    parts = [weighted_mean(change[y == label], patient_index[y == label], weights) for label in (0, 1)]
    return np.asarray(parts[1] - parts[0], dtype=np.float64)
