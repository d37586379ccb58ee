"""The parts of one training, put together from settings, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from rich.console import Console
from torch import nn

from datamodules.mri import BrainMRIDataModule
from experiments.study.covariates import Covariate, fit_covariates, table_of
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from experiments.study.study import Study
from experiments.study.trainer_options import trainer_options
from experiments.tracking.options import RunIdentity
from experiments.tracking.wandb_runs import close_run, open_run
from experiments.training.progress import History, RunProgress
from experiments.training.trainer import make_data, make_module, make_trainer
from lightning_modules.callbacks import ResumeRandomness, Stopwatch
from lightning_modules.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from lightning_modules.classifier import StratificationModule
from lightning_modules.liveness import LivingNetwork

MONITOR = "tuning/loss"


@dataclass(frozen=True)
class Parts:
    """What a training consists of."""

    module: StratificationModule
    data: BrainMRIDataModule
    trainer: pl.Trainer
    best: BestCheckpoint
    stopwatch: Stopwatch
    history: History
    progress: RunProgress
    living: LivingNetwork
    covariates: list[Covariate]
    logger: Any
    close: Callable[[bool, str], None]


def assemble(settings: Settings, study: Study, run: Run, folder: RunFolder, console: Console, quiet: bool) -> Parts:
    """Build network, data and trainer of one run. All inputs of a fold and seed start from the same random state."""
    seed_of(run.seed, run.fold)
    torch.set_num_threads(settings.values.threads)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()  # a worker trains run after run
    images = (run.region or settings.regions[run.input]).images
    values = settings.instantiated(images)
    network: nn.Module = values.network
    parts = study.splits.partitions(run.fold, [scan.patient for scan in study.cohort.scans])
    covariates = fit_covariates(settings.covariates(images), study.cohort, parts, run.fold)
    for covariate in covariates:
        if covariate.message and not quiet:
            console.print(f"{run.name}: {covariate.message}")
    data = _data(settings, values, study, run, network, covariates=table_of(covariates, study.cohort.scans))
    module = make_module(settings, network, data)
    logger = open_run(
        settings.tracking(),
        RunIdentity(study=settings.study, input=run.input, fold=run.fold, seed=run.seed, folds=study.splits.folds),
        folder.path,
        settings.result_settings() | {"split_hash": study.splits.hash, "cohort_hash": study.cohort_hash},
        patients=study.cohort.patients,
    )
    best = BestCheckpoint(folder.best, MONITOR)
    stopwatch, history = Stopwatch(), History()
    progress = RunProgress(run.name, folder.path / "progress.json", console, quiet)
    patience = EarlyStopping(MONITOR, patience=settings.values.early_stopping.patience, check_finite=True, strict=False)
    living = LivingNetwork(data.training_images, lambda number: redrawn(settings, run.seed, run.fold, number, images))
    callbacks = [ResumeRandomness(), living, stopwatch, history, best, patience, LastCheckpoint(folder.last), progress]
    trainer = _trainer(settings, values, folder, callbacks, logger)

    def close(completed: bool, failure: str) -> None:
        progress.close()
        close_run(logger, completed=completed, failure=failure)

    return Parts(module, data, trainer, best, stopwatch, history, progress, living, covariates, logger, close)


def seed_of(*numbers: int) -> None:
    """Start all random generators from a seed, a fold, and the number of an initialisation after the first."""
    pl.seed_everything(np.random.SeedSequence(numbers).generate_state(1)[0].item(), verbose=False)


def redrawn(settings: Settings, seed: int, fold: int, initialisation: int, images: Sequence[str] = ()) -> nn.Module:
    """The network with the weights of a further initialisation; the training goes on in that one's random state."""
    seed_of(seed, fold, initialisation)
    network: nn.Module = settings.instantiated(images).network
    return network


def _data(settings: Settings, values: Any, study: Study, run: Run, network: nn.Module, **more: Any) -> BrainMRIDataModule:
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    region = run.region or settings.regions[run.input]
    options = {"seed": run.seed, "scores": study.cohort.rule.scores_of(scans), **more}
    return make_data(settings, values, study.prepared, patients, labels, study.splits, run.fold, region, network, **options)


def _trainer(settings: Settings, values: Any, folder: RunFolder, callbacks: list[pl.Callback], logger: Any) -> pl.Trainer:
    """A trainer that writes below the run's folder only."""
    options = trainer_options(values) | {"default_root_dir": str(folder.path)}
    return make_trainer(options, callbacks, logger or False, [AtomicCheckpointIO()])
