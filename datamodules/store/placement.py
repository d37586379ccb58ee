"""Where the voxels of a scan come to lie on the study's grid: turned, cropped and padded, never interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation

from datamodules.files.volumes import ScanError, Volume, turned_grid
from regions.grid import TOLERANCE_MM, Grid, SpaceError, space_gap_mm

BLOCK = (6, 96)
"""Rows, and voxels of each, that are turned at once; of a dozen sizes the one that took least time."""


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a scan come to lie on the study's grid: turned to RAS+, then cropped and padded."""

    turns: npt.NDArray[np.float64]
    source: tuple[slice, ...]
    target: tuple[slice, ...]
    shape: tuple[int, int, int]

    def __call__(self, array: npt.NDArray[Any], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copy an array (I, J, K) of the scan into the grid's shape, in the same type and C order, 0 where nothing is.

        Args:
            array: In any order in memory.
            out: Takes the copy; a new array without it.
        """
        part = self._seen(array)
        out = np.empty(self.shape, array.dtype) if out is None else out
        if part.shape != self.shape:
            out[...] = 0
        _copy(out[self.target], part)
        return out

    def kept(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask (I, J, K) of the scan without the voxels that the grid has no place for, in Fortran order."""
        kept = np.zeros(mask.shape, np.bool_, order="F")
        self._seen(kept)[...] = self._seen(mask)
        return kept

    def _seen(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an array of the scan that lies on the grid, turned to RAS+; a view."""
        seen: npt.NDArray[Any] = apply_orientation(array, self.turns)[self.source]
        return seen


def _copy(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy a volume into one in C order, in blocks that stay in the processor's cache where the order in memory changes."""
    across = 1 - int(np.argmin(np.abs(source.strides)))
    if across < 0:
        target[...] = source
        return
    target, source = np.moveaxis(target, across, 0), np.moveaxis(source, across, 0)
    rows, length = BLOCK
    for start in range(0, len(source), rows):
        for along in range(0, source.shape[2], length):
            block = slice(start, start + rows), slice(None), slice(along, along + length)
            target[block] = source[block]


def placement(reference: Volume, grid: Grid) -> Placement:
    """How a scan's voxels are turned, cropped and padded to be those of the grid; nothing is interpolated.

    Raises:
        ScanError: if voxel size or voxel position differ, so that an interpolation would be needed.
    """
    try:
        turns, scan_grid = turned_grid(reference.array.shape, reference.affine)
    except SpaceError as error:
        raise ScanError(f"{reference.path}: {error}") from None
    if not np.allclose(scan_grid.spacing, grid.spacing, rtol=1e-3):
        sizes = f"voxels of {_mm(scan_grid.spacing)}, the study {_mm(grid.spacing)}"
        raise ScanError(f"{reference.path} has {sizes}; prepare all scans at one size")
    first = np.rint((np.array(grid.origin) - np.array(scan_grid.origin)) / np.array(grid.spacing)).astype(int)
    if (first >= scan_grid.shape).any() or (first + grid.shape <= 0).any():
        raise ScanError(f"{reference.path} lies wholly outside the MNI152 template's brain; register it to MNI152")
    shifted = scan_grid.matrix
    shifted[:3, 3] += first * scan_grid.spacing
    beside = space_gap_mm(grid.shape, grid.matrix, shifted)
    if beside > TOLERANCE_MM:
        raise ScanError(
            f"{reference.path} lies {beside:.2f} mm beside the voxels of the study's other scans; prepare all scans alike"
        )
    low, high = np.maximum(first, 0), np.minimum(first + grid.shape, scan_grid.shape)
    source = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    target = tuple(slice(int(a), int(b)) for a, b in zip(low - first, high - first, strict=True))
    return Placement(turns, source, target, grid.shape)


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{side:g}" for side in np.round(spacing, 3)) + " mm"
