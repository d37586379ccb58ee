"""Do networks look at a region more than networks without anything to find do, and do they agree on it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from experiments.statistics.predictions import FloatArray

LEVEL = 0.95
LEAST_NETWORKS = 5
"""Networks with permuted labels that a band needs."""


@dataclass(frozen=True)
class Band:
    """Where one more network of a kind would lie.

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


def band(networks: Sequence[float] | FloatArray, value: float, level: float = LEVEL) -> Band:
    """The prediction interval for one more network, and how far beyond it a value lies.

    mean +/- t(n - 1) * SD * sqrt(1 + 1/n). The value may itself be the mean of networks that were trained on overlapping parts
    of the same patients: what they find by accident they find together, so their mean is judged as if it were one network.

    Args:
        networks: (n,) values of independent networks, roughly normal; densities enter as logarithms.
        value: What is compared with them.
        level: Level of the interval.

    References:
        Hahn, Factors for calculating two-sided prediction intervals for samples from a normal distribution, J Am Stat Assoc
        1969;64:878-888.
    """
    values = np.asarray(networks, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size < LEAST_NETWORKS or not np.isfinite(value) or np.ptp(values) == 0:
        return Band(float(values.mean()) if values.size else float("nan"), None, None, None)
    mean, error = float(values.mean()), float(values.std(ddof=1) * np.sqrt(1 + 1 / values.size))
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


def agreements(rows: FloatArray) -> FloatArray:
    """For each network (networks,) its mean rank correlation with all others; NaN for a single one.

    Their mean r is Kendall's coefficient of concordance W in another form: r = (m W - 1) / (m - 1) of m networks.

    References:
        Kendall and Babington Smith, The problem of m rankings, Ann Math Stat 1939;10:275-287.
    """
    if len(rows) < 2:
        return np.full(len(rows), np.nan)
    correlations = rank_correlations(rows)
    np.fill_diagonal(correlations, 0)
    return np.asarray(correlations.sum(axis=1) / (len(rows) - 1), dtype=np.float64)


def weighted_mean(values: FloatArray, patient_index: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of scans' values under draws of patients: (n,), (n,) and (draws, patients) -> (draws,); NaN values are left out."""
    known = np.isfinite(values)
    patients = weights.shape[1]
    total = np.bincount(patient_index[known], weights=values[known], minlength=patients)
    scans = np.bincount(patient_index[known], minlength=patients)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ total) / (weights @ scans), dtype=np.float64)
