"""The band is that of a prediction interval, agreement is Kendall's W, and a band's error rate is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr, ttest_ind

from experiments.statistics.relevance import Band, agreements, band, rank_correlations, weighted_mean


def test_the_prediction_interval_is_that_of_a_published_table() -> None:
    """Hahn 1969: the factors for one further observation at 95 % are 3.041 (n = 5), 2.373 (10) and 2.145 (20)."""
    for size, factor in ((5, 3.041), (10, 2.373), (20, 2.145)):
        values = np.random.default_rng(size).normal(size=size)
        found = band(values, 0.0)
        assert found.high is not None
        assert found.high - found.mean == pytest.approx(factor * values.std(ddof=1), rel=5e-4)


def test_p_is_that_of_a_t_test_of_one_value_against_a_sample() -> None:
    values = np.random.default_rng(0).normal(size=9)
    expected = ttest_ind([1.7], values, alternative="greater").pvalue
    assert band(values, 1.7).p == pytest.approx(float(expected))


def test_one_network_in_twenty_lies_beyond_the_band_by_chance() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(2.0, 0.3, size=(4000, 8))
    p = np.array([band(row[:7], row[7]).p for row in draws])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=0.006)


def test_the_mean_of_networks_that_err_together_is_beyond_it_no_more_often() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(2000):
        shared, own = rng.normal(), rng.normal(size=7)
        hits += (band(rng.normal(size=7), float(np.mean(np.sqrt(0.5) * shared + np.sqrt(0.5) * own))).p or 0) < 0.05
    assert hits / 2000 < 0.05


@pytest.mark.parametrize("values", [[1.0] * 4, [2.0] * 8, [np.nan] * 9, []])
def test_a_band_of_too_few_or_equal_networks_is_not_known(values: list[float]) -> None:
    found = band(values, 1.0)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_a_network_without_relevance_is_left_out_of_the_band() -> None:
    values = [0.1, 0.4, 0.2, 0.3, 0.25]
    assert band([*values, float("nan")], 0.9) == band(values, 0.9) != Band(0.25, None, None, None)


def test_rank_correlations_are_scipys() -> None:
    rows = np.random.default_rng(3).integers(0, 6, size=(4, 30)).astype(float)
    assert rank_correlations(rows) == pytest.approx(spearmanr(rows.T).statistic)


def test_mean_agreement_is_kendalls_concordance() -> None:
    """Kendall's W from its own formula, without ties: W = 12 S / (m^2 (n^3 - n))."""
    rng = np.random.default_rng(4)
    rows = np.stack([rng.permutation(9) for _ in range(5)]).astype(float)
    sums = (rows + 1).sum(axis=0)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (25 * (9**3 - 9))
    assert agreements(rows).mean() == pytest.approx((5 * w - 1) / 4)
    assert np.isnan(agreements(rows[:1])).all()


def test_a_weighted_mean_is_that_of_the_repeated_scans() -> None:
    values, patient = np.array([1.0, 3.0, np.nan, 10.0]), np.array([0, 0, 1, 2])
    found = weighted_mean(values, patient, np.array([[1.0, 1.0, 1.0], [2.0, 5.0, 1.0], [0.0, 1.0, 0.0]]))
    assert found[:2].tolist() == pytest.approx([14 / 3, (8 + 10) / 5])
    assert np.isnan(found[2])
