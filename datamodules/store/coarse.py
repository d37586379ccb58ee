"""Prepared volumes on larger voxels, by averaging: what a cheap control experiment trains on.

Beside ``volumes/`` of a store lies ``averaged-<factor>/volumes/<key>/`` with the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.images import kind_of
from datamodules.files.atomic import content_sha256, locked, new_folder
from datamodules.store.checksums import complete, verify
from datamodules.store.prepare import TINY
from datamodules.store.prepared import FILES, PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from regions.errors import UserError
from regions.grid import Grid


def coarsened(prepared: PreparedCohort, spacing_mm: float, on_scan: Callable[[int, int], None] | None = None) -> PreparedCohort:
    """The same scans on voxels of about ``spacing_mm``; the cohort itself where its voxels are as large already.

    Args:
        prepared: Volumes of a cohort.
        spacing_mm: Wanted side of a voxel; whole numbers of voxels are put together, so the side comes as near as it can.
        on_scan: Called with (done, to do) after each scan.

    Raises:
        UserError: if ``spacing_mm`` is not positive.
        OSError: if the store cannot be written.
    """
    if spacing_mm <= 0:
        raise UserError(f"spacing is {spacing_mm:g} mm; give a positive size, for example 3")
    factor = round(spacing_mm / float(np.mean(prepared.grid.spacing)))
    if factor < 2:
        return prepared
    folder = prepared.folder / f"averaged-{factor}"
    scans = tuple(_coarse_scan(scan, prepared.names) for scan in prepared.scans)
    made = replace(prepared, folder=folder, grid=coarse_grid(prepared.grid, factor), scans=scans)
    todo = [row for row in range(len(prepared.scans)) if made.missing(row)]
    for done, row in enumerate(todo, start=1):
        fine = dict(zip(scans[row].volumes, prepared.scans[row].volumes, strict=True))
        for path in made.missing(row):
            _make(prepared.folder / "volumes" / fine[path.parent.name] / path.name, path, factor, prepared)
        if on_scan:
            on_scan(done, len(todo))
    return made


def on_larger_voxels(
    prepared: PreparedCohort, voxel_mm: float, on_scan: Callable[[int, int], None] | None = None
) -> PreparedCohort:
    """The same scans on voxels of exactly ``voxel_mm``; 0 leaves them as they are.

    Raises:
        UserError: if that is not a whole multiple of the scans' own voxels.
    """
    own = max(prepared.grid.spacing)
    factor = round(voxel_mm / own)
    if voxel_mm and (factor < 1 or not np.allclose(np.multiply(prepared.grid.spacing, factor), voxel_mm, rtol=1e-3)):
        sizes = ", ".join(f"{own * times:g}" for times in (2, 3))
        raise UserError(f"--voxel_mm {voxel_mm:g}: voxels of {own:g} mm can be put together to {sizes}, ... mm; 0 keeps them")
    return coarsened(prepared, voxel_mm, on_scan) if voxel_mm else prepared


def coarse_grid(grid: Grid, factor: int) -> Grid:
    """The grid whose voxels are ``factor`` voxels of another wide; the last ones may reach beyond it."""
    shape = tuple(-(-side // factor) for side in grid.shape)
    affine = np.diag([*(np.array(grid.spacing) * factor), 1.0])
    affine[:3, 3] = np.array(grid.origin) + (factor - 1) / 2 * np.array(grid.spacing)
    return Grid.of(shape, affine)


def _coarse_scan(scan: StoredScan, names: Sequence[str]) -> StoredScan:
    """The same volumes, under other keys where an image holds labels, which have no average."""
    keys = zip(names, scan.images, strict=True)
    return replace(scan, images=tuple(_commonest_key(key) if key and kind_of(name) == "labels" else key for name, key in keys))


def _commonest_key(key: str) -> str:
    return content_sha256([key, "commonest"])[:40]


def _make(fine: Path, coarse: Path, factor: int, prepared: PreparedCohort) -> None:
    target = coarse.parent
    with locked(target.parents[1] / "locks" / target.name):
        if complete(target, FILES[coarse.stem]):
            return
        verify(fine.with_name("scan.json"))
        facts = json.loads(fine.with_name("scan.json").read_text(encoding="utf-8"))
        array = np.asarray(prepared.mapped(fine))
        with new_folder(target) as new:
            write_volume(new, target.name, {coarse.stem: _coarse(array, coarse, fine, factor)}, facts)


def _coarse(array: npt.NDArray[Any], coarse: Path, fine: Path, factor: int) -> npt.NDArray[Any]:
    if coarse.stem == "labels":
        return commonest(array, factor)
    average = averaged(array[None], factor)[0]
    if coarse.parent.name != _commonest_key(fine.parent.name):
        return average
    return np.where(average != 0, commonest(array, factor, outside=0), np.float16(0))


def _blocks(volume: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """The voxels of every coarse voxel as a last axis: (..., I, J, K) -> (..., I', J', K', factor**3), zero-padded."""
    sides = volume.shape[-3:]
    pad = [(0, 0)] * (volume.ndim - 3) + [(0, -side % factor) for side in sides]
    whole = np.pad(volume, pad)
    lead = whole.shape[:-3]
    i, j, k = (side // factor for side in whole.shape[-3:])
    split = whole.reshape(*lead, i, factor, j, factor, k, factor)
    n = len(lead)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3, n + 5)
    return split.transpose(order).reshape(*lead, i, j, k, factor**3)


def averaged(image: npt.NDArray[np.float16], factor: int) -> npt.NDArray[np.float16]:
    """Mean over the brain voxels of each block; a block of which less than half is brain is outside, exactly zero.

    Args:
        image: (C, I, J, K) float16, exactly zero outside the brain and nowhere else.
        factor: Voxels a side that are put together.

    Returns:
        (C, I', J', K') float16 with the same promise.
    """
    blocks = _blocks(image, factor)
    inside = (blocks != 0).any(axis=0)
    count = inside.sum(axis=-1)
    total = blocks.sum(axis=-1, dtype=np.float32)
    mean = np.where(count * 2 >= factor**3, total / np.maximum(count, 1), 0).astype(np.float16)
    brain = count * 2 >= factor**3
    mean[(mean == 0) & brain] = TINY
    return np.asarray(mean, dtype=np.float16)


def commonest(labels: npt.NDArray[Any], factor: int, outside: int | None = None) -> npt.NDArray[Any]:
    """The most frequent label of each block, the first of equally frequent ones: (I, J, K) -> (I', J', K') of the same type.

    Args:
        labels: A label map, or an image of labels.
        factor: Voxels a side that are put together.
        outside: A value that is taken only where a block has no other.
    """
    blocks = np.moveaxis(_blocks(labels, factor), -1, 0)
    most = np.zeros(blocks.shape[1:], dtype=np.int16)
    best = blocks[0].copy()
    for candidate in blocks:
        count = (blocks == candidate).sum(axis=0, dtype=np.int16)
        if outside is not None:
            count[candidate == outside] = 0
        better = count > most
        best[better], most[better] = candidate[better], count[better]
    return best
