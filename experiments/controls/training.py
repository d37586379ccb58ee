"""One control training: a small network from its start to its predictions, without W&B and without checkpoints.

A control run's folder holds ``run.json`` (state, fingerprint, threshold, times) and ``predictions.tsv``, written last and first
respectively, so that a folder that says complete is complete. An interrupted run starts anew: it takes seconds.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from experiments.controls.cases import Case
from experiments.controls.networks import VoxelMemory
from experiments.runtime.interruption import stop_if_interrupted
from experiments.runtime.precision import best_precision
from experiments.study.run_folder import Rows
from experiments.study.settings import Settings
from experiments.training.assemble import MONITOR
from experiments.training.fit import DivergedError
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import multiple_of


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
        DivergedError: if no epoch gave a finite tuning loss.
    """
    began = time.perf_counter()
    pl.seed_everything(np.random.SeedSequence([seed, fold]).generate_state(1)[0].item(), verbose=False)
    values = settings.parser.instantiate(settings.values)
    network: nn.Module = values.network
    data = _data(settings, values, case, fold, seed, multiple_of(network))
    if case.remembers:
        network = VoxelMemory(2, data.box.shape)
    module = StratificationModule(network=network, **settings.values.model.as_dict())
    best = BestWeights()
    trainer = _trainer(values, best, LEAKY_EPOCHS if case.remembers else None)
    trainer.fit(module, datamodule=data)
    if not best.weights:
        raise DivergedError(f"no epoch gave a finite {MONITOR}; lower model.learning_rate")
    module.load_state_dict(best.weights)
    outputs: Any = trainer.predict(module, datamodule=data)
    index = np.concatenate([batch["index"].cpu().numpy() for batch in outputs])
    probability = np.concatenate([batch["probability"].cpu().numpy() for batch in outputs])
    facts = {
        "threshold": float(module.threshold),  # type: ignore[arg-type]
        "tuning_loss": best.loss,
        "epochs": trainer.current_epoch,
        "seconds": time.perf_counter() - began,
    }
    return _rows(case, data, index, probability), facts


def _data(settings: Settings, values: Any, case: Case, fold: int, seed: int, sides: int) -> BrainMRIDataModule:
    options = values.data.as_dict() | {"augmentation": settings.augmentation()}
    if case.remembers:
        options |= {"augmentation": Augmentation(flip=0, shift_mm=0, noise=0), "batch_size": LEAKY_BATCH}
    return BrainMRIDataModule(
        case.prepared,
        case.groups,
        case.labels,
        case.splits,
        fold,
        case.region,
        sides,
        seed=seed,
        mask=case.mask,
        content=case.content,
        **options,
    )


def _trainer(values: Any, best: BestWeights, epochs: int | None) -> pl.Trainer:
    options = values.trainer.as_dict()
    options["max_epochs"] = epochs or options["max_epochs"]
    options["precision"] = options.get("precision") or best_precision(options.get("accelerator", "auto"))
    patience = EarlyStopping(MONITOR, patience=epochs or values.early_stopping.patience, check_finite=True)
    own = {
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "callbacks": [best, patience],
        "plugins": [LightningEnvironment()],
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**options | own)


def _rows(case: Case, data: BrainMRIDataModule, index: Any, probability: Any) -> Rows:
    scans = [case.scans[row] for row in index]
    tuning = set(data.partitions["tuning"].tolist())
    return Rows(
        np.array(["tuning" if row in tuning else "internal_test" for row in index]),
        np.array([scan.patient for scan in scans]),
        np.array([scan.session for scan in scans]),
        np.array([scan.site for scan in scans]),
        np.array([case.labels[row] for row in index]),
        probability.astype(np.float64),
    )
