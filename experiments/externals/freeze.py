"""Freeze a study's models, thresholds and calibration before an external cohort is opened, and tell what was touched since.

``frozen.json`` names every model: checkpoint with its SHA-256, its threshold, the temperature from its tuning part, and the
threshold on the calibrated scale. It is written before any file of the external cohort is opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.files.atomic import file_sha256, write_json
from datamodules.files.listing import list_folder
from datamodules.files.tables import read_rows
from datamodules.store.prepare import CODE_VERSION, study_grid
from experiments.analysis.pooling import pool
from experiments.externals.errors import ExternalError
from experiments.externals.log import broken_line, events, latest
from experiments.runtime.provenance import provenance
from experiments.statistics.calibration import clipped_logit, fit_temperature
from experiments.study.parts import read_parts
from experiments.study.record import RECORD, read_record
from experiments.study.run_folder import BEST, RunFolder, require_complete
from experiments.study.runs import Run
from regions.catalog import REGIONS, Atlas
from regions.grid import Grid

NUMBER_PRIMARY = "mean of the folds' predictions"
PRIMARY = "mean of the folds' calibrated probabilities, at the mean of their thresholds on the calibrated scale"
FROZEN = "frozen.json"
OF_A_MODEL = ("config.yaml", "predictions.tsv")
"""Files of a run folder that a freeze depends on, beside run.json and the checkpoint."""


def freeze(study: Path, inputs: Sequence[str], seed: int, folds: int) -> dict[str, Any]:
    """What is frozen: everything that turns images into decisions.

    Args:
        study: The study's folder.
        inputs: Names of the inputs.
        seed: Which runs.
        folds: Number of folds.

    Raises:
        ResultsError: if a run is not complete, or runs do not belong together.
        PredictionsError: if a tuning part holds one class only.
    """
    runs = require_complete(study, [Run(name, fold, seed) for name in inputs for fold in range(folds)])
    first = RunFolder(runs[0].folder(study))
    record = read_record(study)
    if record is None:
        raise ExternalError(f"{study / RECORD} is missing; open the study first: make check STUDY={study.name}")
    frozen_input = _frozen_numbers if record.label.is_number else _frozen_input
    return {
        "study": study.name,
        "seed": seed,
        "folds": folds,
        "primary": NUMBER_PRIMARY if record.label.is_number else PRIMARY,
        "label": record.label.plain(),
        "grid": _grid(study),
        **({"voxel_mm": record.voxel_mm, "scan_grid": asdict(_scan_grid(study))} if record.voxel_mm else {}),
        **({"images": list(record.images)} if record.images != DEFAULT_IMAGES else {}),
        **({"optional_images": lacked} if (lacked := _lacked(study, record.optional)) else {}),
        "volumes_version": CODE_VERSION,
        "fingerprint": first.facts()["fingerprint"],
        "provenance": provenance(),
        "inputs": [frozen_input(study, name, [run for run in runs if run.input == name], record.atlas) for name in inputs],
    }


def _lacked(study: Path, optional: Sequence[str]) -> list[str]:
    """The optional images that some scan of the study lacks, so that its networks have seen how that is."""
    rows = read_rows(study / "cohort.tsv")
    return [name for name in optional if not all(row[name] for row in rows)]


def _grid(study: Path) -> Any:
    """The study's grid, from grid.json, or from its scans where that is not there."""
    path = study / "grid.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return asdict(_scan_grid(study))


def _scan_grid(study: Path) -> Grid:
    """The grid of the study's scans."""
    record = read_record(study)
    first = record.images[0] if record else DEFAULT_IMAGES[0]
    return study_grid([Path(row[first]) for row in read_rows(study / "cohort.tsv")])


def _frozen_input(study: Path, name: str, runs: Sequence[Run], atlas: Atlas | None) -> dict[str, Any]:
    region = RunFolder(runs[0].folder(study)).facts()["fingerprint"]["region"]
    pooled = pool({run.fold: run.folder(study) for run in runs}, read_parts(study))
    models = []
    for run in runs:
        temperature = fit_temperature(*pooled.tuning[run.fold])
        threshold = pooled.thresholds[run.fold]
        models.append(
            {
                **_checkpoint(study, run),
                "threshold": threshold,
                "temperature": temperature,
                "calibrated_threshold": float(calibrated(np.array([threshold]), temperature)[0]),
                **_files(study, run),
            }
        )
    mean = float(np.mean([model["calibrated_threshold"] for model in models]))
    frozen = {"input": name, "region": region, "labels": region["labels"], "threshold": mean, "models": models}
    return frozen | _atlas_of(name, atlas)


def _frozen_numbers(study: Path, name: str, runs: Sequence[Run], atlas: Atlas | None) -> dict[str, Any]:
    """The same, where a number is predicted: its scale stands in the checkpoint and in run.json."""
    facts = {run: RunFolder(run.folder(study)).facts() for run in runs}
    region = facts[runs[0]]["fingerprint"]["region"]
    models = [{**_checkpoint(study, run), "scale": facts[run]["scale"], **_files(study, run)} for run in runs]
    frozen = {"input": name, "region": region, "labels": region["labels"], "models": models}
    return frozen | _atlas_of(name, atlas)


def _atlas_of(name: str, atlas: Atlas | None) -> dict[str, str]:
    return {"atlas": str(atlas.path)} if atlas and name not in REGIONS else {}


def _checkpoint(study: Path, run: Run) -> dict[str, Any]:
    folder = RunFolder(run.folder(study))
    digest = file_sha256(folder.checked(BEST))
    checkpoint = str(folder.best.relative_to(study))
    return {"run": run.name, "fold": run.fold, "checkpoint": checkpoint, "checkpoint_sha256": digest}


def _files(study: Path, run: Run) -> dict[str, Any]:
    folder = RunFolder(run.folder(study))
    digests = {each: file_sha256(folder.checked(each)) for each in OF_A_MODEL}
    return {"files": digests | {"run.json": file_sha256(folder.path / "run.json")}}


def calibrated(p: Any, temperature: float) -> Any:
    """Probabilities softened by a temperature: expit(logit(p) / T)."""
    return expit(clipped_logit(p) / temperature)


def write_frozen(folder: Path, frozen: dict[str, Any]) -> str:
    """Write frozen.json and return its SHA-256."""
    write_json(folder / FROZEN, frozen)
    return file_sha256(folder / FROZEN)


def read_frozen(folder: Path) -> dict[str, Any]:
    """Read frozen.json.

    Raises:
        ExternalError: if it is missing or damaged.
    """
    path = folder / FROZEN
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExternalError(f"{path} is missing; restore it, or freeze again with --restart") from None
    except ValueError as error:
        raise ExternalError(f"{path} is damaged ({error}); restore it, or freeze again with --restart") from None
    return content


def label_files(cohort: Path) -> list[Path]:
    """The files that labels of a cohort can stand in: the table itself, or the tables of a BIDS folder."""
    if cohort.is_file():
        return [cohort]
    places = [cohort, *cohort.resolve().parents[:2]]
    root = next((folder for folder in places if (folder / "participants.tsv").is_file()), cohort)
    patterns = ("*.tsv", "*.csv", "*.xlsx", "phenotype/*", "sub-*/*.tsv", "sub-*/ses-*/*.tsv")
    return sorted({path for pattern in patterns for path in list_folder(root, pattern) if path.is_file()})


def hash_labels(cohort: Path) -> dict[str, str]:
    """SHA-256 of every label file, by its full path."""
    return {str(path.resolve()): file_sha256(path) for path in label_files(cohort)}


def touched(folder: Path) -> list[str]:
    """What is no longer as it was when it was frozen, read or written; one sentence each, empty when nothing was touched.

    Args:
        folder: ``studies/<study>/external/<cohort>``.

    Raises:
        ExternalError: if log or freeze cannot be read.
    """
    log = events(folder)
    line = broken_line(folder)
    faults = [] if line is None else [f"{folder / 'events.jsonl'} line {line} was changed, removed or added"]
    freeze_event = latest(log, "frozen")
    if freeze_event is None:
        return faults
    frozen_path = folder / FROZEN
    if not frozen_path.is_file():
        return [*faults, f"{frozen_path} is gone"]
    if file_sha256(frozen_path) != freeze_event["sha256"]:
        return [*faults, f"{frozen_path} was changed"]
    frozen = read_frozen(folder)
    study = folder.parents[1]
    for entry in frozen["inputs"]:
        for model in entry["models"]:
            faults += _touched_model(study, model)
    read = latest(log, "labels read")
    if read is not None:
        faults += _touched_labels(read["files"], Path(read["cohort"]))
    for event, name in (("predicted", "predictions.tsv"), ("scored", "external.json")):
        written = latest(log, event)
        if written is not None:
            faults += _differs(folder / name, written["sha256"])
    return faults


def _touched_model(study: Path, model: dict[str, Any]) -> list[str]:
    faults = _differs(study / model["checkpoint"], model["checkpoint_sha256"], "checkpoint ")
    folder = RunFolder(study / model["run"])
    for name, digest in model["files"].items():
        faults += _differs(folder.path / name, digest)
    return faults


def _touched_labels(files: dict[str, str], cohort: Path) -> list[str]:
    faults = [fault for path, digest in files.items() for fault in _differs(Path(path), digest, "label file ")]
    new = sorted({str(path.resolve()) for path in label_files(cohort)} - set(files)) if cohort.exists() else []
    return faults + [f"label file {path} was added" for path in new]


def _differs(path: Path, digest: str, what: str = "") -> list[str]:
    if not path.is_file():
        return [f"{what}{path} is gone"]
    return [] if file_sha256(path) == digest else [f"{what}{path} was changed"]
