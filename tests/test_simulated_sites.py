"""The rates of docs/statistics.md for cohorts of several sites: short here, the table's own behind the marker ``long``."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_sites import heterogeneity_row, split_row


def above(rate: float, studies: int) -> float:
    """A rate in percent, and what chance may add to it in so many studies (2.6 standard errors)."""
    return rate + 260 * (rate / 100 * (1 - rate / 100) / studies) ** 0.5


def check_noise(studies: int, shift: float, confounded: bool) -> None:
    rows = split_row(shift, 0.0, confounded, studies, np.random.default_rng(1))
    for name, (area, _, chance, different) in rows.items():
        if confounded and shift and name == "patient":
            assert area > 55
            continue
        assert chance <= above(5, studies), name
        assert different <= above(6, studies), name
        if name.startswith("site"):
            assert abs(area - 50) < 500 / studies**0.5 / 5, name


@pytest.mark.parametrize("confounded", [False, True])
def test_noise_in_sites_is_no_signal_for_models_that_are_tested_elsewhere(confounded: bool) -> None:
    check_noise(25, 1.0, confounded)


@pytest.mark.long
@pytest.mark.parametrize(("shift", "confounded"), [(0.0, False), (0.0, True), (1.0, False), (1.0, True)])
def test_the_rates_of_the_table_hold_in_noise(shift: float, confounded: bool) -> None:
    check_noise(300, shift, confounded)


def test_sites_that_are_equal_are_seldom_called_different() -> None:
    rejected, middle, further, _ = heterogeneity_row(5, 40, 0.0, 150, np.random.default_rng(2))
    assert rejected <= above(5, 150)
    assert min(middle, further) >= 95 - (above(5, 150) - 5)


@pytest.mark.long
@pytest.mark.parametrize(("sites", "size", "spread"), [(5, 40, 0.0), (10, 150, 0.5), (20, 150, 0.0)])
def test_the_rates_of_the_table_hold_over_sites(sites: int, size: int, spread: float) -> None:
    rejected, middle, further, _ = heterogeneity_row(sites, size, spread, 1000, np.random.default_rng(2))
    assert spread or rejected <= above(5, 1000)
    assert middle >= 95 - (above(5, 1000) - 5)
    assert further >= (92 if spread else 95) - (above(5, 1000) - 5)
