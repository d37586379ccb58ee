"""Read a bundle, and refuse one that was changed, is damaged, or was made for another version."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datamodules.cohort.images import parse_images, parse_optional
from datamodules.cohort.target import Target
from datamodules.files.volumes import load_header
from datamodules.quality.reference import QualityReference
from datamodules.store.prepare import CODE_VERSION
from datamodules.store.signatures import KnownScans
from experiments.bundles.bundle import FACTS, FORMAT, Bundle, FoldModel, Running
from experiments.bundles.errors import BundleError
from experiments.bundles.networks import NetworkSpec
from experiments.bundles.sums import WAY_OUT, is_inside, verified
from experiments.statistics.conformal import ConformalScores
from experiments.statistics.conformal_numbers import NumberScores
from experiments.statistics.feature_distance import FeatureReference
from experiments.study.covariates import Covariate
from experiments.study.record import Mask, ShownRegion
from lightning_modules.covariates import SLOTS
from regions.atlas import MASK_VERSION, template_sha256
from regions.catalog import Atlas, Region
from regions.errors import UserError
from regions.grid import Box, Grid

LARGEST_SIDE = 2048
"""Voxels of a grid's side, at most; a damaged file could ask for far more memory than there is."""
MOST_THREADS = 1024
MOST_BYTES = 2**26
"""Of bundle.json."""


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, after a look that every file of it is as it was written.

    Raises:
        BundleError: if a file was changed, is gone or was added, if bundle.json holds what it cannot, or if it was made for
            another version of this project.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no bundle {folder}; make one with: regionwise bundle --study name --input global")
    sums = verified(folder)
    path = folder / FACTS
    if FACTS not in sums or path.stat().st_size > MOST_BYTES:
        raise BundleError(f"{folder} is no bundle: it has no {FACTS} of at most {MOST_BYTES} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        _check_versions(path, content)
        return _bundle(folder, content, sums)
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError, UserError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else str(error)
        raise BundleError(f"{path} is damaged ({' '.join(reason.split())[:200]}); {WAY_OUT}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _check_versions(path: Path, content: Mapping[str, Any]) -> None:
    made = {
        "format": (content["format"], FORMAT),
        "prepared volumes": (content["preparation"]["volumes_version"], CODE_VERSION),
        "mask code": (content["region"]["mask"]["version"], MASK_VERSION),
    }
    version = content.get("provenance", {}).get("versions", {}).get("regionwise", "that it was made with")
    for name, (theirs, ours) in made.items():
        if theirs != ours:
            raise BundleError(f"{path}: {name} has version {theirs}, this regionwise {ours}; use regionwise {version}")


def _bundle(folder: Path, content: Mapping[str, Any], sums: Mapping[str, str]) -> Bundle:
    region, images = _region(content["region"]), parse_images(list(content["images"]), set())
    target = Target(**content["target"])
    box, running = content["box"], content["running"]
    label_map = _file(folder, content["label_map"], sums)
    if sums[content["label_map"]] != region.mask.label_map:
        raise ValueError(f"{content['label_map']} is not the label map of the region")
    if set(region.images) - set(images):
        raise ValueError(f"the region shows {', '.join(region.images)}, images are {', '.join(images)}")
    models = tuple(_model(folder, entry, sums, target) for entry in content["models"])
    _check_summaries(content, target)
    if region.mask.label_map != template_sha256():
        load_header(label_map)
    folds = [model.fold for model in models]
    if not folds or folds != sorted(set(folds)) or len({tuple(c.name for c in m.covariates) for m in models}) != 1:
        raise ValueError(f"models of folds {folds} do not belong together")
    plain = ("conformal", "quality", "features", "training_scans", "preparation", "scores", "provenance")
    return Bundle(
        folder=folder,
        study=str(content["study"]),
        input=region.name,
        region=region,
        label_map=label_map,
        images=images,
        optional=parse_optional(list(content.get("optional_images", ())), images),
        grid=_grid(content["grid"]),
        scan_grid=_grid(content["scan_grid"]),
        voxel_mm=_number(content["voxel_mm"]),
        multiple_of=_whole(box["multiple_of"], 1, LARGEST_SIDE),
        least_side=_whole(box["least_side"], 1, LARGEST_SIDE),
        box=Box(_sides(box["start"], -LARGEST_SIDE), _sides(box["stop"], 1)),
        target=target,
        network=NetworkSpec(str(content["network"]["class_path"]), dict(content["network"]["init_args"])),
        objective=str(content["objective"]),
        running=Running(
            _whole(running["batch_size"], 1, 2**16),
            bool(running["channels_last"]),
            None if running["precision"] is None else str(running["precision"]),
            _whole(running["threads"], 1, MOST_THREADS),
        ),
        models=models,
        threshold=_number(content["threshold"], missing=target.is_number),
        prevalence=_number(content["prevalence"], missing=target.is_number),
        **{name: MappingProxyType(dict(content[name])) for name in plain},
    )


def _check_summaries(content: Mapping[str, Any], target: Target) -> None:
    """Read what is kept of the training cohort once, so that a damaged one is named here; what is empty is passed over."""
    readers: dict[str, Callable[[Any], object]] = {
        "conformal": NumberScores.of if target.is_number else ConformalScores.of,
        "quality": QualityReference.of,
        "training_scans": KnownScans.of,
        "features": lambda kept: [FeatureReference.of(_without_fold(entry)) for entry in kept["folds"]],
    }
    for name, read in readers.items():
        if content[name]:
            read(content[name])


def _without_fold(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "fold"}


def _region(content: Mapping[str, Any]) -> ShownRegion:
    mask = Mask(**content["mask"])
    region = Region(str(content["name"]), tuple(content["labels"]), "", "", Atlas(Path(), mask.label_map))
    return ShownRegion(region.name, region.labels, mask, tuple(map(str, content.get("images", ()))))


def _file(folder: Path, name: Any, sums: Mapping[str, str]) -> Path:
    if not is_inside(name) or name not in sums:
        raise ValueError(f"{str(name)[:80]!r} is no file of the bundle")
    return folder / str(name)


def _model(folder: Path, entry: Mapping[str, Any], sums: Mapping[str, str], target: Target) -> FoldModel:
    number = target.is_number
    return FoldModel(
        fold=_whole(entry["fold"], 0, 10_000),
        weights=_file(folder, entry["weights"], sums),
        sha256=sums[entry["weights"]],
        temperature=_number(entry["temperature"], above=0),
        threshold=_number(entry["threshold"], missing=number),
        calibrated_threshold=_number(entry["calibrated_threshold"], missing=number),
        prevalence=_number(entry["prevalence"], missing=number),
        mean=_number(entry["mean"], missing=not number),
        covariates=tuple(map(_covariate, entry["covariates"])),
    )


def _covariate(recorded: Mapping[str, Any]) -> Covariate:
    covariate = Covariate.of(recorded)
    numbers = [_number(value) for value in (covariate.fill, *covariate.means, *covariate.sds)]
    texts = all(isinstance(text, str) for text in (covariate.name, *covariate.levels))
    slots = len(covariate.levels) if len(covariate.levels) > 2 else 1
    if not texts or len(numbers) != 1 + 2 * slots or slots > SLOTS or min(covariate.sds) < 0:
        raise ValueError(f"covariate {str(covariate.name)[:40]!r} cannot be read")
    return covariate


def _grid(content: Mapping[str, Any]) -> Grid:
    affine = tuple(tuple(_number(value) for value in row) for row in content["affine"])
    return Grid(_sides(content["shape"], 1), affine)


def _sides(values: Any, least: int) -> tuple[int, int, int]:
    i, j, k = (_whole(value, least, LARGEST_SIDE) for value in values)
    return i, j, k


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number from {low} to {high}")
    return value


def _number(value: Any, missing: bool = False, above: float = -math.inf) -> float:
    if value is None and missing:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= above:
        raise ValueError(f"{str(value)[:40]!r} is no number" + ("" if above == -math.inf else f" above {above:g}"))
    return float(value)
