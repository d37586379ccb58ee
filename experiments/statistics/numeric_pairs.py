"""Predicted numbers of several inputs: intervals, and paired differences with the same rules and words as of two classes.

Primary is the MAE, lower is better; Spearman's correlation is secondary. A patient's share in a difference of MAE is the sum of
its scans' absolute errors under one input minus those under the other, over all scans; in a difference of Spearman's it is the
sum of products of standardised ranks, those of the values with those of the two predictions. Exchanging a patient's predictions
turns the sign of its share. Permuted differences are stretched for overlapping training parts, by as much as those of the AUC.
Equivalence is not said: a margin in the unit of the values is for the user to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import false_discovery_control, rankdata

from experiments.statistics.chance import OVERLAP
from experiments.statistics.constant import LEAST_PATIENTS, SAME, is_silent
from experiments.statistics.numeric import IN_UNITS, Numbers, drawn_scores, fold_scores, has_few, point_scores
from experiments.statistics.paired import SILENT, Comparison, holm, verdict
from experiments.statistics.permutation import permutation_p
from experiments.statistics.predictions import FloatArray, PredictionsError, check_same_scans
from experiments.statistics.resampling import WeightArray
from experiments.statistics.scores import mean_or_none
from experiments.statistics.significance import Estimate, Values, percentile_interval

PRIMARY, SECONDARY = "mae", "spearman"
NUMERIC_INTERVAL = "95 % patient-cluster bootstrap, percentile"
TOO_FEW = f"fewer than {2 * LEAST_PATIENTS} patients, no comparison"


def numeric_values(inputs: Mapping[str, Sequence[Numbers]], weights: WeightArray) -> dict[str, Values]:
    """Input -> metric -> value and (draws,) values, each averaged over seeds; None if undefined in one.

    Raises:
        PredictionsError: If the inputs do not list the same scans.
    """
    check_same_scans({f"{name}, table {k}": table for name, tables in inputs.items() for k, table in enumerate(tables)})
    out: dict[str, Values] = {}
    for name, tables in inputs.items():
        points, draws = [point_scores(table) for table in tables], [drawn_scores(table, weights) for table in tables]
        out[name] = {
            metric: (mean_or_none([point[metric] for point in points]), np.mean([draw[metric] for draw in draws], axis=0))
            for metric in tables[0].metrics
        }
    return out


def numeric_estimates(values: Values, tables: Sequence[Numbers] = ()) -> dict[str, Estimate]:
    """Metric -> value and interval, with mean and SD over folds where the tables are given."""
    folds = fold_scores(tables) if tables else {}
    out = {}
    for metric, (value, draws) in values.items():
        defined = [score for score in folds.get(metric, {}).values() if score is not None]
        mean, sd = (float(np.mean(defined)) if defined else None, float(np.std(defined, ddof=1)) if defined[1:] else None)
        ends = (None, None) if value is None else percentile_interval(draws, same=same_of(metric, values))
        out[metric] = Estimate(value, *ends, mean, sd, len(defined))
    return out


def numeric_shares(first: Sequence[Numbers], second: Sequence[Numbers], metric: str) -> FloatArray:
    """(patients,) share of each patient in the difference first minus second; the mean over seeds.

    Raises:
        ValueError: If the metric has no permutation test.
        PredictionsError: If the two do not list the same scans.
    """
    if metric not in (PRIMARY, SECONDARY):
        raise ValueError(f"no permutation test for metric {metric!r}; choose {PRIMARY} or {SECONDARY}")
    check_same_scans({"first": first[0], "second": second[0]})
    shares = []
    for a, b in zip(first, second, strict=True):
        if metric == PRIMARY:
            gain = (np.abs(a.p - a.y) - np.abs(b.p - b.y)) / a.y.size
        else:
            scans, truth = _standard_ranks(a, a.y)
            gain = truth * (_standard_ranks(a, a.p)[1] - _standard_ranks(b, b.p)[1]) / scans
        shares.append(a.per_patient(gain))
    return np.asarray(np.mean(shares, axis=0))


def _standard_ranks(table: Numbers, column: FloatArray) -> tuple[int, FloatArray]:
    """Scans of folds in which a column varies, and (n,) its standardised ranks there; 0 in other folds."""
    out, scans = np.zeros(column.size), 0
    for fold in np.unique(table.fold):
        rows = table.fold == fold
        ranks = rankdata(column[rows])
        if np.ptp(ranks) > 0:
            out[rows] = (ranks - ranks.mean()) / ranks.std()
            scans += int(rows.sum())
    return scans, out


def numeric_test(
    first: Sequence[Numbers], second: Sequence[Numbers], metric: str, permutations: int, rng: np.random.Generator
) -> float:
    """Two-sided p of the difference of two inputs by exchanging patients.

    Standardised ranks of a fold have a fixed sum, which costs one degree of freedom: permuted differences of Spearman's are
    stretched by sqrt(k / (k - 1)) in a fold of k patients.
    """
    fold = first[0].patient_fold
    stretch: FloatArray | float = OVERLAP if np.unique(fold).size > 1 else 1.0
    if metric == SECONDARY:
        size = np.array([np.sum(fold == of_patient) for of_patient in fold], dtype=np.float64)
        stretch = stretch * np.sqrt(size / np.maximum(size - 1, 1))
    return permutation_p(numeric_shares(first, second, metric), permutations, rng, stretch)


def compare_numbers(
    inputs: Mapping[str, Sequence[Numbers]],
    weights: WeightArray,
    rng: np.random.Generator,
    values: Mapping[str, Values],
    *,
    reference: str | None = "global",
    metric: str = PRIMARY,
    permutations: int = 10_000,
    role: str = "",
    chosen: Sequence[tuple[str, str]] = (),
) -> list[Comparison]:
    """Compare every input with the reference (one Holm family), all pairs when it is None, or the pairs that are chosen.

    Args:
        inputs: Name -> one table for each seed; all on the same scans.
        weights: (draws, patients), the same for all.
        rng: Source of the swaps.
        values: `numeric_values` of every input under these weights.
        reference: Name that the others are compared with, or None.
        metric: ``mae`` or ``spearman``.
        permutations: Swaps for each test.
        role: What the family is beside the primary one; it follows each verdict in brackets.
        chosen: The pairs of the family, where they are neither.
    """
    pairs = list(chosen or combinations(inputs, 2))
    if reference is not None:
        pairs = [(name, reference) for name in inputs if name != reference]
    if not pairs:
        raise PredictionsError(f"nothing to compare: only {', '.join(inputs) or 'no input'} given")
    p_values = [numeric_test(inputs[a], inputs[b], metric, permutations, rng) for a, b in pairs]
    out = []
    adjusted = zip(pairs, p_values, holm(p_values), false_discovery_control(p_values).tolist(), strict=True)
    for (a, b), p, p_holm, p_fdr in adjusted:
        gap = numeric_gap(values[a], values[b])[metric]
        words = verdict(p_holm, gap)
        if has_few(inputs[a][0]):
            words = TOO_FEW
        elif metric == SECONDARY and any(is_silent(inputs[name], "auc") for name in (a, b)):
            words = SILENT["auc"]
        words += f" ({role})" if role else ""
        out.append(Comparison(a, b, metric, gap, p, p_holm, p_fdr, words))
    return out


def numeric_gap(first: Values, second: Values) -> dict[str, Estimate]:
    """First minus second on every metric; draws of the same patients are paired, those of two cohorts independent."""
    out = {}
    for metric, (x, x_draws) in first.items():
        y, y_draws = second[metric]
        if x is None or y is None:
            out[metric] = Estimate(None, None, None)
        else:
            out[metric] = Estimate(x - y, *percentile_interval(x_draws - y_draws, same=same_of(metric, first)))
    return out


def same_of(metric: str, values: Values) -> float:
    """By how much draws of a score must differ to be two: `SAME`, of a score in the unit of the values of their RMSE."""
    return SAME * (values["rmse"][0] or 1.0) if metric in IN_UNITS else SAME
