"""``simulated_levels.py`` in short: the levels of docs/statistics.md hold, and its parts are the product's."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_levels import (
    DIFFERENCES,
    RULES,
    claims,
    contributions,
    design,
    drawn_gains,
    rejections,
    retrained_gains,
    shift_for,
)

from experiments.statistics.chance import DECISION_OVERLAP
from experiments.statistics.paired import MARGIN
from lightning_modules.decision import choose_threshold


def test_thresholds_of_many_studies_are_those_of_one() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 30), rng.random((40, 30))
    for name, rule in RULES.items():
        assert rule(y, p) == pytest.approx([choose_threshold(name, y, row, 0.5) for row in p])  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.parametrize("patients", [84, 320])
@pytest.mark.parametrize("auc", [0.65, 0.75, 0.85])
def test_equally_good_trained_inputs_differ_in_five_percent_of_the_studies_at_most(patients: int, auc: float) -> None:
    """1,000 studies with 32 features, the hardest of the table; a rate of 5 % has a standard error of 0.7 points."""
    plan, rng = design(patients, 0.3), np.random.default_rng(1)
    shift = shift_for(plan, auc, 32)
    shares = contributions(plan, retrained_gains(plan, (shift, shift), 32, 0.0, 1000, rng))
    assert rejections(shares, DECISION_OVERLAP, rng) <= 0.065
    assert rejections(shares, 1.0, rng) > 0.065


@pytest.mark.long
@pytest.mark.parametrize("patients", [84, 320])
@pytest.mark.parametrize("prevalence", [0.3, 0.5])
def test_a_difference_of_exactly_the_margin_is_seldom_called_equivalent(patients: int, prevalence: float) -> None:
    plan = design(patients, prevalence)
    for pair in DIFFERENCES:
        for sign in (1, -1):
            for discordance in (0.0, 0.05, 0.1, 0.2):
                rng = np.random.default_rng(2)
                gain = drawn_gains(plan, (sign * pair[0], sign * pair[1]), discordance, 0.05, 2000, rng)
                assert claims(plan, gain, MARGIN)[0] <= 0.035, (pair, sign, discordance)
