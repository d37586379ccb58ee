"""The models of a bundle meet scans: on the bundle's voxels, through the bundle's box, as in the study that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.mri import BrainMRIDataModule
from datamodules.store.coarse import on_larger_voxels
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import differing_voxels, open_store
from experiments.bundles.bundle import Bundle, FoldModel
from experiments.bundles.errors import BundleError
from experiments.externals.freeze import calibrated
from experiments.runtime.interruption import stop_if_interrupted
from experiments.statistics.predictions import FloatArray
from experiments.study.covariates import table_of
from experiments.training.trainer import make_trainer, probabilities

OnStep = Callable[[int, int], None]
NOTHING_RANDOM = Augmentation(flip=0.0, shift_mm=0.0, noise=0.0)


def open_scans(
    bundle: Bundle, scans: Sequence[Scan], store: Path, workers: int = 1, on_scan: OnStep | None = None
) -> PreparedCohort:
    """The volumes of scans on the bundle's voxels.

    Args:
        bundle: Whose voxels.
        scans: With the bundle's images.
        store: Folder of prepared volumes.
        workers: Threads that prepare scans.
        on_scan: Called with (done, to do).

    Raises:
        BundleError: if the scans have voxels of another size.
        BrokenScansError: naming all scans whose files cannot be used.
    """
    if sizes := differing_voxels(scans, bundle.scan_grid):
        theirs, ours = sizes
        raise BundleError(
            f"the scans have voxels of {theirs} mm, the bundle's models know {ours} mm; prepare them like its cohort"
        )
    return on_larger_voxels(open_store(scans, store, workers, on_scan, bundle.scan_grid), bundle.voxel_mm)


def scans_data(bundle: Bundle, prepared: PreparedCohort, patients: Sequence[str]) -> BrainMRIDataModule:
    """Scans as the networks see them: all of them the internal test part of a split of their own, in batches, without labels.

    Args:
        bundle: Whose region, box and images.
        prepared: The volumes on the bundle's grid, with the bundle's images.
        patients: The patient of each scan.

    Raises:
        BundleError: if the region does not give the box that the networks were trained with.
        ScanError: if the region comes from each scan's own label map, and a scan has none.
    """
    region, mask = bundle.shown_region, bundle.region.mask
    shown = prepared.showing(bundle.region.images) if bundle.region.images else prepared
    data = BrainMRIDataModule(
        shown, patients, [0] * len(patients), Splits(dict.fromkeys(patients, 0), 3, 0), 0, region, bundle.multiple_of,
        batch_size=bundle.running.batch_size, mask_mode=mask.mode, dilate_mm=mask.dilate_mm,  # type: ignore[arg-type]
        augmentation=NOTHING_RANDOM, least_side=bundle.least_side,
    )  # fmt: skip
    if data.box != bundle.box:
        raise BundleError(
            f"region {bundle.input} lies in {data.box} here, the networks know {bundle.box}; the label map differs"
        )
    return data


def run_model(
    bundle: Bundle, model: FoldModel, data: BrainMRIDataModule, scans: Sequence[Scan], accelerator: str = "auto"
) -> FloatArray:
    """Raw probabilities, or predicted numbers, of one fold's model, (scans,) float64.

    Args:
        bundle: Of which it is a model.
        model: The model.
        data: The scans, from ``scans_data``; it is given the model's covariates.
        scans: The same scans, for their covariates.
        accelerator: As Lightning's Trainer takes it.
    """
    data.covariates = table_of(model.covariates, scans)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": accelerator, "devices": 1, "precision": bundle.running.precision}
    rows, values = probabilities(make_trainer({**options, **quiet}), bundle.module(model.fold), data)
    p = np.empty(len(scans))
    p[rows] = values
    return p


def run_models(
    bundle: Bundle,
    prepared: PreparedCohort,
    scans: Sequence[Scan],
    accelerator: str = "auto",
    on_model: OnStep | None = None,
) -> FloatArray:
    """Raw probabilities, or predicted numbers, of every model on every scan, (scans, folds) float64, folds ascending.

    Raises:
        BundleError: if no scan has a covariate that the networks are given.
        Interrupted: if a signal came.
    """
    for covariate in bundle.models[0].covariates:
        if scans and np.isnan(covariate.values(scans)).all():
            raise BundleError(f"no scan has a known {covariate.name}, which the networks are given; add the column")
    torch.set_num_threads(bundle.running.threads)
    data, columns = scans_data(bundle, prepared, [scan.patient for scan in scans]), []
    for done, model in enumerate(bundle.models, start=1):
        stop_if_interrupted()
        columns.append(run_model(bundle, model, data, scans, accelerator))
        if on_model:
            on_model(done, len(bundle.models))
    return np.stack(columns, axis=1)


def primary(bundle: Bundle, raw: FloatArray) -> FloatArray:
    """The primary model's output (scans,): the mean of the calibrated probabilities, or of the predicted numbers.

    Args:
        bundle: Whose temperatures.
        raw: (scans, folds), from ``run_models``.
    """
    if bundle.target.is_number:
        return np.asarray(raw.mean(axis=1))
    soft = [calibrated(raw[:, k], model.temperature) for k, model in enumerate(bundle.models)]
    return np.asarray(np.mean(soft, axis=0))
