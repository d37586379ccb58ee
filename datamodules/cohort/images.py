"""The images of a scan by name: the column of a plain table, the end of a BIDS file's name, and the word in a sentence.

A name is a BIDS suffix in lower case, with entities before it where they tell it from others: ``t1w``, ``flair``, ``t2w``,
``ce-gadolinium_t1w``, ``label-lesion_mask``, ``mtrmap``. The end of the suffix says what an image holds: ``_mask`` 0 and 1,
``_probseg`` 0 to 1, ``_dseg`` labels, anything else a contrast of any scale.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from datamodules.files.tables import MISSING, CohortError

Kind = Literal["contrast", "mask", "probability", "labels"]

DEFAULT_IMAGES = ("t1w", "flair")
"""What is read of a scan unless a study asks for other images."""
TITLES = {"t1w": "T1w", "flair": "FLAIR", "t2w": "T2w", "pdw": "PDw", "t2starw": "T2starw"}
WEIGHTINGS = {"t1w": "T1-weighted", "t2w": "T2-weighted", "pdw": "proton-density-weighted", "t2starw": "T2*-weighted"}
KINDS: dict[str, Kind] = {"mask": "mask", "probseg": "probability", "dseg": "labels"}
APART = ("ce-", "label-")
"""Entities that tell an image from another of the same suffix; a name without them means the image without them."""


def parse_images(given: str | Iterable[str], reserved: Collection[str] = ()) -> tuple[str, ...]:
    """The names of a study's images, from ``t1w,flair`` or a list.

    Args:
        given: As it stands on the command line or in a YAML file.
        reserved: Columns of a table that mean something else.

    Raises:
        CohortError: if there is none, one is repeated, or one is no name of an image.
    """
    words = given.strip("[]").replace(",", " ").split() if isinstance(given, str) else [str(word).strip() for word in given]
    names = tuple(word.lower() for word in words)
    example = "give BIDS suffixes or columns, for example --images t1w,flair,t2w"
    if not names:
        raise CohortError(f"--images is empty; {example}")
    for name in names:
        if names.count(name) > 1:
            raise CohortError(f"--images names {name} twice; keep one")
        if not re.fullmatch(r"([a-z0-9]+-[a-z0-9]+_)*[a-z0-9_]*[a-z0-9]", name) or name in reserved:
            raise CohortError(f"--images: {name!r} is not the name of an image; {example}")
    return names


def kind_of(name: str) -> Kind:
    """What an image holds, by the end of its name."""
    return KINDS.get(name.rsplit("_", 1)[-1], "contrast")


def images_of(**paths: Path | None) -> dict[str, Path]:
    """The images that are there, by name."""
    return {name: path for name, path in paths.items() if path is not None}


def title(name: str) -> str:
    """An image as a sentence names it."""
    return TITLES.get(name, name)


def titles(names: Iterable[str]) -> str:
    """Several images as a sentence names them: ``T1w, T2w and FLAIR``."""
    *most, last = map(title, names)
    return f"{', '.join(most)} and {last}" if most else last


def weightings(names: Iterable[str]) -> str:
    """Several images as a methods paragraph names them: ``T1-weighted and FLAIR``."""
    return titles(WEIGHTINGS.get(name, name) for name in names)


def image_columns(rows: Sequence[Mapping[str, str]], asked: Sequence[str]) -> list[str]:
    """The columns of a table that hold images: those that are asked for, and others with nothing but paths of images."""
    names = rows[0] if rows else {}
    filled = {name: [row[name] for row in rows if row[name].lower() not in MISSING] for name in names}
    others = [name for name, cells in filled.items() if cells and all(map(_is_image, cells))]
    return list(dict.fromkeys([*asked, *(name for name in others if name not in ("mask", "labels"))]))


def parse_optional(given: str | Iterable[str], images: Sequence[str]) -> tuple[str, ...]:
    """The images that a scan may lack, from ``flair`` or a list; empty where each scan must have all.

    Args:
        given: As it stands on the command line or in a YAML file.
        images: All images of the study.

    Raises:
        CohortError: if one is not among the images, or is the first, which says where the brain is.
    """
    names = parse_images(given) if given else ()
    others = ", ".join(images[1:]) or "nothing, since there is one image"
    for name in names:
        if name not in images[1:]:
            wrong = "the first image, which each scan needs" if name in images else "not read"
            raise CohortError(f"--optional_images: {name} is {wrong} (--images {','.join(images)}); it can name {others}")
    return tuple(name for name in images if name in names)


def indicator(name: str) -> str:
    """The covariate that tells whether a scan has an optional image: 1 or 0."""
    return f"has_{name}"


def indicators(images: Collection[str], optional: Iterable[str]) -> dict[str, str]:
    """The covariates of a scan with these images, one for each optional image."""
    return {indicator(name): str(int(name in images)) for name in optional}


def indicated(columns: Iterable[str]) -> tuple[str, ...]:
    """The images of which a study's table tells which scans have them; its images stand between ``label`` and ``mask``."""
    names = list(columns)
    images = names[names.index("label") + 1 : names.index("mask")] if {"label", "mask"} <= {*names} else []
    return tuple(name for name in images if indicator(name) in names)


def _is_image(cell: str) -> bool:
    return cell.lower().endswith((".nii", ".nii.gz", ".mgz"))


def is_named(path: Path, name: str) -> bool:
    """Whether a BIDS file has an image's suffix and entities."""
    *entities, suffix = path.name.lower().split(".nii")[0].split("_")
    *wanted, wanted_suffix = name.split("_")
    return suffix == wanted_suffix and set(wanted) <= set(entities)


def without_entities(file: str, name: str) -> str:
    """The name of a BIDS file without the entities that an image's name asks for."""
    asked = name.split("_")[:-1]
    return "_".join(part for part in file.split("_") if part.lower() not in asked)


def files_named(paths: Iterable[Path], name: str) -> list[Path]:
    """The BIDS files of an image; where some have entities of ``APART`` that the name lacks, those without them."""
    named = [path for path in paths if is_named(path, name)]
    plain = [path for path in named if not _further(path, name)]
    return plain or named


def name_of(path: Path) -> str:
    """The name of a BIDS file's image: its suffix, with the entities of ``APART`` before it."""
    *entities, suffix = path.name.lower().split(".nii")[0].split("_")
    return "_".join([*(entity for entity in entities if entity.startswith(APART)), suffix])


def _further(path: Path, name: str) -> bool:
    parts = path.name.lower().split(".nii")[0].split("_")
    return any(part.startswith(APART) and part not in name.split("_") for part in parts)
