"""Pictures of the group maps on the template, as they go to W&B: ``explain/figures/<input>.png``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from datamodules.files.atomic import write_atomically
from datamodules.files.listing import list_folder
from experiments.explaining.group_maps import Volume
from experiments.rendering.heat import Cut, cuts, picture_png, upper_limit
from regions.catalog import REGIONS
from regions.grid import Grid

SHOWN = "ratio"
"""The map that is drawn: what networks look at more than networks with permuted labels do."""


def read_map(path: Path) -> tuple[Volume, Grid]:
    """A group map, and its grid."""
    image: Any = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), Grid.of(image.shape, image.affine)


def planes_of(folder: Path, row: Mapping[str, Any]) -> tuple[list[Cut], float]:
    """The planes of an input's map with outlines of the regions that are looked at, and the value from which it is opaque."""
    values, grid = read_map(folder / row["maps"][SHOWN])
    outlined = [region["name"] for region in row["regions"] if region["beyond"] and region["name"] in REGIONS]
    limit = upper_limit(values)
    return cuts(values, grid, outlined, limit), limit


def write_pictures(folder: Path, content: Mapping[str, Any]) -> dict[str, Path]:
    """Draw the inputs whose map is shown, remove the pictures of others; input -> PNG."""
    written = {}
    for row in content["inputs"]:
        if SHOWN in row["maps"]:
            planes, limit = planes_of(folder, row)
            title = f"{row['input']}: relevance over that of networks with permuted labels"
            path = folder / "explain" / "figures" / f"{row['input']}.png"
            write_atomically(path, partial(_put, picture_png(planes, title, limit)))
            written[row["input"]] = path
    for path in list_folder(folder / "explain" / "figures", "*.png"):
        if path not in written.values():
            path.unlink()
    return written


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)
