"""Scans meet the networks of a bundle: outputs and features of every fold in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datamodules.cohort.records import Scan
from datamodules.mri import BrainMRIDataModule
from datamodules.store.coarse import on_larger_voxels
from datamodules.store.prepared import PreparedCohort
from experiments.bundles.bundle import Bundle, FoldModel
from experiments.bundles.running import scans_data
from experiments.runtime.interruption import stop_if_interrupted
from experiments.statistics.feature_distance import FeatureReference
from experiments.statistics.predictions import FloatArray
from experiments.study.covariates import table_of
from experiments.training.trainer import make_trainer, probabilities
from lightning_modules.head_inputs import head_inputs


@dataclass(frozen=True)
class Outputs:
    """Of some scans: (scans, folds) outputs of the networks, and (scans,) how far their features lie, nan where unknown."""

    raw: FloatArray
    feature_z: FloatArray


def run_networks(
    bundle: Bundle,
    prepared: PreparedCohort,
    scans: Sequence[Scan],
    accelerator: str = "auto",
    on_model: Callable[[], object] | None = None,
) -> Outputs:
    """Outputs and features of every network of a bundle.

    Args:
        bundle: The bundle.
        prepared: The scans' volumes on their own voxels.
        scans: The same scans, for their covariates.
        accelerator: As Lightning's Trainer takes it.
        on_model: Called after each network.

    Raises:
        EmptyRegionError: if the region comes from each scan's own label map, and one has no voxel of it.
        Interrupted: if a signal came.
    """
    torch.set_num_threads(bundle.running.threads)
    data = scans_data(bundle, on_larger_voxels(prepared, bundle.voxel_mm), [scan.patient for scan in scans])
    references = {entry["fold"]: FeatureReference.of(_without_fold(entry)) for entry in bundle.features.get("folds", ())}
    columns, distances = [], []
    for model in bundle.models:
        stop_if_interrupted()
        data.covariates = table_of(model.covariates, scans)
        raw, features = _run(bundle, model, data, accelerator, keep=model.fold in references)
        columns.append(raw)
        if features is not None:
            distances.append(references[model.fold].robust_z(features))
        if on_model:
            on_model()
    median = np.median(np.stack(distances, axis=1), axis=1) if distances else np.full(len(scans), np.nan)
    return Outputs(np.stack(columns, axis=1), median)


def _without_fold(entry: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in entry.items() if key != "fold"}


def _run(
    bundle: Bundle, model: FoldModel, data: BrainMRIDataModule, accelerator: str, keep: bool
) -> tuple[FloatArray, FloatArray | None]:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": accelerator, "devices": 1, "precision": bundle.running.precision}
    module = bundle.module(model.fold)
    trainer = make_trainer({**options, **quiet})
    if not keep:
        rows, values = probabilities(trainer, module, data)
        return _ordered(rows, values), None
    with head_inputs(module.network) as entered:
        rows, values = probabilities(trainer, module, data)
    return _ordered(rows, values), _ordered(rows, _stacked(entered))


def _stacked(batches: Sequence[Tensor]) -> FloatArray:
    return np.asarray(torch.cat(list(batches)).double().numpy())


def _ordered(rows: np.ndarray[tuple[int], np.dtype[np.int64]], values: FloatArray) -> FloatArray:
    ordered = np.empty_like(values)
    ordered[rows] = values
    return ordered
