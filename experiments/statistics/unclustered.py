"""DeLong's test and exact McNemar tests: for an external cohort with one scan for each patient.

Both assume independent rows. They refuse tables with repeated scans, for which their error rate is too high, and
tables of several models, because scores of different folds have no common scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from experiments.statistics.concordance import cross_wins
from experiments.statistics.predictions import FloatArray, Predictions, PredictionsError, check_same_scans


@dataclass(frozen=True)
class DeLong:
    """Areas of both inputs, difference first minus second with standard error and interval, z and two-sided p."""

    first: float
    second: float
    difference: float
    error: float
    low: float
    high: float
    z: float
    p: float


@dataclass(frozen=True)
class McNemar:
    """Scans that only the first or only the second input decided rightly, and the exact two-sided p."""

    only_first: int
    only_second: int
    p: float


def delong(first: Predictions, second: Predictions, level: float = 0.95) -> DeLong:
    """Compare two correlated areas under the ROC curve of frozen scores.

    Raises:
        PredictionsError: If a patient has more than one scan, if the rows hold several folds, if the tables differ, if
            a class has fewer than two scans, or if the scores rank the scans identically.

    References:
        DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver operating
        characteristic curves, Biometrics 1988;44:837-845.
    """
    _check_independent(first, second)
    if np.unique(first.fold).size > 1:
        folds = np.unique(first.fold).tolist()
        raise PredictionsError(f"scores of folds {folds} have no common scale; compare inputs with compare_family")
    if min(np.sum(first.y), np.sum(1 - first.y)) < 2:
        raise PredictionsError("DeLong's test needs two scans of each class")
    (area_a, pos_a, neg_a), (area_b, pos_b, neg_b) = _placements(first), _placements(second)
    variance = float(np.var(pos_a - pos_b, ddof=1)) / pos_a.size + float(np.var(neg_a - neg_b, ddof=1)) / neg_a.size
    if variance <= 0:
        raise PredictionsError("both inputs order the scans identically; there is no difference to test")
    gap, error = area_a - area_b, float(np.sqrt(variance))
    reach = float(norm.ppf((1 + level) / 2)) * error
    p = float(2 * norm.sf(abs(gap / error)))
    return DeLong(area_a, area_b, gap, error, gap - reach, gap + reach, gap / error, p)


def _placements(pred: Predictions) -> tuple[float, FloatArray, FloatArray]:
    """Area, and for each positive and each negative scan the share of the other class ordered rightly against it."""
    wins = cross_wins(pred.y, pred.p, pred.p, np.arange(pred.y.size))[np.ix_(pred.y == 1, pred.y == 0)]
    return float(wins.mean()), wins.mean(axis=1), wins.mean(axis=0)


def mcnemar(first: Predictions, second: Predictions) -> dict[str, McNemar]:
    """Exact McNemar test of the decisions, apart for positive and for negative scans.

    Returns:
        "sensitivity" and "specificity", each with the discordant counts. A test over all scans at once would weigh the
        classes by their frequency and say nothing about balanced accuracy.

    Raises:
        PredictionsError: If a patient has more than one scan or the tables differ.

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 1947;12:153.
    """
    _check_independent(first, second)
    out = {}
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        rows = first.y == label
        a, b = first.decision[rows] == label, second.decision[rows] == label
        only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
        p = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
        out[name] = McNemar(only_a, only_b, p)
    return out


def _check_independent(first: Predictions, second: Predictions) -> None:
    check_same_scans({"first": first, "second": second})
    repeated = first.y.size - first.patients.size
    if repeated:
        raise PredictionsError(
            f"repeated scans of patients: {repeated}; this test assumes independent scans, use compare_family"
        )
