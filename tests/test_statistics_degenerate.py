"""Intervals and words where decisions or ranks do not vary: Wilson and Newcombe in place of a bootstrap without width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from experiments.analysis.notes import says_nothing
from experiments.analysis.pooling import Pooled
from experiments.controls.rules import verdict as control_verdict
from experiments.controls.scores import compared_row, permuted_row
from experiments.externals.score import Known, change, constant_sites
from experiments.statistics.calibration import calibration_scores
from experiments.statistics.chance import against_chance
from experiments.statistics.constant import constant_folds, has_few_patients, is_silent
from experiments.statistics.equivalence import evidence
from experiments.statistics.paired import compare_family, paired_differences
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import METRICS, Estimate, bootstrap_interval, interval_text, mean_values, summarise


def table(positives: int, negatives: int, folds: int = 7, scans: int = 1) -> Predictions:
    """Patients dealt out to folds, whose every scan is decided positive at 0.8; each has so many scans."""
    y = np.repeat(np.repeat([1, 0], [positives, negatives]), scans)
    patient = np.repeat(np.arange(positives + negatives), scans)
    session = np.tile(np.arange(scans), positives + negatives)
    return Predictions(patient, patient % folds, y, np.full(y.size, 0.8), np.ones(y.size, dtype=int), session)


def decided(pred: Predictions, decision: Any) -> Predictions:
    decision = np.broadcast_to(decision, pred.y.shape).astype(int)
    return replace(pred, decision=decision, p=np.where(decision == 1, 0.8, 0.2))


def weights_of(pred: Predictions, draws: int = 4000) -> Any:
    return draw_patient_weights(pred, draws, np.random.default_rng(0))


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize("positive_folds", [[], [0], [2, 5], [0, 1, 2, 3, 4, 5, 6]])
def test_folds_of_one_decision_have_the_interval_of_wilson(positive_folds: list[int]) -> None:
    """statsmodels proportion_confint; the draws within folds alone have no width at all."""
    pred = table(46, 94)
    pred = decided(pred, np.isin(pred.fold, positive_folds))
    found = bootstrap_interval(pred, weights_of(pred))
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        rows = pred.y == label
        wanted = proportion_confint(np.sum(pred.decision[rows] == label), rows.sum(), method="wilson")
        assert ends(found[name]) == pytest.approx(wanted, abs=1e-5)
    low, high = ends(found["balanced_accuracy"])
    assert high - low > 0.05


def test_sites_of_one_decision_have_the_interval_of_wilson() -> None:
    """An external cohort is drawn within its sites: two of three sites are called positive throughout."""
    pred = table(15, 30, folds=1)
    pred = decided(pred, pred.patient % 3 > 0)
    weights = draw_patient_weights(pred, 4000, np.random.default_rng(0), strata=pred.patient % 3)
    found = bootstrap_interval(pred, weights)
    assert ends(found["sensitivity"]) == pytest.approx(proportion_confint(10, 15, method="wilson"), abs=1e-5)
    assert ends(found["specificity"]) == pytest.approx(proportion_confint(10, 30, method="wilson"), abs=1e-5)


def test_scans_of_a_patient_count_as_one() -> None:
    """Three scans a patient, all decided alike: 20 patients, not 60 scans. Unlike numbers of scans count by Kish."""
    pred = table(20, 30, scans=3)
    found = bootstrap_interval(decided(pred, False), weights_of(pred))
    assert ends(found["sensitivity"]) == pytest.approx(proportion_confint(0, 20, method="wilson"), abs=1e-5)
    kept = np.flatnonzero((pred.session == 0) | (pred.patient % 2 == 0))
    names = ("patient", "fold", "y", "p", "decision", "session")
    uneven = Predictions(**{name: getattr(decided(pred, pred.fold < 3), name)[kept] for name in names})
    size = uneven.per_patient(uneven.y == 1)
    effective = size.sum() ** 2 / np.sum(size**2)
    value = np.mean(uneven.decision[uneven.y == 1])
    found = bootstrap_interval(uneven, weights_of(uneven))
    wanted = proportion_confint(value * effective, effective, method="wilson")
    assert ends(found["sensitivity"]) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("hits", [0, 1, 2])
def test_a_class_of_few_patients_has_the_interval_of_wilson(hits: int) -> None:
    pred = table(2, 30, folds=1)
    decision = np.zeros(32, dtype=int)
    decision[:hits] = 1
    decision[5:12] = 1
    found = bootstrap_interval(decided(pred, decision), weights_of(pred))
    assert ends(found["sensitivity"]) == pytest.approx(proportion_confint(hits, 2, method="wilson"), abs=1e-5)
    assert ends(found["specificity"])[1] < 1


def test_the_mean_of_two_rates_has_newcombes_square_and_add_width() -> None:
    """Newcombe, Stat Med 1998;17:873-890, method 10: 0 of 46 and 94 of 94, halved."""
    pred = table(46, 94)
    low, high = ends(bootstrap_interval(decided(pred, False), weights_of(pred, 10_000))["balanced_accuracy"])
    (_, up), (down, _) = proportion_confint(0, 46, method="wilson"), proportion_confint(94, 94, method="wilson")
    assert (low, high) == pytest.approx((0.5 - (1 - down) / 2, 0.5 + up / 2), abs=0.006)


def newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Method 5 as R's auRoc 0.2 has it: the roots between 0 and 1 of a polynomial of the fifth degree."""
    star, z2, mn = (m + n) / 2 - 1, norm.isf(0.025) ** 2, m * n
    a, b, c = -1 - 2 * star, 1 + 2 * star, 2 + star
    d, e, f = 1 + 2 * value, 2 - 2 * value - value**2, value**2 - 4 * value
    roots = np.roots([-mn + z2 * a, mn * d - z2 * (a - b), mn * e - z2 * (b - c), mn * f - z2 * c, mn * 2 * value**2])
    real = np.sort(roots[np.abs(roots.imag) < 1e-6].real)
    inside = [float(root) for root in real if 1e-6 < root < 1 - 1e-6]
    return (inside[0], 1.0) if value == 1 else (0.0, inside[-1])


@pytest.mark.parametrize(("m", "n"), [(2, 3), (10, 20), (46, 94)])
@pytest.mark.parametrize("value", [0, 1])
def test_classes_apart_have_the_interval_of_newcombe(m: int, n: int, value: int) -> None:
    pred = table(m, n, folds=1)
    pred = decided(pred, pred.y == value)
    assert ends(bootstrap_interval(pred, weights_of(pred))["auc"]) == pytest.approx(newcombe(value, m, n), abs=1e-5)


def test_classes_apart_in_every_fold_are_above_chance_and_have_a_width() -> None:
    pred = table(46, 94)
    found = summarise(decided(pred, pred.y), weights_of(pred))
    low, high = ends(found["auc"])
    assert newcombe(1, 46, 94)[0] - 0.02 < low < newcombe(1, 46, 94)[0]
    assert high == 1
    assert against_chance(found["auc"]) == "above chance"


def test_an_area_from_one_probability_a_fold_has_no_interval_and_says_so() -> None:
    pred = table(46, 94)
    flat = replace(pred, p=0.2 + 0.1 * (pred.fold % 3))
    found = bootstrap_interval(flat, weights_of(pred))["auc"]
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert interval_text(found) == "0.50 [not estimable]"
    some = replace(flat, p=np.where(pred.fold < 3, np.linspace(0.1, 0.9, pred.y.size), flat.p))
    assert is_silent(some, "auc")
    assert bootstrap_interval(some, weights_of(pred))["auc"].low is None
    for loss in calibration_scores(flat, weights_of(pred)).values():
        assert (loss.value is None, loss.low) == (False, None)


def test_seeds_do_not_narrow_what_no_seed_knows() -> None:
    pred = decided(table(46, 94), False)
    one, three = (bootstrap_interval(tables, weights_of(pred))["sensitivity"] for tables in (pred, [pred] * 3))
    assert ends(three) == pytest.approx(ends(one))


def test_a_score_that_varies_within_folds_keeps_its_bootstrap() -> None:
    rng = np.random.default_rng(3)
    pred = table(46, 94)
    right = replace(decided(pred, np.where(rng.random(140) < 0.75, pred.y, 1 - pred.y)), p=rng.random(140))
    weights = weights_of(pred)
    hit, rows = (right.decision == right.y).astype(float), right.y == 1
    wanted = np.quantile(weights[:, rows] @ hit[rows] / weights[:, rows].sum(axis=1), [0.025, 0.975])
    assert ends(bootstrap_interval(right, weights)["sensitivity"]) == pytest.approx(wanted)


@pytest.mark.parametrize("first_folds", [[], [1], [0, 1, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("second_folds", [[], [4], [0, 1, 2, 3, 4, 5, 6]])
def test_two_inputs_without_decisions_have_a_difference_with_a_width(first_folds: list[int], second_folds: list[int]) -> None:
    pred = table(46, 94)
    first, second = (decided(pred, np.isin(pred.fold, folds)) for folds in (first_folds, second_folds))
    found = paired_differences(first, second, weights_of(pred))
    for metric in ("sensitivity", "specificity", "balanced_accuracy"):
        low, high = ends(found[metric])
        assert high - low > 0.05
    pair = compare_family({"global": first, "a": second}, weights_of(pred, 300), np.random.default_rng(0), permutations=99)[0]
    assert pair.verdict == "no decision to compare"


def test_equal_decisions_have_the_interval_of_bonett_and_price_and_equal_ranks_none() -> None:
    rng = np.random.default_rng(1)
    pred = table(46, 94)
    pred = replace(pred, decision=(rng.random(140) < 0.5).astype(int), p=rng.random(140))
    inputs = {"global": pred, "a": pred}
    pair = compare_family(inputs, weights_of(pred, 300), np.random.default_rng(0), permutations=99)[0]
    basis = evidence(pred, pred, 1.5**0.5).interval
    assert (pair.difference.low, pair.difference.high) == (basis.low, basis.high)
    assert ends(pair.difference)[1] > 0.02
    assert pair.verdict == "not distinguishable"
    area = compare_family(inputs, weights_of(pred, 300), np.random.default_rng(0), metric="auc", permutations=99)[0]
    assert (area.difference.value, area.difference.low, area.verdict) == (0.0, None, "not distinguishable")


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_few_patients_of_a_class_get_no_verdict(metric: str) -> None:
    """Perfect against wrong decisions: with 4 positive patients nothing is said, with more it is."""
    for positives, words in ((4, "fewer than 5 patients of a class, no comparison (x)"), (8, "different (x)")):
        pred = table(positives, 40, folds=1)
        inputs = {"global": [decided(pred, pred.y)] * 3, "a": [decided(pred, 1 - pred.y)] * 3}
        weights = weights_of(pred, 300)
        pair = compare_family(inputs, weights, np.random.default_rng(0), metric=metric, permutations=300, role="x")[0]
        assert pair.verdict == words
        assert has_few_patients(pred) == (positives == 4)
    assert against_chance(Estimate(0.9, 0.8, 1.0), few=True) == "too few patients to judge"
    assert control_verdict("image", Estimate(0.9, 0.8, 1.0), few=True).text.startswith("nothing is judged with fewer than 5")


def test_five_scans_are_not_called_equivalent() -> None:
    pred = table(2, 3, folds=1)
    inputs = {"global": [decided(pred, True)] * 3, "a": [decided(pred, True)] * 3, "b": [decided(pred, pred.y)] * 3}
    for pair in compare_family(inputs, weights_of(pred, 300), np.random.default_rng(0), permutations=99):
        assert "equivalent" not in pair.verdict
        low, high = ends(pair.difference)
        assert high - low > 0.3


@pytest.mark.parametrize("varied", [3, 4])
def test_a_verdict_needs_decisions_in_half_of_the_scans(varied: int) -> None:
    rng = np.random.default_rng(5)
    pred = table(35, 70)
    some = decided(pred, np.where(pred.fold < varied, rng.integers(0, 2, 105), 1))
    assert constant_folds(some, "balanced_accuracy") == list(range(varied, 7))
    assert is_silent(some, "balanced_accuracy") == (varied == 3)


def test_external_minus_internal_has_the_width_of_both_sides() -> None:
    """20 and 46 positive patients, all found: no bootstrap of either side has a width, their difference has that of both."""
    inside, outside = table(46, 94), table(20, 30, folds=1)
    values = [mean_values(pred, weights_of(pred, 10_000))["sensitivity"] for pred in (outside, inside)]
    low, high = ends(change(*values))
    (down_outside, _), (down_inside, _) = (proportion_confint(n, n, method="wilson") for n in (20, 46))
    assert (low, high) == pytest.approx((down_outside - 1, 1 - down_inside), abs=0.01)
    worse = mean_values(decided(outside, False), weights_of(outside, 10_000))["sensitivity"]
    assert change(worse, values[1]).value == -1.0


def test_sites_of_one_decision_are_named() -> None:
    pred = decided(table(10, 20, folds=1), np.arange(30) % 3 == 0)
    site = np.where(np.arange(30) % 3 == 0, "A", np.where(np.arange(30) == 1, "B", ""))
    known = Known(pred.patient, pred.session, site, pred.y)  # type: ignore[arg-type]
    assert constant_sites(pred, known) == ["unknown", "A"]
    assert constant_sites(decided(pred, True), known) == [""]


def test_controls_with_classes_apart_are_judged_and_have_a_width() -> None:
    rng = np.random.default_rng(2)
    pred = table(21, 39)
    apart, noise = decided(pred, pred.y), replace(pred, p=rng.random(60))
    row = compared_row("mask_only", "global", apart, replace(noise), weights_of(pred))
    assert row.estimates is not None
    assert ends(row.estimates["auc"])[0] < 1
    assert row.flag == "warning"
    leak = permuted_row("global", [apart, apart], 500, rng)
    assert leak.verdict.startswith("above chance")
    assert leak.estimates is not None
    for metric in METRICS:
        low, high = ends(leak.estimates[metric])
        assert low < high


@pytest.mark.parametrize(
    ("constant", "notes"),
    [
        ([], []),
        ([3], ["ventricles decides the same for every scan of fold 3"]),
        (
            [0, 2, 3, 6],
            [
                "ventricles decides the same for every scan of folds 0, 2, 3, 6",
                "ventricles gave all scans of most folds one decision: it is compared with nothing",
            ],
        ),
    ],
)
def test_folds_of_one_decision_are_named(constant: list[int], notes: list[str]) -> None:
    rng = np.random.default_rng(8)
    pred = table(35, 70)
    decision = np.where(np.isin(pred.fold, constant), 1, np.arange(105) // 7 % 2)
    pred = replace(pred, decision=decision, p=rng.random(105))
    assert says_nothing({"ventricles": [Pooled(pred, {}, {})]}, [0]) == notes
