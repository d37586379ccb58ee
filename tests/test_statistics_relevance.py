"""The band is that of a prediction interval, agreement is Kendall's W, and a band's error rate is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr, ttest_ind

from experiments.statistics.relevance import Band, agreements, band, rank_correlations, separation, weighted_mean


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


@pytest.mark.parametrize("correlation", [0.0, 1 / 6])
def test_the_mean_over_folds_that_err_together_lies_beyond_it_no_more_often(correlation: float) -> None:
    """Seven networks of one study share their labels; Nadeau and Bengio put the correlation of two folds at 1 / 6."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(4000):
        shared, own = rng.normal(), rng.normal(size=7)
        value = float(np.mean(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own))
        hits += (band(rng.normal(size=7), value, folds=7).p or 0) < 0.05
    assert hits / 4000 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


def test_of_few_folds_the_mean_is_as_uncertain_as_one_network() -> None:
    values = np.random.default_rng(5).normal(size=9)
    assert band(values, 1.0, folds=2) == band(values, 1.0)
    seven, one = band(values, 1.0, folds=7), band(values, 1.0)
    assert seven.high is not None
    assert one.high is not None
    assert (seven.high - seven.mean) / (one.high - one.mean) == pytest.approx(np.sqrt((2 / 7 + 1 / 9) / (1 + 1 / 9)))


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
    assert agreements(rows, range(5)).mean() == pytest.approx((5 * w - 1) / 4)
    assert np.isnan(agreements(rows[:1], [0])).all()


def test_networks_of_one_fold_are_not_compared_with_each_other() -> None:
    rows = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1]])
    assert agreements(rows, [0, 0, 1]).tolist() == pytest.approx([-1, -1, -1])
    assert agreements(rows, [0, 1, 2]).tolist() == pytest.approx([0, 0, -1])


def test_separation_is_the_gap_of_the_classes_under_each_draw() -> None:
    change, y, patient = np.array([1.0, 3.0, 5.0, 10.0]), np.array([0, 1, 1, 0]), np.array([0, 1, 2, 3])
    found = separation(change, y, patient, np.array([[1.0, 1, 1, 1], [2.0, 1, 3, 0]]))
    assert found.tolist() == pytest.approx([(3 + 5) / 2 - (1 + 10) / 2, (3 + 15) / 4 - 1.0])


def test_a_weighted_mean_is_that_of_the_repeated_scans() -> None:
    values, patient = np.array([1.0, 3.0, np.nan, 10.0]), np.array([0, 0, 1, 2])
    found = weighted_mean(values, patient, np.array([[1.0, 1.0, 1.0], [2.0, 5.0, 1.0], [0.0, 1.0, 0.0]]))
    assert found[:2].tolist() == pytest.approx([14 / 3, (8 + 10) / 5])
    assert np.isnan(found[2])
