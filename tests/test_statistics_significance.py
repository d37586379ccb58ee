"""Weights and bootstrap intervals against scikit-learn and against loops."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from significance_rows import load, take
from sklearn.metrics import balanced_accuracy_score

from experiments.statistics.significance import (
    METRICS,
    Predictions,
    PredictionsError,
    bootstrap_values,
    draw_patient_weights,
    fold_stratified_auc,
    mean_interval,
    percentile_interval,
    point_values,
    summarise,
)


@pytest.fixture(scope="module")
def pred() -> Predictions:
    return load()


def brute_auc(y: np.ndarray, p: np.ndarray, fold: np.ndarray, times: np.ndarray) -> float:
    wins = total = 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero((y == 0) & (fold == fold[i])):
            pair = times[i] * times[j]
            wins += pair * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
            total += pair
    return wins / total


def test_no_fold_with_both_classes_leaves_the_auc_undefined() -> None:
    pred = Predictions(np.arange(3), np.arange(3), np.array([1, 0, 1]), np.full(3, 0.5), np.ones(3, dtype=int))
    assert fold_stratified_auc(pred) is None
    found = summarise(pred, draw_patient_weights(pred, 20, np.random.default_rng(0)))["auc"]
    assert (found.value, found.low, found.high, found.fold_mean, found.folds) == (None, None, None, None, 0)


def test_weights_keep_the_size_of_each_fold_and_label(pred: Predictions) -> None:
    label = np.array([np.mean(pred.y[pred.patient == name]) >= 0.5 for name in pred.patients])
    for rescale in (True, False):
        weights = draw_patient_weights(pred, 50, np.random.default_rng(3), rescale=rescale)
        for fold in range(3):
            for sign in (False, True):
                members = (pred.patient_fold == fold) & (label == sign)
                assert members.sum() > 1
                np.testing.assert_allclose(weights[:, members].sum(axis=1), members.sum(), rtol=1e-6)
    assert np.array_equal(weights, np.round(weights))


def test_rescaled_weights_have_the_variance_of_a_mean() -> None:
    n = 5
    pred = Predictions(
        np.arange(2 * n),
        np.zeros(2 * n, dtype=int),
        np.repeat([0, 1], n),
        np.full(2 * n, 0.5),
        np.zeros(2 * n, dtype=int),
    )
    values = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    wanted = np.var(values, ddof=1) / n
    for rescale, factor in ((True, 1.0), (False, (n - 1) / n)):
        weights = draw_patient_weights(pred, 40_000, np.random.default_rng(1), rescale=rescale)[:, :n]
        assert np.var(weights @ values / n) == pytest.approx(wanted * factor, rel=0.03)


def test_a_lone_patient_joins_the_other_label_of_the_fold() -> None:
    pred = Predictions(np.arange(4), np.zeros(4, dtype=int), np.array([1, 0, 0, 0]), np.full(4, 0.5), np.zeros(4, dtype=int))
    weights = draw_patient_weights(pred, 200, np.random.default_rng(0))
    assert np.unique(weights[:, 0]).size > 1
    np.testing.assert_allclose(weights.sum(axis=1), 4, rtol=1e-6)


def test_the_seed_fixes_the_weights_and_not_the_row_order(pred: Predictions) -> None:
    order = np.random.default_rng(8).permutation(pred.y.size)
    mixed = take(pred, order)
    a = draw_patient_weights(pred, 300, np.random.default_rng(5))
    b = draw_patient_weights(mixed, 300, np.random.default_rng(5))
    assert np.array_equal(a, b)
    one, two = summarise(pred, a), summarise(mixed, b)
    for metric in METRICS:
        for part in ("value", "low", "high", "fold_mean", "fold_sd"):
            assert getattr(one[metric], part) == pytest.approx(getattr(two[metric], part), abs=1e-12)


def test_strata_replace_the_fold_and_must_not_divide_a_patient(pred: Predictions) -> None:
    site = np.where(pred.patient < "sub-20", "A", "B")
    weights = draw_patient_weights(pred, 30, np.random.default_rng(0), strata=site)
    inside = pred.patients < "sub-20"
    np.testing.assert_allclose(weights[:, inside].sum(axis=1), inside.sum(), rtol=1e-5)
    with pytest.raises(ValueError, match="strata must not divide a patient"):
        draw_patient_weights(pred, 1, np.random.default_rng(0), strata=np.arange(pred.y.size))
    with pytest.raises(ValueError, match="strata has shape"):
        draw_patient_weights(pred, 1, np.random.default_rng(0), strata=site[:3])


def test_no_draws_is_refused(pred: Predictions) -> None:
    with pytest.raises(ValueError, match="draws is 0; at least 1 is needed"):
        draw_patient_weights(pred, 0, np.random.default_rng(0))


@pytest.mark.parametrize("rescale", [True, False])
def test_bootstrap_values_equal_a_loop_over_scans(pred: Predictions, rescale: bool) -> None:
    weights = draw_patient_weights(pred, 25, np.random.default_rng(2), rescale=rescale)
    found = bootstrap_values(pred, weights)
    for draw, row in enumerate(weights.astype(float)):
        times = row[pred.patient_index]
        hit = pred.y == pred.decision
        sens = np.sum(times * hit * pred.y) / np.sum(times * pred.y)
        spec = np.sum(times * hit * (1 - pred.y)) / np.sum(times * (1 - pred.y))
        assert found["sensitivity"][draw] == pytest.approx(sens, abs=1e-12)
        assert found["specificity"][draw] == pytest.approx(spec, abs=1e-12)
        assert found["balanced_accuracy"][draw] == pytest.approx((sens + spec) / 2, abs=1e-12)
        assert found["auc"][draw] == pytest.approx(brute_auc(pred.y, pred.p, pred.fold, times), abs=1e-12)


def test_plain_multiplicities_equal_scikit_learn_on_repeated_rows(pred: Predictions) -> None:
    weights = draw_patient_weights(pred, 5, np.random.default_rng(9), rescale=False)
    found = bootstrap_values(pred, weights)["balanced_accuracy"]
    for draw, row in enumerate(weights):
        rows = np.repeat(np.arange(pred.y.size), row[pred.patient_index].astype(int))
        assert found[draw] == pytest.approx(balanced_accuracy_score(pred.y[rows], pred.decision[rows]), abs=1e-12)


def test_many_draws_equal_few_draws(pred: Predictions) -> None:
    weights = draw_patient_weights(pred, 2300, np.random.default_rng(2))
    whole, part = bootstrap_values(pred, weights), bootstrap_values(pred, weights[2000:])
    for metric in METRICS:
        np.testing.assert_allclose(whole[metric][2000:], part[metric], rtol=0, atol=1e-12)


def test_constant_weights_give_the_point_estimate(pred: Predictions) -> None:
    found = bootstrap_values(pred, np.ones((3, pred.patients.size), dtype=np.float32))
    for metric, value in point_values(pred).items():
        np.testing.assert_allclose(found[metric], value, rtol=0, atol=1e-12)


def test_intervals_contain_the_estimate_and_widen_with_the_level(pred: Predictions) -> None:
    weights = draw_patient_weights(pred, 2000, np.random.default_rng(4))
    narrow, wide = summarise(pred, weights, level=0.5), summarise(pred, weights)
    for metric in METRICS:
        a, b = narrow[metric], wide[metric]
        assert a.value is not None
        assert a.low is not None
        assert a.high is not None
        assert b.low is not None
        assert b.high is not None
        assert 0 <= b.low < a.low < a.value < a.high < b.high <= 1


def test_weights_of_other_patients_are_refused(pred: Predictions) -> None:
    with pytest.raises(ValueError, match=re.escape("weights have shape (4, 35), expected (draws, 36 patients)")):
        bootstrap_values(pred, np.ones((4, 35), dtype=np.float32))


def test_percentiles_of_known_values() -> None:
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
    values = np.arange(100.0)
    values[:5] = np.nan
    assert percentile_interval(values)[0] is not None
    values[:6] = np.nan
    assert percentile_interval(values) == (None, None)
    assert percentile_interval(np.full(100, 0.3)) == (None, None)
    with pytest.raises(ValueError, match=re.escape("level is 95; it must lie between 0 and 1, for example 0.95")):
        percentile_interval(values, 95)


def test_mean_interval_equals_a_loop(pred: Predictions) -> None:
    weights = draw_patient_weights(pred, 40, np.random.default_rng(0))
    loss = (pred.p - pred.y) ** 2
    draws = [np.average(loss, weights=row[pred.patient_index]) for row in weights.astype(float)]
    found = mean_interval(pred, loss, weights)
    assert found.value == pytest.approx(np.mean(loss))
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=1e-9)


def test_seeds_are_averaged_draw_by_draw(pred: Predictions) -> None:
    other = replace(pred, p=pred.p**2, decision=(pred.p > 0.3).astype(int))
    weights = draw_patient_weights(pred, 60, np.random.default_rng(0))
    both, one, two = (summarise(x, weights)["balanced_accuracy"] for x in ([pred, other], pred, other))
    assert both.value == pytest.approx((one.value + two.value) / 2)  # type: ignore[operator]
    assert both.fold_mean == pytest.approx((one.fold_mean + two.fold_mean) / 2)  # type: ignore[operator]
    a, b = (bootstrap_values(x, weights)["balanced_accuracy"] for x in (pred, other))
    assert (both.low, both.high) == pytest.approx(np.quantile((a + b) / 2, [0.025, 0.975]))
    with pytest.raises(PredictionsError, match="at least one seed is needed"):
        summarise([], weights)
