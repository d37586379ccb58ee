"""The smooth calibration curve against statsmodels' lowess, run here as a foreign program, and the index against R's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from statsmodels.nonparametric.smoothers_lowess import lowess

from experiments.statistics.significance import Predictions
from experiments.statistics.smooth import integrated_calibration_index, local_line, smooth_calibration


def rows(ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.random(83)
    x = np.round(x, 1) if ties else x
    return x, (rng.random(83) < x).astype(float)


@pytest.mark.parametrize("span", [0.3, 0.75, 1.0])
def test_the_local_line_equals_statsmodels_lowess(span: float) -> None:
    x, y = rows()
    wanted = lowess(y, x, frac=span, it=0, delta=0.0, return_sorted=False)
    np.testing.assert_allclose(local_line(x, y, x, span), wanted, rtol=0, atol=1e-9)


def test_between_the_rows_it_equals_statsmodels_too() -> None:
    x, y = rows()
    at = np.array([0.11, 0.5, 0.87])
    wanted = lowess(y, x, frac=0.5, it=0, xvals=at)
    np.testing.assert_allclose(local_line(x, y, at, 0.5), wanted, rtol=0, atol=1e-9)


def test_neighbours_of_one_value_give_their_mean() -> None:
    x, y = rows(ties=True)
    found = local_line(x, y, np.array([0.3]), span=2 / 83)
    assert found[0] == pytest.approx(y[x == 0.3].mean())


def test_a_straight_line_comes_back_and_so_does_its_distance() -> None:
    p = np.linspace(0.1, 0.9, 60)
    np.testing.assert_allclose(local_line(p, 2 * p - 0.3, p), 2 * p - 0.3, atol=1e-12)


def test_the_index_is_the_mean_distance_from_the_smooth_curve() -> None:
    x, y = rows()
    pred = Predictions(np.arange(83), np.zeros(83, dtype=int), y.astype(int), x, y.astype(int))
    wanted = np.clip(lowess(y, x, frac=0.75, it=0, delta=0.0, return_sorted=False), 0, 1)
    np.testing.assert_allclose(smooth_calibration(pred, x), wanted, atol=1e-9)
    assert integrated_calibration_index(pred) == pytest.approx(np.mean(np.abs(wanted - x)), abs=1e-9)


def test_the_index_equals_that_of_r() -> None:
    """R 4.2.2 on data/cvauc_rows.tsv: mean |lowess(p, y, f = 0.75, iter = 0, delta = 0)$y, held in 0 ... 1, - sort(p)|."""
    t = np.genfromtxt(
        Path(__file__).parent / "data" / "cvauc_rows.tsv", delimiter="\t", names=True, dtype=None, encoding="utf-8"
    )
    pred = Predictions(t["patient"], t["fold"], t["y"], t["p"], t["y"])
    assert integrated_calibration_index(pred) == pytest.approx(0.14566253990509131, abs=1e-9)


@pytest.mark.parametrize("size", [2_001, 6_000])
def test_many_rows_give_the_index_of_the_whole_curve(size: int) -> None:
    rng = np.random.default_rng(size)
    p = rng.beta(2, 3, size)
    y = (rng.random(size) < p**1.5).astype(int)
    pred = Predictions(np.arange(size), np.zeros(size, dtype=int), y, p, y)
    wanted = np.clip(lowess(y, p, frac=0.75, it=0, delta=0.0, return_sorted=False), 0, 1)
    assert integrated_calibration_index(pred) == pytest.approx(np.mean(np.abs(wanted - p)), abs=1e-5)


def test_a_span_without_rows_is_refused() -> None:
    x, y = rows()
    with pytest.raises(ValueError, match=r"span 0\.01 of 83 rows holds 0; a local line needs at least 2"):
        local_line(x, y, x, 0.01)
