"""Train one contender on one cohort, exactly as a run trains: the product's data path, loss, schedule and stopping rule."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from benchmarks.learning_cohort import LearningCohort
from benchmarks.learning_networks import CONV5_FC3, FOREIGN, Conv5FC3
from datamodules.store.boxes import region_step
from experiments.controls.training import BestWeights
from experiments.study.settings import Settings, parse_settings
from experiments.study.trainer_options import trainer_options
from experiments.training.assemble import MONITOR, seed_of
from experiments.training.trainer import make_data, make_module, make_trainer, probabilities
from regions.catalog import REGIONS


def train_network(
    cohort: LearningCohort, name: str, contender: str, arguments: Sequence[str], seed: int
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Train on the training part, keep the epoch of the lowest tuning loss, predict the test part.

    Args:
        cohort: One size of a cohort.
        name: The input.
        contender: A foreign network's name, or anything else for the network that the settings name.
        arguments: Settings as on the command line.
        seed: Of weights, order and augmentation.

    Returns:
        (tests,) probabilities, and threshold, epochs and seconds.
    """
    began = time.perf_counter()
    settings = parse_settings([*arguments, "--tracking.mode", "disabled"])
    torch.set_num_threads(1)
    seed_of(seed, 0)
    values = settings.instantiated()
    network = _network(cohort, name, contender) or values.network
    scans = cohort.scans
    labels = [scan.label for scan in scans]
    data = make_data(
        settings, values, cohort.prepared, cohort.patients, labels, cohort.splits, 0, REGIONS[name], network, seed=seed,
        scores=[scan.edss for scan in scans],
    )  # fmt: skip
    module = make_module(settings, network, data)
    best = BestWeights()
    trainer = _trainer(settings, values, best)
    trainer.fit(module, datamodule=data)
    module.load_state_dict(best.weights)
    rows, p = probabilities(trainer, module, data)
    facts = {
        "threshold": float(module.threshold),  # type: ignore[arg-type]
        "epochs": trainer.current_epoch,
        "seconds": time.perf_counter() - began,
    }
    by_row = dict(zip(rows.tolist(), p.tolist(), strict=True))
    return np.array([by_row[row] for row in cohort.parts["internal_test"].tolist()]), facts


def _network(cohort: LearningCohort, name: str, contender: str) -> nn.Module | None:
    if contender != CONV5_FC3:
        return FOREIGN[contender]() if contender in FOREIGN else None
    _, box = region_step(REGIONS[name], cohort.prepared.grid, "template", 0.0, Conv5FC3.multiple_of, Conv5FC3.smallest_side)
    return Conv5FC3(box.shape)


def _trainer(settings: Settings, values: Any, best: pl.Callback) -> pl.Trainer:
    options = trainer_options(values) | {"devices": 1, "enable_checkpointing": False}
    patience = EarlyStopping(MONITOR, patience=settings.values.early_stopping.patience, check_finite=True)
    return make_trainer(options, [best, patience])
