"""One control training: a small network from its start to its predictions, without W&B and without checkpoints.

A control run's folder holds ``run.json`` (state, fingerprint, threshold, times) and ``predictions.tsv``, written last and first
respectively, so that a folder that says complete is complete. An interrupted run starts again: it takes seconds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from experiments.controls.cases import Case
from experiments.controls.networks import VoxelMemory
from experiments.study.run_folder import Rows
from experiments.study.settings import Settings
from experiments.training.assemble import redrawn, seed_of
from experiments.training.in_memory import fit_in_memory
from experiments.training.trainer import make_data, make_module, prediction_rows, probabilities, scale_of, truth_of

LEAKY_EPOCHS = 20
LEAKY_BATCH = 8


def train(settings: Settings, case: Case, fold: int, seed: int, last: Path | None = None) -> tuple[Rows, dict[str, Any]]:
    """Train one control on one fold.

    Args:
        settings: The recipe.
        case: Scans, labels and input.
        fold: The fold.
        seed: Of weights, order and augmentation.
        last: Where its state after each epoch is kept for a long training that may be stopped; None keeps none.

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
    draw = None if case.remembers else lambda number: redrawn(settings, seed, fold, number, case.region.images)
    fitted = fit_in_memory(module, data, values, draw, LEAKY_EPOCHS if case.remembers else None, last)
    rows, p = probabilities(fitted.trainer, module, data)
    facts = {**scale_of(module), **fitted.facts, "seconds": fitted.earlier_seconds + time.perf_counter() - began}
    return prediction_rows(data, case.scans, truth_of(module, data), rows, p), facts


def _data(settings: Settings, values: Any, case: Case, fold: int, seed: int, network: nn.Module) -> BrainMRIDataModule:
    options: dict[str, Any] = {"seed": seed, "mask": case.mask, "content": case.content, "scores": case.scores}
    if case.remembers:
        options |= {"augmentation": Augmentation(flip=0, shift_mm=0, noise=0), "batch_size": LEAKY_BATCH}
    return make_data(
        settings, values, case.prepared, case.groups, case.labels, case.splits, fold, case.region, network, **options
    )
