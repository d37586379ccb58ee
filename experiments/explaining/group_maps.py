"""Group maps as NIfTI on the study's grid: what networks look at on average, and how that compares with permuted networks.

::

    studies/<name>/explain/maps/input-<input>_space-MNI152NLin2009aSym_desc-<what>_relevance.nii.gz

``meanabs``, ``meansigned`` (and both for each class, ``...negative``, ``...positive``): a scan's |relevance| has mean 1 over
what it shows. ``permuted`` and ``untrained``: mean |relevance| of networks with permuted labels and with random weights.
``ratio``: ``meanabs`` over ``permuted``, both smoothed a little, 0 outside the input.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from datamodules.files.atomic import write_atomically
from datamodules.store.boxes import crop_to_box, within
from experiments.explaining.jobs import Job, Kind, read_part
from experiments.explaining.setup import Explained
from regions.grid import Box, Grid

SPACE = "MNI152NLin2009aSym"
"""The space of the template that regions come from (Fonov et al. 2011), and of cohorts that ``prepare`` makes."""
SMOOTH_VOXELS = 0.8
"""SD in voxels of the smoothing before a ratio is taken: about two voxels wide."""
Volume = npt.NDArray[np.float32]


def on_grid(values: npt.NDArray[Any], box: Box, shape: tuple[int, int, int]) -> Volume:
    """A box's values (*box.shape) where they belong in the grid (*shape), 0 elsewhere."""
    whole = Box((0, 0, 0), shape)
    return np.asarray(crop_to_box(values, within(whole, box)), dtype=np.float32)


def network_maps(explained: Explained, job: Job) -> dict[str, Volume]:
    """The maps of a complete part on the study's grid; none where the network did not train."""
    part = read_part(explained, job)
    if part is None or part.get("failed"):
        return {}
    box = Box(tuple(part["box"]["start"]), tuple(part["box"]["stop"]))
    maps = np.load(job.folder(explained.folder) / "maps.npy", allow_pickle=False)
    counts = part["counts"]
    named = dict(zip(part["maps"], maps.astype(np.float32), strict=True))
    if "absolute" not in named:
        share = np.array(counts) / max(sum(counts), 1)
        named |= {kind: share[0] * named[f"{kind}_0"] + share[1] * named[f"{kind}_1"] for kind in ("absolute", "signed")}
    return {name: on_grid(values, box, explained.study.prepared.grid.shape) for name, values in named.items()}


def mean_maps(explained: Explained, jobs: Sequence[Job]) -> dict[str, Volume]:
    """Mean over networks of each of their maps."""
    totals: dict[str, Volume] = {}
    count = 0
    for job in jobs:
        maps = network_maps(explained, job)
        count += bool(maps)
        for name, values in maps.items():
            totals[name] = totals[name] + values if name in totals else values
    return {name: np.asarray(total / count, dtype=np.float32) for name, total in totals.items()}


def group_maps(explained: Explained, jobs: Mapping[Kind, Sequence[Job]]) -> dict[str, Volume]:
    """All group maps of an input, by the word in their file's name."""
    kinds, ends = {"absolute": "meanabs", "signed": "meansigned"}, {"": "", "_0": "negative", "_1": "positive"}
    trained = mean_maps(explained, jobs["trained"])
    maps = {f"{word}{end}": trained[f"{kind}{key}"] for key, end in ends.items() for kind, word in kinds.items()}
    other = {kind: mean_maps(explained, jobs[kind]).get("absolute") for kind in jobs if kind != "trained"}
    maps |= {kind: volume for kind, volume in other.items() if volume is not None}
    if "permuted" in maps:
        inside = explained.inside(jobs["trained"][0].input) & (maps["meanabs"] > 0)
        maps["ratio"] = ratio(maps["meanabs"], maps["permuted"], inside)
    return maps


def ratio(first: Volume, second: Volume, inside: npt.NDArray[np.bool_]) -> Volume:
    """First over second, each smoothed within a mask (normalised convolution); 0 outside it, and where second is 0."""
    weight = gaussian_filter(inside.astype(np.float32), SMOOTH_VOXELS)
    smooth = [gaussian_filter(volume * inside, SMOOTH_VOXELS) / np.maximum(weight, 1e-6) for volume in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(inside & (smooth[1] > 0), smooth[0] / smooth[1], 0), dtype=np.float32)


def map_path(folder: Path, name: str, what: str) -> Path:
    """Where a group map lies."""
    return folder / "explain" / "maps" / f"input-{name}_space-{SPACE}_desc-{what}_relevance.nii.gz"


def write_nifti(path: Path, values: Volume, grid: Grid) -> None:
    """Write a volume on a grid as compressed NIfTI, float32, the same bytes each time; qform and sform say MNI152 (code 4)."""
    image = nib.Nifti1Image(values, grid.matrix)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.matrix, code=4)
    image.set_qform(grid.matrix, code=4)
    content = gzip.compress(image.to_bytes(), mtime=0)
    write_atomically(path, lambda file: file.write(content))
