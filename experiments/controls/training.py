"""One control training: a small network from its start to its predictions, without W&B and without checkpoints.

A control run's folder holds ``run.json`` (state, fingerprint, threshold, times) and ``predictions.tsv``, written last and first
respectively, so that a folder that says complete is complete. An interrupted run starts again: it takes seconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn

from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from experiments.controls.cases import Case
from experiments.controls.networks import VoxelMemory
from experiments.runtime.interruption import stop_if_interrupted
from experiments.study.run_folder import Rows
from experiments.study.settings import Settings
from experiments.study.trainer_options import trainer_options
from experiments.training.assemble import MONITOR, redrawn, seed_of
from experiments.training.trainer import (
    make_data,
    make_module,
    make_trainer,
    prediction_rows,
    probabilities,
    scale_of,
    truth_of,
)
from lightning_modules.errors import TrainingError
from lightning_modules.liveness import LivingNetwork


class BestWeights(pl.Callback):
    """Keep the weights of the epoch with the lowest tuning loss in memory; stop after a batch when a signal has come."""

    def __init__(self) -> None:
        self.loss = float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop here if a signal has come."""
        stop_if_interrupted()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        loss = float(trainer.callback_metrics[MONITOR])
        if loss < self.loss:
            self.loss, self.weights = loss, copy.deepcopy(pl_module.state_dict())


LEAKY_EPOCHS = 20
LEAKY_BATCH = 8


def train(settings: Settings, case: Case, fold: int, seed: int) -> tuple[Rows, dict[str, Any]]:
    """Train one control on one fold.

    Returns:
        Predictions of tuning and internal test scans, and the facts of run.json.

    Raises:
        TrainingError: if no epoch gave a finite tuning loss, or the output of the best one does not depend on the scan.
    """
    began = time.perf_counter()
    seed_of(seed, fold)
    torch.set_num_threads(settings.values.threads)
    values = settings.instantiated(case.region.images)
    network: nn.Module = values.network
    data = _data(settings, values, case, fold, seed, network)
    if case.remembers:
        network = VoxelMemory(len(data.prepared.names), data.box.shape)
    module = make_module(settings, network, data)
    best = BestWeights()
    draw = None if case.remembers else lambda number: redrawn(settings, seed, fold, number, case.region.images)
    living = LivingNetwork(data.training_images, draw)
    trainer = _trainer(values, [best, living], LEAKY_EPOCHS if case.remembers else None)
    trainer.fit(module, datamodule=data)
    if not best.weights:
        raise TrainingError(f"no epoch gave a finite {MONITOR}; lower model.learning_rate")
    module.load_state_dict(best.weights)
    rows, p = probabilities(trainer, module, data)
    facts = {
        **scale_of(module),
        "tuning_loss": best.loss,
        "epochs": trainer.current_epoch,
        "initialisation": living.initialisation,
        "seconds": time.perf_counter() - began,
    }
    return prediction_rows(data, case.scans, truth_of(module, data), rows, p), facts


def _data(settings: Settings, values: Any, case: Case, fold: int, seed: int, network: nn.Module) -> BrainMRIDataModule:
    options: dict[str, Any] = {"seed": seed, "mask": case.mask, "content": case.content, "scores": case.scores}
    if case.remembers:
        options |= {"augmentation": Augmentation(flip=0, shift_mm=0, noise=0), "batch_size": LEAKY_BATCH}
    return make_data(
        settings, values, case.prepared, case.groups, case.labels, case.splits, fold, case.region, network, **options
    )


def _trainer(values: Any, callbacks: Sequence[pl.Callback], epochs: int | None) -> pl.Trainer:
    options = trainer_options(values) | {"devices": 1, "enable_checkpointing": False}
    options["max_epochs"] = epochs or options["max_epochs"]
    patience = EarlyStopping(MONITOR, patience=epochs or values.early_stopping.patience, check_finite=True)
    return make_trainer(options, [*callbacks, patience])
