"""Where the networks look in one scan: SmoothGrad over that of networks with permuted labels, of inputs that may be explained.

An input has such a map only where ``explain`` says of the study that its map is shown; of any other input nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from datamodules.cohort.records import Scan
from datamodules.files.atomic import file_sha256, write_atomically
from datamodules.files.sealed import read_sealed
from datamodules.store.coarse import on_larger_voxels
from datamodules.store.prepared import PreparedCohort
from experiments.bundles.bundle import Bundle
from experiments.bundles.running import scans_data
from experiments.explaining.gradients import DRAWS, shown_voxels, smooth_gradient
from experiments.explaining.group_maps import SPACE, Volume, on_grid, ratio, write_nifti
from experiments.explaining.maps import normalised, test_scans
from experiments.explaining.pictures import read_map
from experiments.predicting.errors import PredictError
from experiments.predicting.files import bids_stem
from experiments.predicting.records import NOTICE, ScanOutcome
from experiments.rendering.heat import cuts, picture_png, upper_limit
from experiments.runtime.interruption import stop_if_interrupted
from experiments.study.covariates import table_of
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run

EXPLAINED, SHOWN, PERMUTED = "explain.json", "shown", "permuted"


@dataclass(frozen=True)
class Relevance:
    """Inputs whose maps may be shown, with the mean map of networks with permuted labels, and how closely is looked.

    ``digest`` is the SHA-256 of the explain.json that says so.
    """

    permuted: Mapping[str, Volume]
    draws: int = DRAWS
    digest: str = ""


def allowed_maps(study: Path, bundles: Sequence[Bundle]) -> Relevance:
    """The inputs of a study that may be explained.

    Raises:
        PredictError: if the study was not explained, other runs of it were, or no input may be.
        DamagedError: if explain.json is not what was written.
    """
    try:
        content = read_sealed(study / EXPLAINED, "make it again: make explain")
    except FileNotFoundError:
        raise PredictError(f"--maps needs {study / EXPLAINED}; make it first: make explain STUDY={study.name}") from None
    said = {row["input"]: row for row in content["inputs"]}
    asked = [bundle for bundle in bundles if bundle.input in said]
    for bundle in asked:
        _refuse_other_runs(study, bundle, content.get("predictions", {}))
    rows = [said[bundle.input] for bundle in asked if said[bundle.input]["state"] == SHOWN]
    permuted = {row["input"]: read_map(study / row["maps"][PERMUTED])[0] for row in rows if PERMUTED in row["maps"]}
    if not permuted:
        words = "; ".join(f"{bundle.input}: {said[bundle.input]['verdict']}" for bundle in asked) or "no input was explained"
        raise PredictError(f"--maps: no input of {study.name} may be shown ({words}); leave --maps out")
    return Relevance(permuted, int(content["method"]["draws"]), file_sha256(study / EXPLAINED))


def _refuse_other_runs(study: Path, bundle: Bundle, explained: Mapping[str, str]) -> None:
    """Refuse an explanation of other runs than those that a bundle of the study holds; by the SHA-256 of their predictions."""
    for model in bundle.models:
        run = Run(bundle.input, model.fold, int(bundle.provenance["seed"]))
        if explained.get(run.name) != RunFolder(run.folder(study)).facts().get("files", {}).get("predictions.tsv"):
            again = f"make explain STUDY={study.name}"
            raise PredictError(f"--maps: {study / EXPLAINED} does not tell of {run.name} as it is now; make it again: {again}")


def relevance_map(bundle: Bundle, prepared: PreparedCohort, scan: Scan, relevance: Relevance, accelerator: str) -> Volume:
    """How much more the folds' networks look at each voxel than networks with permuted labels do, (I, J, K) on their grid.

    Args:
        bundle: The input's networks.
        prepared: The scan alone, on its own voxels.
        scan: The same scan, for its covariates.
        relevance: What it is compared with.
        accelerator: ``cpu`` keeps the GPU out.

    Raises:
        Interrupted: if a signal came.
    """
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    volumes = on_larger_voxels(prepared, bundle.voxel_mm)
    data = scans_data(bundle, volumes, [scan.patient])
    total = np.zeros(data.box.shape, np.float32)
    for model in bundle.models:
        stop_if_interrupted()
        data.covariates = table_of(model.covariates, [scan])
        module = bundle.module(model.fold).to(device)
        for _, image, covariates in test_scans(data, device):
            noise = torch.Generator(device).manual_seed(model.fold)
            smooth = smooth_gradient(module, image, relevance.draws, generator=noise, covariates=covariates)
            total += normalised(smooth[0], shown_voxels(image)[0, 0])[0] / len(bundle.models)
    values = on_grid(total, data.box, volumes.grid.shape)
    return ratio(values, relevance.permuted[bundle.input], values > 0)


def map_stem(out: Path, patient: str, session: str, name: str) -> Path:
    """Where the map of an input lies, without its ending."""
    folder, stem = bids_stem(patient, session)
    label = "".join(part for part in name if part.isalnum())
    return out / folder / f"{stem}_space-{SPACE}_desc-{label}_relevance"


def write_maps(
    out: Path, outcome: ScanOutcome, bundles: Sequence[Bundle], prepared: PreparedCohort, scan: Scan, relevance: Relevance,
    accelerator: str,
) -> None:  # fmt: skip
    """Write map and picture of each input that may be shown and predicted something.

    Raises:
        OSError: if a file cannot be written.
    """
    answered = {each.input for each in outcome.inputs if each.prediction is not None}
    for bundle in (each for each in bundles if each.input in relevance.permuted and each.input in answered):
        values = relevance_map(bundle, prepared, scan, relevance, accelerator)
        stem, limit = map_stem(out, outcome.patient, outcome.session, bundle.input), upper_limit(values)
        write_nifti(stem.with_name(f"{stem.name}.nii.gz"), values, bundle.grid)
        drawn = picture_png(cuts(values, bundle.grid, (), limit), f"{bundle.input}. {NOTICE.partition('.')[0]}.", limit)
        write_atomically(stem.with_name(f"{stem.name}.png"), partial(_put, drawn))


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)
