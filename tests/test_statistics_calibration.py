"""Calibration and decision curve against scikit-learn, statsmodels and dcurves.

Frozen values: statsmodels 0.15.0, GLM(y, X, family=Binomial()).fit(cov_type='cluster', cov_kwds={'groups': patient},
tol=1e-14) on data/significance_rows.tsv with X = (1, logit p), and X = 1 with offset logit p, with which R 4.2.2's
glm(family = binomial) agrees; glm(y ~ 0 + logit p) and mean(-dbinom(y, 1, p, log = TRUE)) of R; dcurves 1.1.7, dca(). The
calibration error is compared with torchmetrics, run here.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from significance_rows import load
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error

from experiments.statistics.calibration import (
    apply_temperature,
    calibration_line,
    calibration_scores,
    clipped_logit,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    reliability_curve,
)
from experiments.statistics.significance import Predictions, PredictionsError, draw_patient_weights
from experiments.statistics.utility import decision_curve


@pytest.fixture(scope="module")
def pred() -> Predictions:
    return load()


@pytest.mark.parametrize(
    ("column", "large", "intercept", "slope"),
    [
        (
            "p",
            (-0.43877386426725745, 0.39814852035398857),
            (-0.42334525839320275, 0.4203804890789876),
            (1.0984936746669505, 0.32453076015880694),
        ),
        (
            "p_other",
            (-0.7459695785781566, 0.36873595029213196),
            (-0.7636101773480574, 0.41121348150487824),
            (1.0975939825633678, 0.39474678810132646),
        ),
    ],
)
def test_calibration_line_equals_statsmodels(
    column: str, large: tuple[float, float], intercept: tuple[float, float], slope: tuple[float, float]
) -> None:
    found = calibration_line(load(column))
    parts = (found.in_the_large, found.intercept, found.slope)
    for part, (value, error) in zip(parts, (large, intercept, slope), strict=True):
        assert part.value == pytest.approx(value, abs=1e-9)
        assert part.error == pytest.approx(error, abs=1e-9)
        assert part.high - part.value == pytest.approx(1.959963984540054 * error, abs=1e-8)
        assert part.value - part.low == pytest.approx(1.959963984540054 * error, abs=1e-8)


def test_the_calibration_line_finds_a_planted_distortion() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(size=20_000)
    y = (rng.random(odds.size) < expit(odds)).astype(int)
    pred = Predictions(np.arange(odds.size), np.zeros(odds.size, dtype=int), y, expit(2 * odds + 1), y)
    found = calibration_line(pred)
    assert found.slope.value == pytest.approx(0.5, abs=0.03)
    assert found.intercept.value == pytest.approx(-0.5, abs=0.05)
    assert found.in_the_large.high < 0


def test_calibration_line_refuses_what_has_no_line(pred: Predictions) -> None:
    with pytest.raises(PredictionsError, match=re.escape("all probabilities are 0.5; the calibration slope")):
        calibration_line(replace(pred, p=np.full(pred.y.size, 0.5)))
    with pytest.raises(PredictionsError, match="the probabilities separate the classes perfectly"):
        calibration_line(replace(pred, p=0.2 + 0.5 * pred.y + 0.1 * pred.p))
    with pytest.raises(PredictionsError, match="scans of at least two patients"):
        calibration_line(replace(pred, patient=np.full(pred.y.size, "a"), fold=np.zeros(pred.y.size, dtype=int)))


def test_brier_and_log_loss_equal_scikit_learn(pred: Predictions) -> None:
    found = calibration_scores(pred, draw_patient_weights(pred, 300, np.random.default_rng(0)))
    assert found["brier"].value == pytest.approx(brier_score_loss(pred.y, pred.p), abs=1e-12)
    assert found["log_loss"].value == pytest.approx(log_loss(pred.y, pred.p), abs=1e-12)
    assert found["log_loss"].value == pytest.approx(0.45172138781048854, abs=1e-12)
    for estimate in found.values():
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low < estimate.value < estimate.high


def test_a_certain_error_has_a_finite_log_loss() -> None:
    pred = Predictions(np.arange(2), np.zeros(2, dtype=int), np.array([1, 0]), np.array([0.0, 0.0]), np.zeros(2, dtype=int))
    np.testing.assert_allclose(log_losses(pred), [-np.log(1e-6), -np.log1p(-1e-6)], rtol=1e-9)


def test_temperature_equals_logistic_regression_without_intercept(pred: Predictions) -> None:
    """scikit-learn without penalty and intercept fits y on logit p; its coefficient is 1 / T."""
    odds = clipped_logit(pred.p)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(odds[:, None], pred.y)
    assert 1 / fit_temperature(pred.y, pred.p, soft=False) == pytest.approx(model.coef_[0, 0], abs=1e-6)
    assert 1 / fit_temperature(pred.y, pred.p, soft=False) == pytest.approx(1.1833509391318717, abs=1e-6)


def test_soft_targets_equal_logistic_regression_on_weighted_rows(pred: Predictions) -> None:
    """Each row stands once with label 1 and once with label 0, weighted by Platt's target."""
    odds, positives = clipped_logit(pred.p), np.sum(pred.y)
    aims = np.where(pred.y == 1, (positives + 1) / (positives + 2), 1 / (49 - positives + 2))
    rows, labels = np.tile(odds, 2)[:, None], np.repeat([1, 0], 49)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    model.fit(rows, labels, sample_weight=np.concatenate([aims, 1 - aims]))
    assert 1 / fit_temperature(pred.y, pred.p) == pytest.approx(model.coef_[0, 0], abs=1e-6)


def test_a_separated_tuning_part_does_not_ask_for_certainty() -> None:
    found = fit_temperature([0, 0, 0, 0, 0, 1, 1, 1], [0.3, 0.3, 0.35, 0.4, 0.4, 0.6, 0.62, 0.7])
    assert 0.1 < found < 1


def test_temperature_undoes_a_planted_one() -> None:
    rng = np.random.default_rng(1)
    odds = 1.5 * rng.normal(size=50_000)
    y = (rng.random(odds.size) < expit(odds)).astype(int)
    assert fit_temperature(y, expit(2.5 * odds)) == pytest.approx(2.5, rel=0.03)


def test_hard_targets_stay_in_range_when_classes_are_separated() -> None:
    assert fit_temperature([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], soft=False) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]) == pytest.approx(100, rel=1e-3)


def test_temperature_refuses_unusable_rows() -> None:
    with pytest.raises(PredictionsError, match="tuning rows of both classes"):
        fit_temperature([1, 1], [0.4, 0.6])
    with pytest.raises(PredictionsError, match="2 labels and 3 probabilities"):
        fit_temperature([1, 0], [0.4, 0.6, 0.1])


def test_each_fold_is_softened_by_its_own_temperature(pred: Predictions) -> None:
    found = apply_temperature(pred, {0: 1.0, 1: 2.0, 2: 0.5})
    for fold, temperature in ((0, 1.0), (1, 2.0), (2, 0.5)):
        rows = pred.fold == fold
        np.testing.assert_allclose(clipped_logit(found.p[rows]), clipped_logit(pred.p[rows]) / temperature, atol=1e-9)
    assert np.array_equal(found.decision, pred.decision)
    with pytest.raises(PredictionsError, match="fold 2 has temperature None; give a positive number"):
        apply_temperature(pred, {0: 1.0, 1: 2.0})


def test_reliability_bins_hold_every_scan_and_keep_ties_together(pred: Predictions) -> None:
    curve = reliability_curve(pred, bins=5)
    assert sum(part.scans for part in curve) == 49
    assert max(part.scans for part in curve) - min(part.scans for part in curve) <= 4
    assert sum(part.scans * part.observed for part in curve) == pytest.approx(np.sum(pred.y))
    assert sum(part.scans * part.mean_p for part in curve) == pytest.approx(np.sum(pred.p))
    tied = replace(pred, p=np.where(pred.p < 0.5, 0.25, 0.75))
    bins = reliability_curve(tied, bins=10)
    assert [part.mean_p for part in bins] == pytest.approx([0.25, 0.75])
    assert [part.observed for part in bins] == pytest.approx([pred.y[pred.p < 0.5].mean(), pred.y[pred.p >= 0.5].mean()])
    gap = sum(part.scans * abs(part.mean_p - part.observed) for part in bins) / 49
    assert expected_calibration_error(bins) == pytest.approx(gap)
    with pytest.raises(ValueError, match="bins is 0"):
        reliability_curve(pred, bins=0)


def test_reliability_bins_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    p, y = rng.random(60), rng.integers(0, 2, size=60)
    curve = reliability_curve(Predictions(np.arange(60), np.zeros(60, dtype=int), y, p, y), bins=6)
    observed, mean_p = calibration_curve(y, p, n_bins=6, strategy="quantile")
    assert [part.mean_p for part in curve] == pytest.approx(mean_p, abs=1e-12)
    assert [part.observed for part in curve] == pytest.approx(observed, abs=1e-12)


@pytest.mark.parametrize("bins", [5, 10])
def test_the_calibration_error_equals_torchmetrics(bins: int) -> None:
    """torchmetrics' bins are equally wide, ours hold equally many scans; with twelve scans in each tenth they are the same."""
    rng = np.random.default_rng(5)
    p = (np.repeat(np.arange(10), 12) + rng.uniform(0.05, 0.95, size=120)) / 10
    y = (rng.random(120) < p**2).astype(int)
    curve = reliability_curve(Predictions(np.arange(120), np.zeros(120, dtype=int), y, p, y), bins)
    assert [part.scans for part in curve] == [120 // bins] * bins
    wanted = binary_calibration_error(torch.from_numpy(p), torch.from_numpy(y), n_bins=bins, norm="l1")
    assert wanted > 0.05
    assert expected_calibration_error(curve) == pytest.approx(float(wanted), abs=1e-6)


def test_one_bin_compares_the_mean_probability_with_the_prevalence(pred: Predictions) -> None:
    part = reliability_curve(pred, bins=1)[0]
    assert (part.mean_p, part.observed, part.scans, part.patients) == pytest.approx((pred.p.mean(), pred.y.mean(), 49, 36))


def test_decision_curve_equals_dcurves(pred: Predictions) -> None:
    found = decision_curve(pred, (0.1, 0.37, 0.73))
    assert [part.model for part in found] == pytest.approx([0.269841, 0.113055, 0.012094], abs=1e-6)
    assert [part.treat_all for part in found] == pytest.approx([0.251701, -0.068999, -1.494331], abs=1e-6)


def test_decision_curve_treats_at_the_threshold_itself() -> None:
    pred = Predictions(
        np.arange(4),
        np.zeros(4, dtype=int),
        np.array([1, 1, 0, 0]),
        np.array([0.5, 0.2, 0.5, 0.1]),
        np.zeros(4, dtype=int),
    )
    assert decision_curve(pred, [0.5])[0].model == pytest.approx(1 / 4 - 1 / 4)
    assert decision_curve(pred, [0.2])[0].model == pytest.approx(2 / 4 - 1 / 4 * 0.25)
    with pytest.raises(ValueError, match="threshold is 1; it must lie strictly between 0 and 1"):
        decision_curve(pred, [1])
