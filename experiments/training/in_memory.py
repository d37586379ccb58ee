"""A training that leaves no run folder: the best epoch's weights are kept in memory, and nothing is tracked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn

from datamodules.mri import BrainMRIDataModule
from experiments.runtime.interruption import stop_if_interrupted
from experiments.study.trainer_options import trainer_options
from experiments.training.assemble import MONITOR
from experiments.training.trainer import make_trainer
from lightning_modules.callbacks import ResumeRandomness, Stopwatch
from lightning_modules.checkpointing import AtomicCheckpointIO, LastCheckpoint
from lightning_modules.errors import TrainingError
from lightning_modules.liveness import LivingNetwork


class BestWeights(pl.Callback):
    """Keep the weights of the epoch with the lowest tuning loss in memory; stop after a batch when a signal has come."""

    def __init__(self) -> None:
        self.loss = float("inf")
        self.weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far."""
        return {"loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best weights so far."""
        self.loss, self.weights = state_dict["loss"], state_dict["weights"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop here if a signal has come."""
        stop_if_interrupted()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        loss = float(trainer.callback_metrics[MONITOR])
        if loss < self.loss:
            self.loss, self.weights = loss, copy.deepcopy(pl_module.state_dict())


@dataclass(frozen=True)
class Fitted:
    """A training that has ended: its trainer, what run.json says of it, and the seconds of the parts before it was resumed."""

    trainer: pl.Trainer
    facts: dict[str, Any]
    earlier_seconds: float


def fit_in_memory(
    module: pl.LightningModule,
    data: BrainMRIDataModule,
    values: Any,
    redraw: Callable[[int], nn.Module] | None = None,
    epochs: int | None = None,
    last: Path | None = None,
) -> Fitted:
    """Train a module and give it the weights of its best epoch.

    Args:
        module: What is trained.
        data: What it is trained on.
        values: Settings, instantiated.
        redraw: The network of a further initialisation, by its number; None where a dead network is not drawn again.
        epochs: Epochs of a training that does not stop early; None for those of the settings.
        last: Where the state after each epoch is kept, so that a training that was stopped goes on from it; None keeps none.

    Raises:
        TrainingError: if no epoch gave a finite tuning loss, or the output of the best one does not depend on the scan.
    """
    best, living = BestWeights(), LivingNetwork(data.training_images, redraw)
    options = trainer_options(values) | {"devices": 1, "enable_checkpointing": False}
    options["max_epochs"] = epochs or options["max_epochs"]
    patience = EarlyStopping(MONITOR, patience=epochs or values.early_stopping.patience, check_finite=True)
    stopwatch = Stopwatch()
    kept = [ResumeRandomness(), LastCheckpoint(last)] if last else []
    plugins = [AtomicCheckpointIO()] if last else []
    trainer = make_trainer(options, [best, living, patience, stopwatch, *kept], plugins=plugins)
    resume = str(last) if last and last.is_file() else None
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if not best.weights:
        raise TrainingError(f"no epoch gave a finite {MONITOR}; lower model.learning_rate")
    module.load_state_dict(best.weights)
    facts = {"tuning_loss": best.loss, "epochs": trainer.current_epoch, "initialisation": living.initialisation}
    return Fitted(trainer, facts, stopwatch.earlier)
