"""Regions of the user's own: from a YAML file, from labels of the shipped map or of an atlas, or every label of an atlas."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from regions.atlas import atlas_labels, inside_template
from regions.catalog import LAST_OF_SCHEME, REGIONS, Atlas, Region, get_region
from regions.dialects import STRUCTURES
from regions.errors import UserError
from regions.files import read_yaml
from regions.grid import SpaceError

LEAST_INSIDE = 0.8
"""Share of an atlas's voxels that must lie in the template's brain."""


class RegionFileError(UserError):
    """A file of user-defined regions cannot be understood."""


def read_atlas(path: Path) -> Atlas:
    """An atlas, after a look that it is a label map in MNI152 space.

    Raises:
        RegionFileError: if the file is missing, is no label map, or lies elsewhere than the template's brain.
    """
    if not path.is_file():
        raise RegionFileError(f"atlas {path} does not exist; give a NIfTI label map in MNI152 space")
    atlas = Atlas(path.resolve(), hashlib.sha256(path.read_bytes()).hexdigest())
    try:
        share = _share_inside(atlas)
    except SpaceError as error:
        raise RegionFileError(f"atlas {path}: {error}") from None
    if share < LEAST_INSIDE:
        where = f"{share:.0%} of its labelled voxels lie in the template's brain, at least {LEAST_INSIDE:.0%} should"
        raise RegionFileError(f"atlas {path} is not in MNI152 space: {where}; register it to MNI152")
    return atlas


@lru_cache(maxsize=4)
def _share_inside(atlas: Atlas) -> float:
    return inside_template(*atlas_labels(atlas))


@lru_cache(maxsize=4)
def _labels_in(atlas: Atlas) -> frozenset[int]:
    """The labels that an atlas has, without 0."""
    return frozenset(np.unique(atlas_labels(atlas)[0]).tolist()) - {0}


def regions_of_table(atlas: Atlas) -> dict[str, Region]:
    """Every label of an atlas as a region, named by the table beside it; rows of which the map has no voxel are passed over.

    Raises:
        RegionFileError: if the table is missing or lacks a column or a label of the map, or gives a name twice.
    """
    table = atlas.path.with_name(atlas.path.name.split(".nii")[0] + ".tsv")
    if not table.is_file():
        raise RegionFileError(f"{table} is missing; it names the labels of {atlas.path.name} in columns index and name")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise RegionFileError(f"{table} is not a readable table ({error}); save it as tab-separated UTF-8 text") from None
    lacking = [column for column in ("index", "name") if not rows or column not in rows[0]]
    if lacking:
        raise RegionFileError(f"{table} has no column {lacking[0]!r}; it needs index and name, with a tab between them")
    present = _labels_in(atlas)
    names: dict[int, str] = {}
    for number, row in enumerate(rows, start=2):
        if not re.fullmatch(r"[0-9]+", (row["index"] or "").strip()):
            raise RegionFileError(f"{table} line {number}: index {row['index']!r} is not a whole number from 0")
        if int(row["index"]) in names:
            raise RegionFileError(f"{table} line {number}: index {row['index']} stands twice; keep one row for each label")
        names[int(row["index"])] = (row["name"] or "").strip()
    nameless = sorted(label for label in present if not names.get(label))
    if nameless:
        raise RegionFileError(
            f"{table} has no name for label {nameless[0]} of {atlas.path.name}; add a row, or set its voxels to 0"
        )
    regions: dict[str, Region] = {}
    for label in sorted(present):
        name = _slug(names[label])
        if name in regions:
            raise RegionFileError(
                f"{table}: {names[label]!r} and label {regions[name].labels[0]} have one name; rename one of them"
            )
        regions[name] = Region(name, (label,), names[label], atlas.path.name, atlas)
    return regions


def _slug(name: str) -> str:
    """A name as regions have them; one that the project or no folder could have gets ``atlas_`` before it."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return slug if re.match(r"[a-z]", slug) and slug not in REGIONS else f"atlas_{slug}"


def _require_labels(atlas: Atlas, labels: Set[int]) -> None:
    """Refuse labels that an atlas has not."""
    present = _labels_in(atlas)
    unknown = sorted(set(labels) - present)
    if unknown:
        span = f"{len(present)} labels from {min(present)} to {max(present)}" if present else "no label"
        raise UserError(f"atlas {atlas.path.name} has no label {unknown[0]}; it has {span}.")


def load_regions(path: Path | str) -> dict[str, Region]:
    """Read user-defined regions, from YAML or from an atlas.

    Each entry is a name with either `labels` or `of` (regions to put together, the six or earlier ones in the file),
    and optionally `without` (regions or ids to take away), `images` (those of the study's that are shown), `description` and
    `source`:

        cortical:
          labels: [3, 42]
          description: cerebral cortex only
        cortical_and_cerebellar:
          of: [gray_matter]
          without: [subcortical_gray_matter]
        global_t1w:
          of: [global]
          images: [t1w]

    Beside the regions the file may have `atlas`, a label map in MNI152 space (relative to the file): all ids are then those of
    the atlas. A label map in the place of the YAML file is an atlas of which every label is a region, with its name from the
    table beside it (`schaefer.nii.gz`, `schaefer.tsv` with columns index and name).

    Returns:
        The regions in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        RegionFileError: an entry that cannot be understood, with its name and the reason.
    """
    path = Path(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return regions_of_table(read_atlas(path))
    try:
        entries = read_yaml(path)
    except ValueError as error:
        raise RegionFileError(f"{path}: {error}") from None
    if not isinstance(entries, dict) or not set(entries) - {"atlas"}:
        raise RegionFileError(f"{path} has no regions. Write one as 'name:' with an indented 'labels: [3, 42]' below it.")
    atlas = read_atlas(path.parent / str(entries.pop("atlas"))) if "atlas" in entries else None
    regions: dict[str, Region] = {}
    for name, entry in entries.items():
        try:
            regions[name] = _file_region(name, entry, regions, path, atlas)
        except ValueError as error:
            raise RegionFileError(f"{path}, region {name!r}: {error}") from error
    return regions


_KEYS = ("labels", "of", "without", "images", "description", "source")


def _file_region(name: str, entry: Any, regions: Mapping[str, Region], path: Path, atlas: Atlas | None) -> Region:
    """Make one region from its YAML entry."""
    if name in REGIONS:
        raise UserError("the name is taken by the project; choose another.")
    if not isinstance(name, str) or not isinstance(entry, dict):
        raise UserError("an entry is a name with keys below it, such as 'labels: [3, 42]'.")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise UserError(f"unknown key {unknown[0]!r}; keys are {', '.join(_KEYS)}.")
    if ("labels" in entry) == ("of" in entry):
        raise UserError("give either 'labels' or 'of', and not both.")
    images = entry.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise UserError(f"images are a list such as [t1w, flair], found {images!r}.")
    if twice := [image for image in images if [other.lower() for other in images].count(image.lower()) > 1]:
        raise UserError(f"images name {twice[0]} twice; keep one.")
    taken: set[int] = set()
    if not images or entry.get("of") != ["global"] or entry.get("without"):
        known = regions if atlas else {**REGIONS, **regions}
        taken = _ids(entry.get("labels", entry.get("of")), known) - _ids(entry.get("without", []), known)
        if not taken:
            raise UserError("no label is left.")
    if atlas is not None:
        _require_labels(atlas, taken)
    elif unknown := sorted({label for label in taken if 1 <= label <= LAST_OF_SCHEME} - {*STRUCTURES}):
        raise UserError(
            f"label {unknown[0]} stands for nothing in the scheme, which has FreeSurfer's numbers: 10 is Left-Thalamus."
        )
    text = {key: str(entry.get(key, usual)) for key, usual in (("description", name), ("source", path.name))}
    shown = tuple(image.lower() for image in images)
    return Region(name, tuple(sorted(taken)), **text, atlas=atlas, images=shown)


def _ids(items: Any, regions: Mapping[str, Region]) -> set[int]:
    """Collect ids from a list of ids and region names."""
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise UserError(f"expected a list such as [3, 42], found {items!r}.")
    ids: set[int] = set()
    for item in items:
        if isinstance(item, str):
            if item in REGIONS and item not in regions:
                raise UserError(f"{item!r} is a region of the shipped label map, and not of the atlas.")
            region = get_region(item, regions)
            if not region.labels:
                raise UserError(f"{item!r} is the whole brain and has no list of labels; name the parts that you want.")
            ids |= set(region.labels)
        elif isinstance(item, int):
            ids.add(item)
        else:
            raise UserError(f"a list holds ids and names of regions; {item!r} is neither.")
    return ids
