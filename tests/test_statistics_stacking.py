"""The regression behind stacked networks, against scikit-learn and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from experiments.statistics.stacking import STRENGTH, fit_stack


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3 == 0
    shifts = np.array([1.5, 1.0, 0.5])[:, None]
    return y.astype(int), (rng.normal(size=(3, 60)) + shifts * y) * np.array([[0.2], [1.0], [5.0]])


def scaled(odds: np.ndarray) -> np.ndarray:
    """(n, models)."""
    return np.column_stack([(row - row.mean()) / row.std() for row in odds])


@pytest.mark.parametrize("strength", [0.05, STRENGTH, 5.0])
def test_weights_equal_scikit_learn(rows: tuple[np.ndarray, np.ndarray], strength: float) -> None:
    y, odds = rows
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(scaled(odds), y)
    fit = fit_stack(y, odds, 0.0, strength)
    assert fit.weights == pytest.approx(model.coef_[0], abs=1e-6)
    assert fit.probabilities(odds, 0.0) == pytest.approx(model.predict_proba(scaled(odds))[:, 1], abs=1e-6)


def test_weights_beside_an_offset_equal_statsmodels(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """A loose penalty against a binomial GLM with the same offset."""
    y, odds = rows
    offset = np.random.default_rng(1).normal(size=60) + 0.5 * y
    glm = sm.GLM(y, scaled(odds), family=sm.families.Binomial(), offset=offset).fit(tol=1e-12)
    fit = fit_stack(y, odds, offset, 1e7)
    assert fit.weights == pytest.approx(glm.params, abs=1e-4)
    assert fit.probabilities(odds, offset) == pytest.approx(glm.fittedvalues, abs=1e-5)


def test_no_weight_is_negative(rows: tuple[np.ndarray, np.ndarray]) -> None:
    y, odds = rows
    turned = odds * np.array([[1.0], [-1.0], [1.0]])
    fit = fit_stack(y, turned, 0.0)
    assert fit.weights[1] == 0
    without = fit_stack(y, odds[[0, 2]], 0.0)
    assert fit.weights[[0, 2]] == pytest.approx(without.weights, abs=1e-6)


def test_a_constant_model_has_no_weight_and_moves_nothing(rows: tuple[np.ndarray, np.ndarray]) -> None:
    y, odds = rows
    dead = np.vstack([odds, np.full(60, 2.0)])
    fit, without = fit_stack(y, dead, 0.3), fit_stack(y, odds, 0.3)
    assert fit.weights[3] == 0
    tested = np.vstack([odds, np.linspace(-9, 9, 60)])
    assert fit.probabilities(tested, 0.3) == pytest.approx(without.probabilities(odds, 0.3), abs=1e-9)


def test_without_a_model_that_varies_the_offset_stays() -> None:
    y, offset = np.array([0, 1] * 10), np.tile([-1.0, 1.0], 10)
    fit = fit_stack(y, np.zeros((1, 20)), offset)
    assert fit.weights.tolist() == [0]
    assert logit(fit.probabilities(np.zeros((1, 20)), offset)) == pytest.approx(offset)


def test_a_part_of_one_class_or_of_separated_scans_has_finite_weights() -> None:
    odds = np.array([np.linspace(-3, 3, 20)])
    for y in (np.zeros(20, dtype=int), np.ones(20, dtype=int), (odds[0] > 0).astype(int)):
        fit = fit_stack(y, odds, 0.0)
        assert 0 <= fit.weights[0] < 3
