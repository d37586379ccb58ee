"""Fit one run and predict with its best epoch: history, predictions and metrics."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from datamodules.files.atomic import write_json, write_text
from datamodules.mri import BrainMRIDataModule
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.runs import Run
from experiments.study.study import Study
from experiments.study.trainer_options import SettingsError
from experiments.tracking.privacy import load_or_make_key, pseudonym
from experiments.tracking.wandb_runs import log_evaluation
from experiments.training.assemble import MONITOR, Parts
from experiments.training.trainer import prediction_rows, probabilities, scale_of, truth_of
from lightning_modules.checkpointing import AtomicCheckpointIO
from lightning_modules.errors import TrainingError
from lightning_modules.metrics import evaluate, evaluate_number
from lightning_modules.numbers import NumberModule


def fit_and_predict(parts: Parts, study: Study, run: Run, folder: RunFolder) -> dict[str, Any]:
    """Train from the last checkpoint or from the start, then write history, predictions and metrics.

    Raises:
        TrainingError: if no epoch gave a finite tuning loss, or the output of the best one does not depend on the scan.
        SettingsError: if no epoch was finished.
    """
    began = time.perf_counter()
    resume = str(folder.last) if folder.last.is_file() else None
    parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=resume, weights_only=True)
    if MONITOR not in parts.trainer.callback_metrics:
        raise SettingsError("no epoch was finished, so none could be chosen; raise trainer.max_steps or trainer.max_time")
    score = parts.best.best_model_score
    if score is None or not math.isfinite(float(score)):
        raise TrainingError(
            f"no epoch gave a finite {MONITOR}; lower model.learning_rate ({parts.module.hparams['learning_rate']})"
        )
    checkpoint = AtomicCheckpointIO().load_checkpoint(folder.best)
    parts.module.load_state_dict(checkpoint["state_dict"])
    rows = predict(parts, study)
    if not parts.trainer.is_global_zero:
        return {}
    if isinstance(parts.module, NumberModule):
        outcome = number_outcome(rows, parts.module)
    else:
        outcome = class_outcome(rows, parts.data, float(parts.module.threshold))  # type: ignore[arg-type]
    write_text(folder.path / "history.tsv", parts.history.table())
    write_predictions(folder.path / "predictions.tsv", rows)
    write_json(folder.path / "metrics.json", outcome.metrics)
    best_epoch = int(checkpoint["epoch"])
    _track(parts, study, rows, outcome, best_epoch, float(score))
    seconds, samples = parts.stopwatch.seconds, parts.stopwatch.samples
    return {
        **outcome.facts,
        "best_checkpoint": str(folder.best.relative_to(folder.path)),
        "best_epoch": best_epoch,
        "epochs": len(seconds),
        "initialisation": parts.living.initialisation,
        **outcome.tuning,
        "store_keys": [
            key
            for name in sorted(parts.data.partitions)
            for row in parts.data.partitions[name]
            for key in filter(None, study.prepared.scans[row].images)
        ],
        "box": {"start": parts.data.box.start, "stop": parts.data.box.stop},
        "parameters": sum(p.numel() for p in parts.module.parameters()),
        **_pretrained(parts.module.network),
        **({"covariates": [covariate.plain() for covariate in parts.covariates]} if parts.covariates else {}),
        "seconds": {
            "training": sum(seconds),
            "waiting": sum(parts.stopwatch.waiting),
            "epoch": float(np.median(seconds)),
            "this_attempt": time.perf_counter() - began,
        },
        "volumes": parts.data.place,
        "scans_per_second": sum(samples) / sum(seconds),
        "peak_memory_mb": _peak_memory_mb(),
        "threads": torch.get_num_threads(),
        **_device(parts.trainer.strategy.root_device),
        "precision": str(parts.trainer.precision),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def predict(parts: Parts, study: Study) -> Rows:
    """Probabilities of tuning and internal test scans, in cohort order within each partition."""
    rows, p = probabilities(parts.trainer, parts.module, parts.data)
    return prediction_rows(parts.data, study.cohort.scans, truth_of(parts.module, parts.data), rows, p)


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        metrics: Content of metrics.json.
        facts: What run.json says of how predictions are read: the threshold, or the scale of a number.
        tuning: What run.json says of the tuning part, beside a constant's.
        test: Scores of the internal test scans.
        threshold: Where classes are decided; None for a number.
    """

    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]
    tuning: Mapping[str, float]
    test: Mapping[str, float | None]
    threshold: float | None = None


def class_outcome(rows: Rows, data: BrainMRIDataModule, threshold: float) -> Outcome:
    """What a run that tells two classes apart found."""
    metrics = _metrics(rows, threshold) | {"threshold": threshold}
    losses = tuning_losses(rows.of("tuning"), data)
    return Outcome(metrics, {"threshold": threshold}, losses, metrics["internal_test"]["at_threshold"], threshold)


def number_outcome(rows: Rows, module: NumberModule) -> Outcome:
    """What a run that predicts a number found."""
    mean = float(module.mean)
    parts = {name: rows.of(name) for name in ("tuning", "internal_test")}
    scores = {
        name: evaluate_number(torch.from_numpy(part.p), torch.from_numpy(part.y).double(), mean, module.steps)
        for name, part in parts.items()
    }
    tuning = parts["tuning"]
    errors = {"tuning_mae": np.abs(tuning.p - tuning.y).mean(), "tuning_mae_of_mean": np.abs(mean - tuning.y).mean()}
    return Outcome(
        {name: {"scans": len(part.y), **scores[name]} for name, part in parts.items()},
        scale_of(module),
        {name: float(value) for name, value in errors.items()},
        scores["internal_test"],
    )


def tuning_losses(tuning: Rows, data: BrainMRIDataModule) -> dict[str, float]:
    """Log loss of the tuning scans, and what the training part's prevalence as each scan's probability would give there."""
    y = torch.from_numpy(tuning.y).double()
    prevalence = torch.full_like(y, data.prevalence)
    return {
        "tuning_log_loss": float(F.binary_cross_entropy(torch.from_numpy(tuning.p), y)),
        "tuning_log_loss_of_prevalence": float(F.binary_cross_entropy(prevalence, y)),
    }


def _metrics(rows: Rows, threshold: float) -> dict[str, Any]:
    """Metrics of both partitions at the run's threshold, and at 0.5 beside it."""

    def at(part: Rows, value: float) -> dict[str, float | None]:
        return evaluate(torch.from_numpy(part.p), torch.from_numpy(part.y), value)

    parts = {name: rows.of(name) for name in ("tuning", "internal_test")}
    return {
        name: {"scans": len(part.y), "at_threshold": at(part, threshold), "at_0.5": at(part, 0.5)}
        for name, part in parts.items()
    }


def _track(parts: Parts, study: Study, rows: Rows, outcome: Outcome, best_epoch: int, best_loss: float) -> None:
    if parts.logger is None:
        return
    key = load_or_make_key(study.folder / "pseudonyms.key")
    test = rows.of("internal_test")
    scalars = {"best/epoch": float(best_epoch), "best/tuning_loss": best_loss}
    scalars |= {f"test/{name}": value for name, value in outcome.test.items() if value is not None}
    names = [pseudonym(patient, key) for patient in test.patient]
    log_evaluation(parts.logger, threshold=outcome.threshold, metrics=scalars, y=test.y, p=test.p, pseudonyms=names)


def _pretrained(network: nn.Module) -> dict[str, Any]:
    """Where the weights that a network started from come from, and how many were trained, if it says so."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return {"pretrained": network.pretrained | {"trained": trained}} if hasattr(network, "pretrained") else {}  # type: ignore[operator]


def _device(device: torch.device) -> dict[str, str]:
    name = {"device_name": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {"device": device.type} | name


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MB, and of the device where it is a CUDA one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return max(peak, torch.cuda.max_memory_allocated() / 1e6) if torch.cuda.is_available() else peak
