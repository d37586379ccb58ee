"""The frozen models meet the external images; labels take no part.

Each model's raw probabilities are kept in ``parts/<input>/fold-<k>.json`` until the freeze is set aside, so that an interrupted
scoring of large volumes goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from datamodules.cohort.splits import Splits
from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.mri import BrainMRIDataModule
from experiments.externals.errors import ExternalError
from experiments.externals.scans import ExternalCohort
from experiments.runtime.console import bar
from experiments.runtime.interruption import stop_if_interrupted
from experiments.statistics.predictions import FloatArray
from experiments.study.covariates import Covariate, table_of
from experiments.study.record import ShownRegion, read_record
from experiments.study.run_folder import RunFolder
from experiments.study.settings import Settings, settings_of_run
from experiments.training.trainer import make_data, make_module, make_trainer, probabilities
from lightning_modules.classifier import StratificationModule
from regions.catalog import Atlas, Region


def predict(
    frozen: Mapping[str, Any], study: Path, folder: Path, external: ExternalCohort, console: Console, accelerator: str = "auto"
) -> dict[str, FloatArray]:
    """Raw probabilities of every frozen model on every external scan.

    Args:
        frozen: Content of frozen.json.
        study: The study's folder.
        folder: The external cohort's folder in the study.
        external: The cohort on the study's grid.
        console: Where progress goes.
        accelerator: As Lightning's Trainer takes it.

    Returns:
        Input -> (scans, folds) float64, folds in ascending order.

    Raises:
        ExternalError: if a checkpoint is not the one that was frozen.
        Interrupted: if a signal came.
    """
    record = read_record(study)
    assert record is not None  # what is frozen comes from it
    settings = settings_of_run(study, record, study / frozen["inputs"][0]["models"][0]["run"])
    torch.set_num_threads(settings.values.threads)
    todo = [(entry, model) for entry in frozen["inputs"] for model in entry["models"]]
    columns_of: dict[str, list[FloatArray]] = {entry["input"]: [] for entry in frozen["inputs"]}
    data: dict[str, BrainMRIDataModule] = {}
    with bar(console, "external scans") as advance:
        for done, (entry, model) in enumerate(todo, start=1):
            stop_if_interrupted()
            path = folder / "parts" / entry["input"] / f"fold-{model['fold']}.json"
            stamp = {"checkpoint": model["checkpoint_sha256"], "data": external.prepared.hash}
            p = _kept(path, stamp)
            if p is None:
                values = settings.instantiated(entry["region"].get("images", ()))
                network: nn.Module = values.network
                if entry["input"] not in data:
                    data = {entry["input"]: _data(settings, values, entry, external, network)}
                _give_covariates(data[entry["input"]], RunFolder(study / model["run"]).facts(), external, console)
                p = _run(_module(settings, network, study, model), data[entry["input"]], settings, accelerator)
                write_sealed(path, stamp | {"p": p.tolist()})
            columns_of[entry["input"]].append(p)
            advance(done, len(todo))
    return {name: np.stack(columns, axis=1) for name, columns in columns_of.items()}


def _kept(path: Path, stamp: Mapping[str, str]) -> FloatArray | None:
    try:
        content = read_sealed(path, "predict again")
    except (FileNotFoundError, DamagedError):
        return None
    same = all(content.get(name) == value for name, value in stamp.items())
    return np.array(content["p"], dtype=np.float64) if same else None


def _data(
    settings: Settings, values: Any, entry: Mapping[str, Any], external: ExternalCohort, network: nn.Module
) -> BrainMRIDataModule:
    """All external scans as the internal test part of a split of their own; their labels are hidden."""
    patients = [scan.patient for scan in external.cohort.scans]
    everyone = Splits(dict.fromkeys(patients, 0), 3, 0)
    atlas = Atlas(Path(entry["atlas"]), entry["region"]["mask"]["label_map"]) if entry.get("atlas") else None
    images = tuple(entry["region"].get("images", ()))
    region = Region(entry["input"], tuple(entry["labels"]), "frozen input", "frozen.json", atlas, images)
    change = ShownRegion.of(region, settings.study_options().mask).changed_since(entry["region"])
    if change:
        raise ExternalError(f"frozen models were trained with another {change}; use the version they were trained with")
    return make_data(settings, values, external.prepared, patients, [0] * len(patients), everyone, 0, region, network)


def _give_covariates(data: BrainMRIDataModule, facts: Mapping[str, Any], external: ExternalCohort, console: Console) -> None:
    """Bring the external scans' covariates to the scale of a model's own training part."""
    covariates, scans = [Covariate.of(recorded) for recorded in facts.get("covariates", ())], external.cohort.scans
    for covariate in covariates:
        if np.isnan(covariate.values(scans)).all():
            raise ExternalError(f"no external scan has a known {covariate.name}, which the networks are given; add the column")
        message = covariate.filled("external", scans)
        if message and not facts["fold"]:
            console.print(f"{facts['input']}: {message}")
    data.covariates = table_of(covariates, scans)


def _module(settings: Settings, network: nn.Module, study: Path, model: Mapping[str, Any]) -> StratificationModule:
    path = study / model["checkpoint"]
    if file_sha256(path) != model["checkpoint_sha256"]:
        raise ExternalError(f"checkpoint {path} is not the one that was frozen")
    module = make_module(settings, network)
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return module


def _run(module: StratificationModule, data: BrainMRIDataModule, settings: Settings, accelerator: str) -> FloatArray:
    options = {"accelerator": accelerator, "devices": 1, "precision": settings.values.trainer.as_dict().get("precision")}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    rows, values = probabilities(make_trainer({**options, **quiet}), module, data)
    p = np.empty(len(data.labels))
    p[rows] = values
    return p
