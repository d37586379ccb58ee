"""Paired differences, permutation tests, multiplicity and verdict words."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from significance_rows import load
from statsmodels.stats.multitest import multipletests

from experiments.statistics.equivalence import Evidence
from experiments.statistics.paired import TOO_FEW, compare_family, corrected_t, holm, paired_differences, verdict
from experiments.statistics.permutation import patient_contributions, permutation_p, permutation_test
from experiments.statistics.significance import (
    Estimate,
    Predictions,
    PredictionsError,
    balanced_accuracy,
    bootstrap_values,
    draw_patient_weights,
    fold_stratified_auc,
    mean_values,
)


@pytest.fixture(scope="module")
def pair() -> tuple[Predictions, Predictions]:
    return load("p", "decision"), load("p_other", "decision_other")


@pytest.fixture(scope="module")
def weights(pair: tuple[Predictions, Predictions]) -> Any:
    return draw_patient_weights(pair[0], 500, np.random.default_rng(11))


def swapped(first: Predictions, second: Predictions, swap: np.ndarray) -> tuple[Predictions, Predictions]:
    """Swap decisions and within-fold ranks (as scores in 0 ... 1) of the patients marked in `swap`."""
    rows = swap[first.patient_index]
    scores = []
    for pred in (first, second):
        score = np.empty(pred.y.size)
        for fold in np.unique(pred.fold):
            score[pred.fold == fold] = stats.rankdata(pred.p[pred.fold == fold]) / pred.y.size
        scores.append(score)
    a, b = scores
    one = replace(first, p=np.where(rows, b, a), decision=np.where(rows, second.decision, first.decision))
    two = replace(second, p=np.where(rows, a, b), decision=np.where(rows, first.decision, second.decision))
    return one, two


def test_differences_are_taken_draw_by_draw(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    found = paired_differences(*pair, weights)
    a, b = (bootstrap_values(pred, weights) for pred in pair)
    for metric, estimate in found.items():
        wanted = np.quantile(a[metric] - b[metric], [0.025, 0.975])
        assert (estimate.low, estimate.high) == pytest.approx(wanted, abs=1e-12)
    assert found["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy(pair[0]) - balanced_accuracy(pair[1])  # type: ignore[operator]
    )


def test_an_input_does_not_differ_from_itself(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    for estimate in paired_differences(pair[0], pair[0], weights).values():
        assert (estimate.value, estimate.low, estimate.high) == (0.0, None, None)
    for metric in ("balanced_accuracy", "auc"):
        shares = patient_contributions(pair[0], pair[0], metric)
        assert shares is not None
        assert permutation_p(shares, 100, np.random.default_rng(0)) == 1.0


def test_an_undefined_metric_has_no_difference() -> None:
    pred = Predictions(np.arange(4), np.arange(4), np.array([0, 1, 0, 1]), np.full(4, 0.5), np.zeros(4, dtype=int))
    weights = draw_patient_weights(pred, 10, np.random.default_rng(0))
    assert paired_differences(pred, pred, weights)["auc"] == Estimate(None, None, None)
    found = compare_family({"global": pred, "brainstem": pred}, weights, np.random.default_rng(0), metric="auc")[0]
    assert (found.p, found.p_holm, found.verdict) == (None, None, "no ranking to compare")
    varied = replace(pred, p=np.array([0.1, 0.4, 0.3, 0.2]), fold=np.array([0, 1, 0, 1]), y=np.array([0, 1, 0, 1]))
    found = compare_family({"global": varied, "brainstem": varied}, weights, np.random.default_rng(0), metric="auc")[0]
    assert (found.p, found.verdict) == (None, TOO_FEW)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_flipping_signs_equals_swapping_patients(pair: tuple[Predictions, Predictions], metric: str) -> None:
    score = {"balanced_accuracy": balanced_accuracy, "auc": fold_stratified_auc}[metric]
    shares = patient_contributions(*pair, metric)
    assert shares is not None
    rng = np.random.default_rng(6)
    for swap in (np.zeros(36, dtype=bool), *(rng.random((20, 36)) < 0.5)):
        one, two = swapped(*pair, swap)
        wanted = score(one) - score(two)  # type: ignore[operator]
        assert np.sum(np.where(swap, -shares, shares)) == pytest.approx(wanted, abs=1e-12)


def test_exact_p_lists_every_swap() -> None:
    terms = np.array([0.3, 0.0, -0.1, 0.2, 0.25, 0.05])
    totals = np.array([np.dot(signs, terms) for signs in product((-1, 1), repeat=6)])
    wanted = np.mean(np.abs(totals) >= abs(terms.sum()) - 1e-9)
    assert permutation_p(terms, 100, np.random.default_rng(0)) == wanted


def test_exact_p_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=10), rng.normal(size=10)
    wanted = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=2000)
    assert permutation_p((a - b) / 10, 2000, rng) == pytest.approx(wanted.pvalue, abs=1e-12)


def test_equal_terms_give_the_exact_mcnemar_p() -> None:
    terms = np.array([1.0] * 9 + [-1.0] * 2)
    wanted = stats.binomtest(2, 11, 0.5).pvalue
    assert permutation_p(terms, 5000, np.random.default_rng(0)) == pytest.approx(wanted, abs=1e-12)


def test_random_p_is_near_the_exact_one_and_never_zero() -> None:
    terms = np.random.default_rng(5).normal(0.4, 1, size=14)
    exact = permutation_p(terms, 2**14, np.random.default_rng(0))
    drawn = permutation_p(terms, 2**14 - 1, np.random.default_rng(0))
    assert drawn == pytest.approx(exact, abs=0.01)
    assert permutation_p(np.ones(40), 999, np.random.default_rng(0)) == pytest.approx(1 / 1000)


def test_other_metrics_have_no_permutation_test(pair: tuple[Predictions, Predictions]) -> None:
    with pytest.raises(ValueError, match="no permutation test for metric 'kappa'; choose one of balanced_accuracy, auc, brier"):
        patient_contributions(*pair, "kappa")
    with pytest.raises(ValueError, match="permutations is 0"):
        permutation_p(np.ones(3), 0, np.random.default_rng(0))


def test_holm_equals_statsmodels() -> None:
    """From statsmodels 0.15.0, multipletests([.01, .04, .03, .005, .2], method='holm'), and R 4.2.2, p.adjust(..., "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2], abs=1e-12)
    p_values = np.random.default_rng(0).random(15) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p values must lie within 0"):
        holm([0.2, float("nan")])


@pytest.mark.parametrize(
    ("p", "low", "high", "words"),
    [
        (0.01, 0.02, 0.12, "different"),
        (0.01, -0.12, -0.02, "different"),
        (0.01, 0.005, 0.03, "different"),
        (0.01, -0.001, 0.12, "not distinguishable"),
        (0.05, 0.02, 0.12, "not distinguishable"),
        (0.20, -0.02, 0.04, "equivalent within 5 points"),
        (0.20, -0.02, 0.05, "not distinguishable"),
        (0.20, -0.06, 0.02, "not distinguishable"),
        (None, -0.02, 0.02, "not distinguishable"),
        (0.20, None, None, "not distinguishable"),
    ],
)
def test_verdict_rule(p: float | None, low: float | None, high: float | None, words: str) -> None:
    shown = Estimate(0.0, low, high)
    assert verdict(p, shown, Evidence(shown, 10, 3)) == words
    for weak in (None, Evidence(shown, 9, 3), Evidence(shown, 10, 2), Evidence(Estimate(0.0, -0.06, 0.04), 10, 3)):
        assert verdict(p, shown, weak) == words.replace("equivalent within 5 points", "not distinguishable")


def test_verdict_margin_is_named_in_points() -> None:
    narrow = Estimate(0.0, -0.02, 0.02)
    assert verdict(0.5, narrow, Evidence(narrow, 10, 3), margin=0.025) == "equivalent within 2.5 points"
    with pytest.raises(ValueError, match="margin is 5; give a share between 0 and 1"):
        verdict(0.5, Estimate(0.0, -0.02, 0.02), margin=5)


def test_primary_family_compares_each_region_with_the_whole_brain(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    first, second = pair
    wrong = replace(first, decision=1 - first.y)
    inputs = {"global": first, "ventricles": second, "brainstem": wrong}
    found = compare_family(inputs, weights, np.random.default_rng(0), permutations=2000)
    assert [(c.first, c.second) for c in found] == [("ventricles", "global"), ("brainstem", "global")]
    assert [c.p_holm for c in found] == pytest.approx(holm([c.p for c in found if c.p is not None]))
    assert found[1].verdict == "different"
    assert found[1].difference.value == pytest.approx(-balanced_accuracy(first))  # type: ignore[operator]


def test_all_pairs_of_six_inputs_are_fifteen(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    inputs = {f"input {number}": pair[number % 2] for number in range(6)}
    found = compare_family(inputs, weights, np.random.default_rng(0), reference=None, permutations=50)
    assert len({(c.first, c.second) for c in found}) == 15
    same = [c for c in found if int(c.first[-1]) % 2 == int(c.second[-1]) % 2]
    assert {c.verdict for c in same} == {"not distinguishable"}
    assert {c.objection for c in same} == {""}  # the interval shown is wider than the margin
    assert {c.p for c in same} == {1.0}


def test_seeds_enter_a_comparison_as_their_mean(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    first, second = pair
    both = patient_contributions([first, second], [second, second], "auc")
    one = patient_contributions(first, second, "auc")
    assert both is not None
    assert one is not None
    np.testing.assert_allclose(both, one / 2, rtol=0, atol=1e-15)
    found = compare_family({"a": [first, first], "b": [second, second]}, weights, np.random.default_rng(0), reference="a")
    alone = compare_family({"a": first, "b": second}, weights, np.random.default_rng(0), reference="a")
    assert found == alone


def test_a_family_needs_a_known_reference_and_equal_scans(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=re.escape("unknown reference 'global'; choose one of a, b")):
        compare_family({"a": pair[0], "b": pair[1]}, weights, rng)
    with pytest.raises(ValueError, match="nothing to compare: only global given"):
        compare_family({"global": pair[0]}, weights, rng)
    with pytest.raises(PredictionsError, match="row 0: y is 1 in global, 0 in b"):
        compare_family({"global": pair[0], "b": replace(pair[1], y=1 - pair[1].y)}, weights, rng)


def test_without_overlap_the_corrected_t_is_scipys_paired_t() -> None:
    values = [0.03, -0.01, 0.05, 0.02, 0.00, 0.04, 0.06]
    wanted = stats.ttest_1samp(values, 0.0)
    found = corrected_t(values, 0.0)
    assert (found.t, found.p, found.df) == pytest.approx((wanted.statistic, wanted.pvalue, 6), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), abs=1e-12)


def test_the_corrected_t_equals_the_published_example() -> None:
    """scikit-learn, example "Statistical comparison of models using grid search": two support vector machines on moons.

    Its text gives the interval of the difference for test parts of 10 and training parts of 90 scans: 50 % between 0.000977
    and 0.019023, 95 % between -0.016445 and 0.036445. The counts are its 100 differences of fold areas, in 25ths.
    """
    counts = {-3: 1, -2: 2, -1: 10, 0: 53, 1: 29, 2: 4, 5: 1}
    differences = [value / 25 for value, count in counts.items() for _ in range(count)]
    for level, low, high in ((0.5, 0.000977, 0.019023), (0.95, -0.016445, 0.036445)):
        found = corrected_t(differences, 10 / 90, level)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-7)


def test_seven_folds_widen_the_corrected_error_by_the_published_factor() -> None:
    """Nadeau and Bengio 2003: variance factor 1/7 + 1/5 in place of 1/7, sqrt(2.4); t quantile of 6 df is 2.4469."""
    values = [0.03, -0.01, 0.05, 0.02, 0.00, 0.04, 0.06]
    plain, found = corrected_t(values, 0.0), corrected_t(values, 1 / 5)
    assert found.error / plain.error == pytest.approx(2.4**0.5, abs=1e-12)
    assert (found.high - found.mean) / found.error == pytest.approx(2.446911851144969, abs=1e-9)


def test_corrected_t_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="at least two finite ones"):
        corrected_t([0.1], 0.2)
    with pytest.raises(ValueError, match="must not be negative"):
        corrected_t([0.1, 0.2], -0.2)
    with pytest.raises(ValueError, match="all fold differences are equal"):
        corrected_t([0.1, 0.1], 0.2)


def test_the_auc_test_stretches_the_permuted_differences(pair: tuple[Predictions, Predictions]) -> None:
    shares = patient_contributions(*pair, "auc")
    assert shares is not None
    size = np.bincount(pair[0].patient_fold)[pair[0].patient_fold]
    signs = 2 * np.random.default_rng(1).integers(0, 2, size=(500, 36)) - 1
    hits = np.sum(np.abs(signs @ (shares * np.sqrt(size / (size - 1)))) >= abs(shares.sum()))
    found = permutation_test(*pair, "auc", 500, np.random.default_rng(2))
    assert found == pytest.approx((1 + hits) / 501, abs=0.09)
    assert found == permutation_p(shares, 500, np.random.default_rng(2), np.sqrt(size / (size - 1)))


def test_false_discovery_rates_equal_statsmodels(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    inputs = {f"input {number}": replace(pair[number % 2], decision=np.roll(pair[0].decision, number)) for number in range(4)}
    found = compare_family(inputs, weights, np.random.default_rng(0), reference=None, permutations=99)
    wanted = multipletests([c.p for c in found if c.p is not None], method="fdr_bh")[1]
    assert [c.p_fdr for c in found] == pytest.approx(wanted, abs=1e-12)


def test_values_given_are_not_drawn_again(pair: tuple[Predictions, Predictions], weights: Any) -> None:
    inputs = {"global": pair[0], "b": pair[1]}
    values = {name: mean_values(table, weights) for name, table in inputs.items()}
    alone = compare_family(inputs, weights, np.random.default_rng(0), permutations=50)
    given = compare_family(inputs, weights, np.random.default_rng(0), permutations=50, values=values)
    for one, other in zip(given, alone, strict=True):  # one matrix product or two: processors round the last digit otherwise
        limits = {name: getattr(other.difference, name) for name in ("value", "low", "high")}
        assert {name: getattr(one.difference, name) for name in limits} == pytest.approx(limits, abs=1e-12)
        assert replace(one, difference=replace(one.difference, **limits)) == other
