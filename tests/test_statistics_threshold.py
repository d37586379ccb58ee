"""The threshold of the baselines is that of the networks, and that of R's pROC."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(("fold", "wanted"), [(0, 0.5141935), (1, 0.571836), (2, 0.430077), (3, 0.740557), (None, 0.532733)])
def test_it_equals_youdens_threshold_of_proc(fold: int | None, wanted: float) -> None:
    """R 4.2.2 with pROC 1.18.0: coords(roc(y, p), "best", best.method = "youden"), on each fold and all of cvauc_rows.tsv."""
    t = np.genfromtxt(
        Path(__file__).parent / "data" / "cvauc_rows.tsv", delimiter="\t", names=True, dtype=None, encoding="utf-8"
    )
    rows = np.ones(t.size, dtype=bool) if fold is None else t["fold"] == fold
    assert best_threshold(t["y"][rows], t["p"][rows]) == pytest.approx(wanted, abs=1e-12)


def test_one_class_and_one_value_keep_to_the_middle() -> None:
    assert best_threshold(np.ones(3, dtype=int), np.array([0.1, 0.2, 0.3])) == 0.5
    assert best_threshold(np.array([0, 1, 0]), np.full(3, 0.3)) == pytest.approx(0.65)
