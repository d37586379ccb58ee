"""The learning benchmark: its table against hand computations, its cells that are kept, the networks of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks import learning
from benchmarks.learning import (
    CHOOSING,
    CONTENDERS,
    ENCODERS,
    OURS,
    RECIPES,
    REPORTED,
    THEIRS,
    Cell,
    Outcome,
    keep,
    options_of,
    planned,
    read_cells,
)
from benchmarks.learning_networks import Conv5FC3
from benchmarks.learning_readers import READERS
from benchmarks.learning_summary import Key, interval, summary
from experiments.study.settings import parse_settings

GAINS = [0.02, 0.05, -0.01, 0.03, 0.04]


def cell(cohort: int, contender: str, seed: int = 0) -> Key:
    return "coll_like", cohort, 320, "ventricles", contender, seed


def test_cohorts_of_the_choice_are_not_reported() -> None:
    assert not set(CHOOSING) & set(REPORTED)
    assert len(REPORTED) >= 5


def test_the_interval_is_student_s() -> None:
    mean, low, high = interval(GAINS)
    found = ttest_1samp(GAINS, 0).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(GAINS))
    assert (low, high) == pytest.approx((found.low, found.high))
    assert interval([0.7]) == (0.7, None, None)
    assert interval([]) == (None, None, None)


def test_default_is_compared_on_shared_cohorts_seeds_averaged_first() -> None:
    auc = {cell(cohort, "voxel ridge"): 0.7 for cohort in range(5)}
    auc |= {cell(cohort, "default"): 0.7 + gain + 0.01 for cohort, gain in enumerate(GAINS)}
    auc |= {cell(cohort, "default", 1): 0.7 + gain - 0.01 for cohort, gain in enumerate(GAINS)}
    auc |= {cell(9, "voxel ridge"): 0.1}
    rows = {row["contender"]: row for row in summary(auc)}
    assert rows["voxel ridge"]["cohorts"] == 6
    assert rows["voxel ridge"]["default_minus"] == pytest.approx(np.mean(GAINS))
    assert (rows["voxel ridge"]["from"], rows["voxel ridge"]["to"]) == pytest.approx(interval(GAINS)[1:])
    assert rows["default"]["AUC"] == pytest.approx(0.7 + np.mean(GAINS))
    assert rows["default"]["default_minus"] is None


def test_cells_are_kept_as_they_are_measured_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "CELLS", tmp_path / "cells.tsv")
    assert read_cells() == {}
    first, second = Cell("coll_like", 0, 84, "global", "SFCN", 0), Cell("coll_like", 0, 84, "global", "default, ordinal", 1)
    outcome = Outcome(0.75, 0.7, 0.3, 40, 12.5, "abc")
    keep(first, outcome)
    keep(second, outcome)
    assert read_cells() == {first: outcome, second: outcome}
    assert (tmp_path / "cells.tsv").read_text(encoding="utf-8").count("auc") == 1


def test_readers_that_have_no_chance_in_them_are_measured_once() -> None:
    options = options_of(["--sizes", "84", "--cohorts", "0", "--inputs", "global", "--seeds", "0", "1"])
    cells = list(planned(options))
    assert len(cells) == len(set(cells)) == len(READERS) + 2 * (len(CONTENDERS) - len(READERS))


@pytest.mark.parametrize("name", [*OURS, *ENCODERS])
def test_every_recipe_is_read(name: str) -> None:
    settings = parse_settings([*RECIPES[name], "--cohort", "x"])
    expected = "PretrainedEncoder" if "bet" in name else "ResidualCNN"
    assert str(settings.values.network.class_path).endswith(expected)


@pytest.mark.parametrize("name", [name for name in THEIRS if name != "ClinicaDL Conv5_FC3"])
def test_networks_of_others_give_two_logits(name: str) -> None:
    network = parse_settings([*THEIRS[name], "--cohort", "x"]).instantiated().network.eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 32, 32, 32)).shape == (1, 2)


def test_the_network_of_whole_images_takes_the_box_it_was_made_for() -> None:
    recipe = [*THEIRS["ClinicaDL Conv5_FC3"], "--network.shape", "[32, 64, 32]", "--cohort", "x"]
    network = parse_settings(recipe).instantiated().network.eval()
    assert isinstance(network, Conv5FC3)
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 32, 64, 32)).shape == (1, 2)
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 2, 32, 32, 32))
