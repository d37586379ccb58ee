"""Make a bundle of one input of a study: weights, thresholds, region and what a user of it must know; no patient."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.splits import read_facts
from datamodules.files.atomic import filled_folder, is_taken, locked, write_json, write_text
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.files.tables import read_rows
from datamodules.store.boxes import region_step
from datamodules.store.prepared import PreparedCohort
from datamodules.store.reference import reference_of_stored
from datamodules.store.signatures import known_scans
from datamodules.store.store import open_store
from experiments.bundles.bundle import CARD, FACTS, FORMAT, LABEL_MAP, Bundle
from experiments.bundles.card import card_text
from experiments.bundles.errors import BundleError
from experiments.bundles.exports import check_exports, write_exports
from experiments.bundles.networks import NetworkSpec, covariates_argument, make_network, network_class
from experiments.bundles.read import read_bundle
from experiments.bundles.running import scans_data
from experiments.bundles.scores import scores_of
from experiments.bundles.summaries import conformal_summary, feature_summary
from experiments.bundles.sums import write_sums
from experiments.checking.quality import QUALITY_VERSION
from experiments.externals.freeze import freeze
from experiments.runtime.console import bar
from experiments.study.channels import show_images
from experiments.study.grid import inputs_of
from experiments.study.opening import open_with_progress
from experiments.study.parts import Parts, read_parts
from experiments.study.preparation import plain_programs
from experiments.study.record import StudyRecord, read_record
from experiments.study.run_folder import RunFolder
from experiments.study.settings import Settings, settings_of_run
from experiments.study.study import Study
from experiments.training.trainer import make_module
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import multiple_of, smallest_side
from lightning_modules.weights import RANDOM
from regions.atlas import TEMPLATE_PATH
from regions.catalog import Atlas, Region
from regions.grid import Grid

OF_COHORT = ".cohort.json"
"""In the folder of a study's bundles."""
OF_TRAINING = "objective."
"""Weights that serve the training alone."""
INTENSITIES = "z-score within the brain mask, mean 0 and standard deviation 1 of each image (masks and maps keep their values)"


@dataclass(frozen=True)
class Origin:
    """One input of a study, frozen, with what its runs were made from."""

    study: Path
    record: StudyRecord
    frozen: Mapping[str, Any]
    settings: Settings
    parts: Parts

    @property
    def entry(self) -> Mapping[str, Any]:
        """The input as the freeze has it."""
        entry: Mapping[str, Any] = self.frozen["inputs"][0]
        return entry

    @property
    def images(self) -> tuple[str, ...]:
        """What is read of each scan."""
        return tuple(self.frozen.get("images", DEFAULT_IMAGES))

    @property
    def shown(self) -> tuple[str, ...]:
        """What the networks see of it."""
        return tuple(self.entry["region"].get("images", ())) or self.images

    def facts(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What run.json says of a fold's run."""
        return RunFolder(self.study / model["run"]).facts()

    def module(self, model: Mapping[str, Any]) -> StratificationModule:
        """A fold's model as the study has it."""
        network = self.settings.instantiated(self.entry["region"].get("images", ())).network
        module = make_module(self.settings, network)
        path = self.study / model["checkpoint"]
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        return module.eval()


def bundle_folder(study: Path, name: str, seed: int) -> Path:
    """Where the bundle of an input and a seed lies unless it was put elsewhere."""
    return study / "bundles" / (name if not seed else f"{name}_seed-{seed}")


def read_origin(study: Path, name: str, seed: int) -> Origin:
    """Freeze one input of a study.

    Raises:
        BundleError: if the study has no such input.
        ResultsError: if a run is missing, not complete, or was changed.
    """
    known = inputs_of(study)
    if name not in known:
        raise BundleError(f"study {study.name} has no input {name!r}; it has {', '.join(known)}")
    frozen = freeze(study, [name], seed, read_facts(study / "splits.tsv")["folds"])
    record = read_record(study)
    assert record is not None  # freeze has read it
    settings = settings_of_run(study, record, study / frozen["inputs"][0]["models"][0]["run"])
    return Origin(study, record, frozen, settings, read_parts(study))


def make_bundle(origin: Origin, out: Path, console: Console, exports: Sequence[str] = ()) -> Bundle:
    """Write the bundle of an input in one step.

    Args:
        origin: The input.
        out: The bundle's folder.
        console: Where progress goes.
        exports: Further forms, of ``experiments.bundles.exports.EXPORTS``.

    Raises:
        BundleError: if the folder is taken, or the network cannot be in a bundle or exported.
        CohortError: if the study's cohort is not where it was, or not what it was.
        Interrupted: if a signal came.
    """
    check_exports(exports)
    _refuse_taken(out)
    spec = network_of(origin)
    study = open_with_progress(origin.settings, console, look_only=True)
    with locked(origin.study / "bundles" / ".making.lock"), filled_folder(out) as folder:
        _refuse_taken(out)
        content = _content(origin, spec)
        (folder / "models").mkdir()
        for model, entry in zip(content["models"], origin.entry["models"], strict=True):
            (folder / model["weights"]).write_bytes(save(_weights(origin.module(entry))))
        shutil.copyfile(_label_map(origin), folder / content["label_map"])
        _write_facts(folder, content)
        bundle = read_bundle(folder)
        _refuse_other_outputs(origin, bundle)
        _write_facts(folder, content | _summaries(bundle, study, origin, console))
        write_text(folder / CARD, card_text(read_bundle(folder), exports))
        if exports:
            write_exports(bundle, folder, exports)
        write_sums(folder)
    return read_bundle(out)


def _refuse_taken(out: Path) -> None:
    if is_taken(out):
        raise BundleError(f"{out} exists already; remove it, or give another --out")


def _write_facts(folder: Path, content: Mapping[str, Any]) -> None:
    write_json(folder / FACTS, content)
    write_sums(folder)


def _summaries(bundle: Bundle, study: Study, origin: Origin, console: Console) -> dict[str, Any]:
    """What is measured on the study's scans."""
    patients = [scan.patient for scan in study.cohort.scans]
    parts = {model.fold: study.splits.partitions(model.fold, patients) for model in bundle.models}
    networks = {model.fold: bundle.module(model.fold).network for model in bundle.models}
    own, workers = study.prepared, origin.settings.values.workers
    if bundle.voxel_mm:
        own = open_store(study.cohort.scans, origin.settings.values.store, workers)
    cohort = _of_cohort(own, origin.study / "bundles" / OF_COHORT, workers, console)
    with bar(console, "features of folds") as on_model:
        features = feature_summary(networks, scans_data(bundle, study.prepared, patients), parts, on_model)
    return {**cohort, "features": features}


def _of_cohort(own: PreparedCohort, path: Path, workers: int, console: Console) -> dict[str, Any]:
    """What is measured on the training cohort whatever the input is; kept for the study's other bundles."""
    stamp = {"data": own.hash, "quality_version": QUALITY_VERSION, "format": FORMAT}
    try:
        kept = read_sealed(path, "measure again")
    except (FileNotFoundError, DamagedError):
        kept = {}
    if any(kept.get(name) != value for name, value in stamp.items()):
        with bar(console, "measuring scans") as on_scan:
            quality = reference_of_stored(own, workers, on_scan)
        with bar(console, "marking scans") as on_scan:
            known = known_scans(own, on_scan)
        kept = stamp | {"quality": asdict(quality), "training_scans": known.plain()}
        write_sealed(path, kept)
    return {name: kept[name] for name in ("quality", "training_scans")}


def network_of(origin: Origin) -> NetworkSpec:
    """How the networks of an input are made, without files and without weights that are fetched.

    Raises:
        BundleError: if that is not possible.
    """
    plain = origin.settings.plain()["network"]
    images = origin.entry["region"].get("images", ())
    if images:
        show_images(plain, images, origin.settings.optional)
    network_class(plain["class_path"])
    arguments = {**(plain.get("init_args") or {}), **(plain.get("dict_kwargs") or {})}
    architecture = getattr(origin.settings.instantiated(images).network, "pretrained", None)
    if isinstance(architecture, Mapping):
        arguments["weights"] = RANDOM + str(architecture["architecture"])
    if "pretrained" in arguments:
        arguments["pretrained"] = False
    if arguments.get("covariates"):
        arguments["covariates"] = covariates_argument(arguments["covariates"])
    spec = NetworkSpec(str(plain["class_path"]), arguments)
    make_network(spec)
    return spec


def _label_map(origin: Origin) -> Path:
    return Path(origin.entry["atlas"]) if origin.entry.get("atlas") else TEMPLATE_PATH


def _content(origin: Origin, spec: NetworkSpec) -> dict[str, Any]:
    frozen, entry, values = origin.frozen, origin.entry, origin.settings.values
    network = origin.settings.instantiated(entry["region"].get("images", ())).network
    grid, scan_grid = Grid.of_plain(frozen["grid"]), Grid.of_plain(frozen.get("scan_grid", frozen["grid"]))
    least, multiple = smallest_side(network, len(origin.shown), values.data.batch_size), multiple_of(network)
    mask = entry["region"]["mask"]
    _, box = region_step(_region(origin), grid, mask["mode"], mask["dilate_mm"], multiple, least)
    suffix = "".join(_label_map(origin).suffixes[-2:]) if origin.entry.get("atlas") else ".nii.gz"
    content = {
        "format": FORMAT,
        "study": origin.study.name,
        "input": entry["input"],
        "region": entry["region"],
        "label_map": LABEL_MAP.partition(".")[0] + (".nii.gz" if suffix.endswith(".gz") else ".nii"),
        "images": list(origin.images),
        **({"optional_images": frozen["optional_images"]} if frozen.get("optional_images") else {}),
        "grid": asdict(grid),
        "scan_grid": asdict(scan_grid),
        "voxel_mm": float(frozen.get("voxel_mm", 0.0)),
        "box": {"multiple_of": multiple, "least_side": least, "start": list(box.start), "stop": list(box.stop)},
        "target": frozen["label"],
        "network": {"class_path": spec.class_path, "init_args": dict(spec.init_args)},
        "objective": origin.settings.model_options()["objective"],
        "running": {
            "batch_size": values.data.batch_size,
            "channels_last": bool(values.model.channels_last),
            "precision": values.trainer.as_dict().get("precision"),
            "threads": values.threads,
        },
        "models": [_model(origin, model) for model in entry["models"]],
        "threshold": entry.get("threshold"),
        "conformal": conformal_summary(origin.study, entry["models"], origin.record.label.is_number),
        "quality": {},
        "features": {},
        "training_scans": {},
        "preparation": {
            "volumes_version": frozen["volumes_version"],
            "intensities": INTENSITIES,
            "programs": plain_programs(Path(read_rows(origin.study / "cohort.tsv")[0][origin.images[0]])),
            "cohort": _cohort(origin.parts),
        },
        "scores": scores_of(origin.study, entry),
        "provenance": _provenance(origin),
    }
    shares = [model["prevalence"] for model in content["models"]]
    content["prevalence"] = None if origin.record.label.is_number else float(np.mean(shares))
    return content


def _region(origin: Origin) -> Region:
    entry = origin.entry
    digest = entry["region"]["mask"]["label_map"]
    atlas = Atlas(Path(entry["atlas"]), digest) if entry.get("atlas") else None
    return Region(entry["input"], tuple(entry["labels"]), "bundled input", "frozen input", atlas)


def _model(origin: Origin, model: Mapping[str, Any]) -> dict[str, Any]:
    facts = origin.facts(model)
    number = origin.record.label.is_number
    return {
        "fold": model["fold"],
        "weights": f"models/fold-{model['fold']}.safetensors",
        "temperature": 1.0 if number else model["temperature"],
        "threshold": None if number else model["threshold"],
        "calibrated_threshold": None if number else model["calibrated_threshold"],
        "prevalence": None if number else _prevalence(origin.parts, model["fold"]),
        "mean": model["scale"]["mean"] if number else None,
        "covariates": list(facts.get("covariates") or ()),
    }


def _prevalence(parts: Parts, fold: int) -> float:
    """Share of positive scans in a fold's training part."""
    labels = np.array(list(parts.labels.values()))
    train: Any = parts.splits.partitions(fold, [patient for patient, _ in parts.labels])["train"]
    return float(labels[train].mean())


def _cohort(parts: Parts) -> dict[str, Any]:
    """How many patients and scans the folds share."""
    labels = np.array(list(parts.labels.values()))
    positives = None if parts.target.is_number else int(labels.sum())
    return {"patients": len({patient for patient, _ in parts.labels}), "scans": int(labels.size), "positives": positives}


def _weights(module: StratificationModule) -> dict[str, Tensor]:
    weights = module.state_dict().items()
    return {name: value.contiguous() for name, value in weights if not name.startswith(OF_TRAINING)}


def _provenance(origin: Origin) -> dict[str, Any]:
    frozen = origin.frozen
    facts = origin.facts(origin.entry["models"][0])
    fingerprint: Sequence[str] = ("config", "split", "cohort", "data")
    return {
        **frozen["provenance"],
        "trained_with": {name: facts.get(name) for name in ("versions", "git_commit", "processor", "device", "precision")},
        "fingerprint": {name: frozen["fingerprint"].get(name) for name in fingerprint},
        "seed": frozen["seed"],
        "folds": frozen["folds"],
        "checkpoints": {str(model["fold"]): model["checkpoint_sha256"] for model in origin.entry["models"]},
    }


@torch.no_grad()
def _refuse_other_outputs(origin: Origin, bundle: Bundle) -> None:
    """Look that a model made from the bundle alone is the study's, on an image of noise."""
    model = bundle.models[0]
    image = torch.randn(1, len(bundle.shown_images), *bundle.box.shape, generator=torch.Generator().manual_seed(0))
    theirs, ours = origin.module(origin.entry["models"][0])(image), bundle.module(model.fold)(image)
    if not torch.equal(theirs, ours):
        raise BundleError(
            f"network {bundle.network.class_path} gives other outputs when it is made from its arguments alone; "
            "it cannot be in a bundle"
        )
