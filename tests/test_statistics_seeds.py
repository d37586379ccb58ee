"""Variation between seeds and expected precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, norm
from statsmodels.stats.power import NormalIndPower

from experiments.statistics.precision import StudySize, expected_precision
from experiments.statistics.seeds import seed_report


def test_spread_and_ranks_by_hand() -> None:
    found = seed_report({"global": [0.80, 0.78, 0.82], "gray_matter": [0.79, 0.81, 0.80], "brainstem": [0.6, 0.6, 0.6]})
    assert found.seeds == 3
    assert found.spread["global"].mean == pytest.approx(0.80)
    assert found.spread["global"].sd == pytest.approx(0.02)
    assert found.spread["brainstem"].sd == 0
    assert (found.spread["global"].best_rank, found.spread["global"].worst_rank) == (1, 2)
    assert (found.spread["brainstem"].best_rank, found.spread["brainstem"].worst_rank) == (3, 3)


def test_concordance_equals_scipys_friedman_statistic() -> None:
    """Kendall's W is Friedman's chi square over m (k - 1) for m seeds and k inputs, with ties."""
    table = np.round(np.random.default_rng(0).normal(size=(6, 4)), 0)
    wanted = friedmanchisquare(*table).statistic / (4 * 5)
    assert seed_report({str(i): row.tolist() for i, row in enumerate(table)}).concordance == pytest.approx(wanted)


def test_the_same_order_in_every_seed_is_full_concordance() -> None:
    found = seed_report({"a": [0.9, 0.8], "b": [0.7, 0.6], "c": [0.5, 0.4]})
    assert found.concordance == pytest.approx(1)
    assert found.same_leader == 1


def test_the_leader_may_change() -> None:
    assert seed_report({"a": [0.9, 0.6, 0.9], "b": [0.7, 0.7, 0.7]}).same_leader == pytest.approx(2 / 3)


def test_one_seed_has_no_spread() -> None:
    found = seed_report({"a": [0.9], "b": [0.7]})
    assert found.spread["a"].sd is None
    assert found.concordance is None
    assert seed_report({"a": [0.5, 0.5], "b": [0.5, 0.5]}).concordance is None


def test_incomplete_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="every input needs the same number of seeds"):
        seed_report({"a": [0.9, 0.8], "b": [0.7]})
    with pytest.raises(ValueError, match="every input needs the same number of seeds"):
        seed_report({})
    with pytest.raises(ValueError, match="a value is missing or not finite"):
        seed_report({"a": [0.9, float("nan")]})


def test_precision_by_hand() -> None:
    """382 scans of 319 patients, 30 % positive: half width +/- 4.4 points before the design effect of 1.158."""
    size = StudySize(positives=115, negatives=267, patients=319)
    found = expected_precision(size)
    assert found.design_effect == pytest.approx(1 + (382 / 319 - 1) * 0.8)
    plain = 1.96 * 0.5 * np.sqrt(0.16 / 115 + 0.16 / 267)
    assert found.half_width == pytest.approx(plain * np.sqrt(found.design_effect), rel=1e-4)
    assert found.half_width == pytest.approx(0.047, abs=0.0005)
    assert found.difference_half_width == pytest.approx(found.half_width)
    assert found.detectable == pytest.approx(found.half_width * (norm.ppf(0.975) + norm.ppf(0.8)) / norm.ppf(0.975))
    assert found.detectable_adjusted == pytest.approx(found.half_width * (2.575829 + 0.841621) / 1.959964, rel=1e-6)


def test_the_detectable_difference_equals_statsmodels_power() -> None:
    """One-sample z test (ratio 0) of one observation: the effect in units of the paired standard error."""
    found = expected_precision(StudySize(positives=115, negatives=267, patients=319), power=0.9)
    error = found.difference_half_width / norm.ppf(0.975)
    for alpha, value in ((0.025, found.detectable), (0.005, found.detectable_adjusted)):
        power = NormalIndPower().power(value / error, nobs1=1, alpha=alpha, ratio=0, alternative="larger")
        assert power == pytest.approx(0.9, abs=1e-9)


def test_correlated_models_make_smaller_differences_visible() -> None:
    loose = expected_precision(StudySize(115, 267, 319, model_correlation=0.2))
    tight = expected_precision(StudySize(115, 267, 319, model_correlation=0.8))
    assert tight.detectable == pytest.approx(loose.detectable / 2)
    assert tight.half_width == loose.half_width


def test_one_scan_for_each_patient_has_no_design_effect() -> None:
    assert expected_precision(StudySize(30, 70, 100)).design_effect == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positives": 0}, "0 positive and 70 negative scans"),
        ({"patients": 101}, "101 patients with 100 scans is not possible"),
        ({"sensitivity": 80}, "sensitivity is 80; it must lie within 0"),
    ],
)
def test_impossible_studies_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudySize(**{"positives": 30, "negatives": 70, "patients": 100, **changes})


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="need comparisons >= 1"):
        expected_precision(StudySize(30, 70, 100), comparisons=0)
