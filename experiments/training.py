"""The parts of one training, put together from settings, and what is done with them."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins.environments import LightningEnvironment
from rich.console import Console
from torch import nn

from datamodules.atomic import write_text
from datamodules.mri import BrainMRIDataModule
from experiments.plan import Run
from experiments.progress import History, RunProgress
from experiments.results import Rows, RunFolder, write_json, write_predictions
from experiments.settings import Settings
from experiments.study import Study
from experiments.tracking import RunIdentity, close_run, load_or_make_key, log_evaluation, open_run, pseudonym
from lightning_modules.callbacks import ResumeRandomness, Stopwatch
from lightning_modules.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from lightning_modules.classifier import StratificationModule
from lightning_modules.metrics import evaluate
from lightning_modules.networks import multiple_of
from regions.catalog import get_region, load_regions

MONITOR = "tuning/loss"
TENSOR_CORES = (7, 0)
"""Compute capability from which GPUs (V100, T4, ...) multiply matrices in fp16 several times as fast as in float32."""


class DivergedError(RuntimeError):
    """The loss became infinite or not a number."""


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
    logger: Any
    close: Callable[[bool], None]


def assemble(settings: Settings, study: Study, run: Run, folder: RunFolder, console: Console, quiet: bool) -> Parts:
    """Build network, data and trainer of one run. All inputs of a fold and seed start from the same random state."""
    pl.seed_everything(np.random.SeedSequence([run.seed, run.fold]).generate_state(1)[0].item(), verbose=False)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()  # a worker trains run after run
    values = settings.parser.instantiate(settings.values)
    network: nn.Module = values.network
    data = _data(settings, values, study, run, multiple_of(network))
    module = StratificationModule(network=network, **settings.values.model.as_dict())
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
    patience = EarlyStopping(MONITOR, patience=settings.values.early_stopping.patience, check_finite=True)
    callbacks = [ResumeRandomness(), stopwatch, history, best, patience, LastCheckpoint(folder.last), progress]
    trainer = _trainer(settings, values, folder, callbacks, logger)

    def close(completed: bool) -> None:
        progress.close()
        close_run(logger, completed=completed)

    return Parts(module, data, trainer, best, stopwatch, history, progress, logger, close)


def _data(settings: Settings, values: Any, study: Study, run: Run, sides: int) -> BrainMRIDataModule:
    options = values.data.as_dict() | {"augmentation": settings.augmentation()}
    own = load_regions(values.regions) if values.regions else None
    return BrainMRIDataModule(
        study.prepared,
        [scan.patient for scan in study.cohort.scans],
        [scan.label for scan in study.cohort.scans],
        study.splits,
        run.fold,
        get_region(run.input, own=own),
        sides,
        seed=run.seed,
        **options,
    )


def _trainer(settings: Settings, values: Any, folder: RunFolder, callbacks: list[pl.Callback], logger: Any) -> pl.Trainer:
    """A trainer that writes below the run's folder only and takes no hint from a scheduler's environment."""
    options = values.trainer.as_dict()
    options["precision"] = options.get("precision") or best_precision(options.get("accelerator", "auto"))
    more = options.pop("logger", None)
    loggers = [one for one in (logger, *(more if isinstance(more, list) else [more])) if one not in (None, True, False)]
    plugins = options.pop("plugins", None) or []
    plugins = plugins if isinstance(plugins, list) else [plugins]
    return pl.Trainer(
        **options | {"default_root_dir": str(folder.path), "use_distributed_sampler": False, "log_every_n_steps": 1},
        num_sanity_val_steps=0,
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[LightningEnvironment(), AtomicCheckpointIO(), *plugins],
    )


def best_precision(accelerator: str) -> str:
    """bf16 on a GPU that computes in it, fp16 with a scaled loss on older GPUs with tensor cores, else float32.

    A CPU computes in float32 also where it has bf16 instructions: the steps of ``lightning_modules.pooling`` are faster than
    bf16 there. ``trainer.precision`` overrules.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed"
        return "16-mixed" if torch.cuda.get_device_capability() >= TENSOR_CORES else "32-true"
    return "32-true"


def fit_and_predict(parts: Parts, study: Study, run: Run, folder: RunFolder) -> dict[str, Any]:
    """Train from the last checkpoint or from the start, then write history, predictions and metrics.

    Raises:
        DivergedError: if no epoch gave a finite tuning loss.
    """
    began = time.perf_counter()
    resume = str(folder.last) if folder.last.is_file() else None
    parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=resume, weights_only=True)
    score = parts.best.best_model_score
    if score is None or not math.isfinite(float(score)):
        raise DivergedError(
            f"no epoch gave a finite {MONITOR}; lower model.learning_rate ({parts.module.hparams['learning_rate']})"
        )
    checkpoint = torch.load(folder.best, map_location="cpu", weights_only=True)
    parts.module.load_state_dict(checkpoint["state_dict"])
    threshold = float(checkpoint["state_dict"]["threshold"])
    rows = predict(parts, study)
    if not parts.trainer.is_global_zero:
        return {}
    metrics = _metrics(rows, threshold)
    write_text(folder.path / "history.tsv", parts.history.table())
    write_predictions(folder.path / "predictions.tsv", rows)
    write_json(folder.path / "metrics.json", metrics | {"threshold": threshold})
    best_epoch = int(checkpoint["epoch"])
    _track(parts, study, rows, metrics, threshold, best_epoch, float(score))
    seconds, samples = parts.stopwatch.seconds, parts.stopwatch.samples
    return {
        "threshold": threshold,
        "best_checkpoint": str(folder.best.relative_to(folder.path)),
        "best_epoch": best_epoch,
        "epochs": len(seconds),
        "store_keys": [
            study.prepared.keys[row] for name in sorted(parts.data.partitions) for row in parts.data.partitions[name]
        ],
        "box": {"start": parts.data.box.start, "stop": parts.data.box.stop},
        "parameters": sum(p.numel() for p in parts.module.parameters()),
        "seconds": {
            "training": sum(seconds),
            "waiting": sum(parts.stopwatch.waiting),
            "epoch": float(np.median(seconds)),
            "this_attempt": time.perf_counter() - began,
        },
        "volumes": parts.data.place,
        "scans_per_second": sum(samples) / sum(seconds),
        "peak_memory_mb": _peak_memory_mb(),
        "device": parts.trainer.strategy.root_device.type,
        "precision": str(parts.trainer.precision),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def predict(parts: Parts, study: Study) -> Rows:
    """Probabilities of tuning and internal test scans, in cohort order within each partition."""
    outputs: Any = parts.trainer.predict(parts.module, datamodule=parts.data, weights_only=True)
    rows = np.concatenate([batch["index"].cpu().numpy() for batch in outputs])
    probability = np.concatenate([batch["probability"].cpu().numpy() for batch in outputs])
    scans = [study.cohort.scans[row] for row in rows]
    tuning = set(parts.data.partitions["tuning"].tolist())
    return Rows(
        np.array(["tuning" if row in tuning else "internal_test" for row in rows]),
        np.array([scan.patient for scan in scans]),
        np.array([scan.session for scan in scans]),
        np.array([scan.site for scan in scans]),
        np.array([scan.label for scan in scans]),
        probability.astype(np.float64),
    )


def _metrics(rows: Rows, threshold: float) -> dict[str, Any]:
    """Metrics of both partitions at the tuning threshold, and at 0.5 beside it."""

    def at(part: Rows, value: float) -> dict[str, float | None]:
        return evaluate(torch.from_numpy(part.p), torch.from_numpy(part.y), value)

    parts = {name: rows.of(name) for name in ("tuning", "internal_test")}
    return {
        name: {"scans": len(part.y), "at_threshold": at(part, threshold), "at_0.5": at(part, 0.5)}
        for name, part in parts.items()
    }


def _track(
    parts: Parts, study: Study, rows: Rows, metrics: dict[str, Any], threshold: float, best_epoch: int, best_loss: float
) -> None:
    if parts.logger is None:
        return
    key = load_or_make_key(study.folder / "pseudonyms.key")
    test = rows.of("internal_test")
    scalars = {"best/epoch": float(best_epoch), "best/tuning_loss": best_loss}
    scalars |= {f"test/{name}": value for name, value in metrics["internal_test"]["at_threshold"].items()}
    names = [pseudonym(patient, key) for patient in test.patient]
    log_evaluation(parts.logger, threshold=threshold, metrics=scalars, y=test.y, p=test.p, pseudonyms=names)


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MB, and of the device where it is a CUDA one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return max(peak, torch.cuda.max_memory_allocated() / 1e6) if torch.cuda.is_available() else peak
