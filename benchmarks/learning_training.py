"""Train a contender on one cohort as a study's controls are trained: its data path, loss, schedule and stopping rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.learning_cohort import LearningCohort
from benchmarks.learning_networks import Conv5FC3
from datamodules.cohort.target import Target
from datamodules.store.boxes import region_step
from experiments.analysis.ensembles import mean_log_odds
from experiments.controls.cases import Case, with_targets
from experiments.controls.training import train
from experiments.study.run_folder import Rows
from experiments.study.settings import Settings, parse_settings
from lightning_modules.decision import choose_threshold
from regions.catalog import REGIONS


def train_network(
    cohort: LearningCohort, name: str, recipe: Sequence[str], seed: int, unfinished: Path
) -> tuple[Rows, dict[str, Any]]:
    """Train on the training part, keep the epoch of the lowest tuning loss, predict the tuning and the test part.

    Args:
        cohort: One size of a cohort.
        name: The input.
        recipe: Settings as on the command line.
        seed: Of weights, order and augmentation.
        unfinished: Folder of the state after each epoch, from which a training that was stopped goes on.

    Returns:
        The predictions, and what ``train`` says of the training.
    """
    settings = _settings(cohort, name, recipe)
    case = with_targets(
        Case(cohort.scans, cohort.prepared, cohort.patients, (), cohort.splits, REGIONS[name]), cohort.scans, Target()
    )
    return train(settings, case, fold=0, seed=seed, last=unfinished / f"{seed}.ckpt")


def train_ensemble(
    cohort: LearningCohort, name: str, recipe: Sequence[str], seeds: Sequence[int], unfinished: Path
) -> tuple[Rows, dict[str, Any]]:
    """Train a network for each seed and average their log odds; the threshold is chosen on the averaged tuning part."""
    trained = [train_network(cohort, name, recipe, seed, unfinished) for seed in seeds]
    first = trained[0][0]
    averaged = replace(first, p=mean_log_odds([rows.p for rows, _ in trained]))
    tuning, prevalence = averaged.of("tuning"), float(cohort.labels[cohort.parts["train"]].mean())
    threshold = choose_threshold(_settings(cohort, name, recipe).values.label.decision, tuning.y, tuning.p, prevalence)
    sums = {fact: sum(facts[fact] for _, facts in trained) for fact in ("epochs", "seconds")}
    return averaged, {"threshold": threshold, **sums}


def _settings(cohort: LearningCohort, name: str, recipe: Sequence[str]) -> Settings:
    shape = shape_of(cohort, name) if recipe[-1].endswith(Conv5FC3.__name__) else ()
    return parse_settings([*recipe, *shape, "--threads", "1", "--tracking.mode", "disabled"])


def shape_of(cohort: LearningCohort, name: str) -> tuple[str, str]:
    """The setting that tells ``Conv5FC3`` the box of an input."""
    _, box = region_step(REGIONS[name], cohort.prepared.grid, "template", 0.0, Conv5FC3.multiple_of, Conv5FC3.smallest_side)
    return "--network.shape", str(list(box.shape))
