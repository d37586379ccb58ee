"""Which bundles are asked: those that are named, or those of a study, made where they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datamodules.files.atomic import file_sha256, locked
from experiments.bundles.bundle import Bundle
from experiments.bundles.make import bundle_folder, make_bundle, read_origin
from experiments.bundles.read import read_bundle
from experiments.predicting.errors import PredictError
from experiments.predicting.options import PredictOptions
from experiments.study.arguments import study_folder
from experiments.study.grid import folds_of, inputs_of
from experiments.study.run_folder import BEST, RunFolder
from experiments.study.runs import Run


def chosen_bundles(options: PredictOptions, console: Console) -> list[Bundle]:
    """The bundles that are asked, of one training cohort.

    Raises:
        PredictError: if neither or both of study and bundle are given, or bundles do not go together.
        BundleError: if a bundle is not what was written, or cannot be made.
        ResultsError: if a run of the study is missing.
    """
    if bool(options.study) == bool(options.bundle):
        raise PredictError(
            "predict needs a study or bundles, one of them: STUDY=mine, or BUNDLE=bundles/global,bundles/brainstem"
        )
    folders = _listed(options.bundle)
    bundles = [read_bundle(Path(folder)) for folder in folders] if folders else _of_study(options, console)
    _refuse_apart(bundles)
    return bundles


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _of_study(options: PredictOptions, console: Console) -> list[Bundle]:
    study = study_folder(options.study, options.studies)
    names = _listed(options.inputs) or _trained(study, options.seed, console)
    with locked(study / "bundles" / ".predict.lock"):  # making one takes the lock of its own
        return [_of_input(study, name, options.seed, console) for name in names]


def _trained(study: Path, seed: int, console: Console) -> list[str]:
    """The inputs all of whose runs are complete; those of which only some are, are named.

    Raises:
        PredictError: if there is none.
    """
    folds = folds_of(study)
    runs = {name: [RunFolder(Run(name, fold, seed).folder(study)) for fold in range(folds)] for name in inputs_of(study)}
    complete = {name: sum(run.facts().get("state") == "complete" for run in of_name) for name, of_name in runs.items()}
    whole = [name for name, count in complete.items() if count == folds]
    partly = ", ".join(f"{name} ({count} of {folds})" for name, count in complete.items() if 0 < count < folds)
    if not whole:
        begun = f"; complete are runs of {partly}" if partly else ""
        raise PredictError(f"study {study.name} has no trained input with seed {seed}{begun}; make sweep STUDY={study.name}")
    if partly:
        console.print(f"not asked, as only some of their runs are complete: {partly}")
    return whole


def _of_input(study: Path, name: str, seed: int, console: Console) -> Bundle:
    folder = bundle_folder(study, name, seed)
    if not folder.exists():
        origin = read_origin(study, name, seed)
        console.print(f"making the bundle of {name}, once")
        return make_bundle(origin, folder, console)
    bundle = read_bundle(folder)
    for fold, digest in bundle.provenance["checkpoints"].items():
        path = RunFolder(Run(name, int(fold), seed).folder(study)).path / BEST
        if not path.is_file() or file_sha256(path) != digest:
            raise PredictError(f"{folder} was made of another {path}; remove that bundle, and it is made again")
    return bundle


def _refuse_apart(bundles: Sequence[Bundle]) -> None:
    """Refuse bundles that see other images, other voxels or were trained on other scans, and one that is named twice."""
    first = bundles[0]
    for other in bundles[1:]:
        alike = (other.images, other.optional, other.scan_grid, other.target, other.training_scans["voxels"])
        if alike != (first.images, first.optional, first.scan_grid, first.target, first.training_scans["voxels"]):
            raise PredictError(f"{other.folder} and {first.folder} are of other cohorts, targets or images; predict them apart")
    names = [bundle.input for bundle in bundles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise PredictError(
            f"input {twice} is there twice, as {' and '.join(str(b.folder) for b in bundles if b.input == twice)}"
        )
