"""The threshold of the baselines is that of the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.statistics.threshold import best_threshold
from lightning_modules.metrics import best_threshold as of_the_networks


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_the_rule_of_the_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=15)
    p = np.round(rng.random(15), 1 if seed % 2 else 6)
    assert best_threshold(y, p) == of_the_networks(torch.tensor(p), torch.tensor(y))


def test_one_class_and_one_value_keep_to_the_middle() -> None:
    assert best_threshold(np.ones(3, dtype=int), np.array([0.1, 0.2, 0.3])) == 0.5
    assert best_threshold(np.array([0, 1, 0]), np.full(3, 0.3)) == pytest.approx(0.65)
