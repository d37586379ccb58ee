"""Train one contender on one cohort as a study's controls are trained: its data path, loss, schedule and stopping rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.learning_cohort import LearningCohort
from benchmarks.learning_networks import Conv5FC3
from datamodules.store.boxes import region_step
from experiments.controls.cases import Case, with_targets
from experiments.controls.training import train
from experiments.study.settings import parse_settings
from regions.catalog import REGIONS


def train_network(
    cohort: LearningCohort, name: str, recipe: Sequence[str], seed: int
) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Train on the training part, keep the epoch of the lowest tuning loss, predict the test part.

    Args:
        cohort: One size of a cohort.
        name: The input.
        recipe: Settings as on the command line.
        seed: Of weights, order and augmentation.

    Returns:
        (tests,) probabilities, and what ``train`` says of the training.
    """
    shape = shape_of(cohort, name) if recipe[-1].endswith(Conv5FC3.__name__) else ()
    settings = parse_settings([*recipe, *shape, "--threads", "1", "--tracking.mode", "disabled"])
    case = with_targets(Case(cohort.scans, cohort.prepared, cohort.patients, (), cohort.splits, REGIONS[name]), cohort.scans)
    rows, facts = train(settings, case, fold=0, seed=seed)
    return rows.of("internal_test").p, facts


def shape_of(cohort: LearningCohort, name: str) -> tuple[str, str]:
    """The setting that tells ``Conv5FC3`` the box of an input."""
    _, box = region_step(REGIONS[name], cohort.prepared.grid, "template", 0.0, Conv5FC3.multiple_of, Conv5FC3.smallest_side)
    return "--network.shape", str(list(box.shape))
