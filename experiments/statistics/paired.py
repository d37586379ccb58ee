"""Two inputs on the same scans: paired differences, multiplicity and the words for the result.

Primary family: the five regions against the whole brain, Holm-adjusted, on one primary metric (balanced accuracy).
Exploratory family: all pairs. The words follow one rule, see `verdict`; nothing here ever says "best".

Both tests allow for overlapping training parts (`experiments.statistics.chance`): without that, two to four times as many
families as they should named a difference of AUC between models trained on noise, and up to 12 % of the tests one of balanced
accuracy between models that were equally good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from experiments.statistics.chance import DECISION_OVERLAP, OVERLAP
from experiments.statistics.constant import LEAST_PATIENTS, has_few_patients, is_silent
from experiments.statistics.equivalence import Evidence, evidence
from experiments.statistics.permutation import permutation_test
from experiments.statistics.predictions import check_same_scans
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import (
    Estimate,
    Runs,
    Values,
    family_values,
    percentile_interval,
    runs,
)

MARGIN = 0.05
ALPHA = 0.05
SILENT = {"balanced_accuracy": "no decision to compare", "auc": "no ranking to compare", "brier": "no probabilities to compare"}
"""What is said of a pair of which one input gave the scans of most folds one decision, or one probability."""
TOO_FEW = f"fewer than {LEAST_PATIENTS} patients of a class, no comparison"
UNJUDGED = (*SILENT.values(), TOO_FEW)
"""Verdicts that judge nothing, whatever p and interval say."""


@dataclass(frozen=True)
class Comparison:
    """One input against another on one metric.

    Attributes:
        first: Input whose value is counted positively.
        second: Input that is subtracted.
        metric: "balanced_accuracy", "auc" or "brier".
        difference: First minus second with the paired bootstrap interval, not adjusted for multiplicity.
        p: Paired permutation p, allowing for overlapping training parts; None where the metric is undefined.
        p_holm: Adjusted within the family by Holm, or None.
        p_fdr: Adjusted within the family by Benjamini and Hochberg, or None.
        verdict: See `verdict`, or one of `UNJUDGED`; with the family's role behind it where that is not the primary one.
        adjusted: The difference with the interval that equivalence is judged by; None for the AUC, which has no margin.
        objection: Why equivalence is not said although the interval lies inside the margin; mostly empty.
    """

    first: str
    second: str
    metric: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    p_fdr: float | None
    verdict: str
    adjusted: Estimate | None = None
    objection: str = ""


@dataclass(frozen=True)
class CorrectedT:
    """Result of `corrected_t`: mean difference, its corrected standard error, t, degrees of freedom, p and interval."""

    mean: float
    error: float
    t: float
    df: int
    p: float
    low: float
    high: float


def paired_differences(first: Runs, second: Runs, weights: WeightArray, level: float = 0.95) -> dict[str, Estimate]:
    """First minus second on every metric of `METRICS`; both are recomputed under the same draws of patients.

    Args:
        first: Predictions of one input, or one table for each seed: then the mean over seeds is compared.
        second: The same for the input that is subtracted.
        weights: (draws, patients), the same for both.
        level: Level of the intervals.

    Raises:
        PredictionsError: If the tables do not list the same scans.
    """
    values = family_values({"first": first, "second": second}, weights)
    return _differences(values["first"], values["second"], level)


def _differences(first: Values, second: Values, level: float) -> dict[str, Estimate]:
    out = {}
    for metric in first:
        (x, x_draws), (y, y_draws) = first[metric], second[metric]
        if x is None or y is None:
            out[metric] = Estimate(None, None, None)
        else:
            out[metric] = Estimate(x - y, *percentile_interval(x_draws - y_draws, level))
    return out


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 1979;6:65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if np.any(~((p >= 0) & (p <= 1))):
        raise ValueError(f"p values must lie within 0 ... 1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return [float(value) for value in adjusted]


def verdict(
    p_holm: float | None,
    difference: Estimate,
    basis: Evidence | None = None,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> str:
    """Put a comparison into words, by rule.

    - "different": the Holm-adjusted p is below alpha and the interval excludes 0.
    - "equivalent within M points": otherwise, if there is evidence for it: see `experiments.statistics.equivalence`.
    - "not distinguishable": otherwise, also when p or the interval is undefined. It is not a claim of equality.

    A difference can be real and smaller than the margin; it is then called different, and the interval shows its size.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}; give a share between 0 and 1, for example 0.05 for 5 points")
    if p_holm is None or difference.low is None or difference.high is None:
        return "not distinguishable"
    if p_holm < alpha and (difference.low > 0 or difference.high < 0):
        return "different"
    return f"equivalent within {100 * margin:g} points" if basis and basis.holds(margin) else "not distinguishable"


def compare_family(
    inputs: Mapping[str, Runs],
    weights: WeightArray,
    rng: np.random.Generator,
    *,
    reference: str | None = "global",
    metric: str = "balanced_accuracy",
    permutations: int = 10_000,
    margin: float = MARGIN,
    level: float = 0.95,
    values: Mapping[str, Values] | None = None,
    role: str = "",
    chosen: Sequence[tuple[str, str]] = (),
) -> list[Comparison]:
    """Compare every input with the reference (one family), or all pairs when `reference` is None (exploratory).

    Args:
        inputs: Name -> predictions, or one table for each seed; all on the same scans.
        weights: (draws, patients), the same for all.
        rng: Source of the swaps.
        reference: Name that the others are compared with, or None for all pairs.
        metric: "balanced_accuracy", "auc", or "brier" if `values` hold it; declare one primary metric before looking.
        permutations: Swaps for each test.
        margin: Equivalence margin as a share.
        level: Level of the intervals.
        values: `mean_values` of every input under these weights if already computed, so that several families of
            one study draw once.
        chosen: The pairs of the family, where they are neither.
        role: What the family is beside the primary one, for example "secondary"; it follows each verdict in brackets.

    Raises:
        ValueError: If the reference is unknown or there is nothing to compare.
        PredictionsError: If the inputs do not list the same scans.
    """
    if reference is not None and reference not in inputs:
        raise ValueError(f"unknown reference {reference!r}; choose one of {', '.join(inputs)}")
    check_same_scans({name: runs(tables)[0] for name, tables in inputs.items()})
    pairs = list(chosen or combinations(inputs, 2))
    if reference:
        pairs = [(name, reference) for name in inputs if name != reference]
    if not pairs:
        raise ValueError(f"nothing to compare: only {', '.join(inputs) or 'no input'} given")
    if values is None:
        values = family_values(inputs, weights)
    folds_overlap = np.unique(runs(inputs[pairs[0][0]])[0].fold).size > 1
    overlap = 1.0 if not folds_overlap else DECISION_OVERLAP if metric == "balanced_accuracy" else OVERLAP
    gaps = [_differences(values[a], values[b], level)[metric] for a, b in pairs]
    p_values = [permutation_test(inputs[a], inputs[b], metric, permutations, rng, overlap) for a, b in pairs]
    known = [p for p in p_values if p is not None]
    holms, fdrs = iter(holm(known)), iter(false_discovery_control(known).tolist() if known else [])
    silent = {name for name, tables in inputs.items() if is_silent(tables, metric)}
    few = has_few_patients(inputs[pairs[0][0]])
    out = []
    for (a, b), gap, p in zip(pairs, gaps, p_values, strict=True):
        p_holm, p_fdr = (None, None) if p is None else (next(holms), next(fdrs))
        basis = evidence(inputs[a], inputs[b], overlap, level) if metric == "balanced_accuracy" else None
        if basis and gap.value is not None and gap.low is None:  # no patient is decided differently: the draws are all equal
            gap = replace(gap, low=basis.interval.low, high=basis.interval.high)
        words = SILENT[metric] if silent & {a, b} else TOO_FEW if few else verdict(p_holm, gap, basis, margin)
        objection = basis.objection(gap, margin) if basis and words == "not distinguishable" else ""
        words += f" ({role})" if role else ""
        out.append(Comparison(a, b, metric, gap, p, p_holm, p_fdr, words, basis.interval if basis else None, objection))
    return out


def corrected_t(differences: Sequence[float], test_to_train: float, level: float = 0.95, df: int | None = None) -> CorrectedT:
    """Paired t test on fold differences, with the variance corrected for overlapping training sets.

    The factor 1/k of the plain test becomes 1/k + n_test/n_train: with seven folds of which five train, 1/7 + 1/5, a
    standard error 1.55 times as large. Secondary to the permutation test.

    Args:
        differences: One value for each fold.
        test_to_train: Size of a test part over the size of the training parts, 1/5 here.
        level: Level of the interval.
        df: Degrees of freedom; None: one less than there are differences.

    Raises:
        ValueError: With fewer than two folds, a negative ratio, or differences that are all equal.

    References:
        Nadeau and Bengio, Inference for the generalization error, Mach Learn 2003;52:239-281.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or not np.all(np.isfinite(values)):
        raise ValueError(f"{values.size} fold differences given; at least two finite ones are needed")
    if test_to_train < 0:
        raise ValueError(f"test_to_train is {test_to_train}; it must not be negative, for example 0.2")
    spread = float(np.var(values, ddof=1))
    if spread == 0:
        raise ValueError("all fold differences are equal; the t test is undefined")
    mean, error = float(np.mean(values)), float(np.sqrt((1 / values.size + test_to_train) * spread))
    df = values.size - 1 if df is None else df
    reach = float(student.ppf((1 + level) / 2, df)) * error
    p = float(2 * student.sf(abs(mean / error), df))
    return CorrectedT(mean, error, mean / error, df, p, mean - reach, mean + reach)
