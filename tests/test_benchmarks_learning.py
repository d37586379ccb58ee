"""The learning benchmark: its table against hand computations, its cells that are kept, the networks of others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from scipy.stats import mannwhitneyu, ttest_1samp
from sklearn.metrics import roc_auc_score

from benchmarks import learning, learning_training
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
    in_order,
    keep,
    options_of,
    planned,
    read_cells,
)
from benchmarks.learning_networks import Conv5FC3
from benchmarks.learning_readers import READERS
from benchmarks.learning_summary import Key, interval, rejections, summary, threshold_loss
from benchmarks.table import BenchError
from experiments.study.run_folder import Rows
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


def test_a_threshold_loses_what_the_auc_allows_and_is_not_reached() -> None:
    """Normal scores one standard deviation apart: AUC Phi(0.707) = 0.760, balanced accuracy at best Phi(0.5) = 0.691."""
    auc, best = 0.7602499389065233, 0.6914624612740131
    scores = np.random.default_rng(0).normal([[0.0], [1.0]], size=(2, 20_000))
    assert roc_auc_score(np.repeat([0, 1], 20_000), scores.ravel()) == pytest.approx(auc, abs=0.01)
    assert np.mean([scores[0] < 0.5, scores[1] >= 0.5]) == pytest.approx(best, abs=0.01)
    cells = {cell(0, "default"): (auc, best - 0.01), cell(0, "default", 1): (auc, best - 0.03), cell(1, "default"): (auc, best)}
    cells |= {("null", 0, 320, "ventricles", "default", 0): (0.5, 0.1)}
    (row,) = threshold_loss(cells)
    assert (row["cohorts"], row["cells"], row["best"]) == (2, 3, pytest.approx(best))
    assert (row["lost"], row["from"], row["to"]) == pytest.approx(interval([0.02, 0.0]))
    assert row["balanced_accuracy"] == pytest.approx(best - 0.01)


def test_the_table_has_one_order() -> None:
    first = Cell("coll_like", 1, 84, "global", "attainable", 0)
    assert (
        sorted(
            [
                Cell("coll_like", 0, 320, "global", "attainable", 0),
                Cell("coll_like", 0, 84, "brainstem", "attainable", 0),
                Cell("coll_like", 0, 84, "global", "default", 0),
                first,
            ],
            key=in_order,
        )[0]
        == first
    )


def test_cells_are_kept_as_they_are_measured_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "CELLS", tmp_path / "cells.tsv")
    assert read_cells() == {}
    first, second = (
        Cell("coll_like", 0, 84, "global", "SFCN", 0),
        Cell("coll_like", 0, 84, "global", "default, classification", 1),
    )
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


def test_rejections_are_those_of_the_rank_sum_test() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [140, 160])
    scores = [rng.normal(size=300) + shift * y for shift in (0, 0, 0.2, 0.23, 0.4)]
    auc: dict[Key, float] = {("null", 3, 84, "global", "default", seed): roc_auc_score(y, s) for seed, s in enumerate(scores)}
    auc["coll_like", 3, 84, "global", "default", 0] = 0.9
    expected = [mannwhitneyu(s[y == 1], s[y == 0], method="asymptotic", use_continuity=False).pvalue < 0.05 for s in scores]
    (row,) = rejections(auc, {3: (140, 160)})
    assert (row["cells"], row["rejected"]) == (5, sum(expected))
    assert 0 < row["rejected"] < 5


def test_a_cell_that_fails_is_named_when_the_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(cell: Cell) -> Outcome:
        if cell.cohort == 1:
            raise ValueError("no epoch gave a finite loss")
        return Outcome(0.75, 0.7, 0.3, 40, 12.5, "abc")

    class Now(ThreadPoolExecutor):
        def __init__(self, processes: int, mp_context: object) -> None:
            super().__init__(1)

    monkeypatch.setattr(learning, "CELLS", tmp_path / "cells.tsv")
    monkeypatch.setattr(learning, "measure", measured)
    monkeypatch.setattr(learning, "ProcessPoolExecutor", Now)
    monkeypatch.setattr(learning, "open_learning_cohort", lambda *cohort: None)
    cells = [Cell("coll_like", cohort, 84, "global", "default", 0) for cohort in range(3)]
    with pytest.raises(BenchError, match="1 of 3 cells failed, the others are kept; the first: ValueError: no epoch"):
        learning.fill(cells, 1, 1.0)
    assert [cell.cohort for cell in read_cells()] == [0, 2]


def test_an_ensemble_averages_log_odds_and_decides_on_its_tuning_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = np.array(["tuning", "tuning", "internal_test"])
    blank = np.array(["", "", ""])
    trained = {seed: (Rows(part, blank, blank, blank, np.array([0, 1, 1]), np.array(p)), {"epochs": 5, "seconds": 1.5})
               for seed, p in enumerate([[0.2, 0.6, 0.5], [0.2, 0.9, 0.8]])}  # fmt: skip
    monkeypatch.setattr(learning_training, "train_network", lambda cohort, name, recipe, seed, unfinished: trained[seed])
    cohort = SimpleNamespace(labels=np.array([0, 1]), parts={"train": np.array([0, 1])})
    recipe = "--preset", "default"
    rows, facts = learning_training.train_ensemble(cohort, "global", recipe, range(2), tmp_path)  # type: ignore[arg-type]
    assert rows.p == pytest.approx([0.2, expit((logit(0.6) + logit(0.9)) / 2), 2 / 3])
    assert (facts["epochs"], facts["seconds"]) == (10, 3.0)
    assert facts["threshold"] == pytest.approx(expit((logit(0.2) + (logit(0.6) + logit(0.9)) / 2) / 2))
