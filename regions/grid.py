"""The geometry of volumes: voxel grids in RAS+ order, the gap between two of them, and boxes around a region.

A grid's first axis runs from left to right, the second from posterior to anterior, the third from inferior to superior;
world coordinates are millimetres. In MNI152 space the plane x = 0 is the mid-sagittal plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regions.errors import UserError

TOLERANCE_MM = 0.1
"""Two affines that move no corner of the volume further apart than this are taken as equal."""

Affine = tuple[tuple[float, ...], ...]


class SpaceError(UserError):
    """An image does not lie in the space that was asked for."""


class EmptyRegionError(UserError):
    """A region has no voxel here."""


def space_gap_mm(shape: tuple[int, ...], affine_a: ArrayLike, affine_b: ArrayLike) -> float:
    """Return the largest distance in mm between the corners of one volume under two affines.

    Args:
        shape: the three sides of the volume, in voxels.
        affine_a: (4, 4), voxel to mm.
        affine_b: (4, 4), voxel to mm.
    """
    outer = [(-0.5, side - 0.5) for side in shape]
    corners = np.array([(*corner, 1.0) for corner in product(*outer)])
    apart = corners @ (np.asarray(affine_a, float) - np.asarray(affine_b, float)).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


@dataclass(frozen=True)
class Grid:
    """An axis-aligned RAS+ voxel grid; hashable, so that masks are computed once per grid.

    Args:
        shape: sides in voxels.
        affine: (4, 4) as nested tuples, voxel to mm, with a positive diagonal and nothing beside it. `Grid.of` makes
            one from an array and forgives rounding noise.

    Raises:
        SpaceError: a side below 1, or an affine that is not axis-aligned RAS+.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise SpaceError(f"A grid needs three sides of at least 1 voxel, not {tuple(self.shape)}.")
        matrix = self.matrix
        straight = np.diag(np.diag(matrix))
        straight[:3, 3] = matrix[:3, 3]
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix, straight):
            raise SpaceError(f"A grid needs a finite, axis-aligned (4, 4) affine, not {self.affine}. See Grid.of().")
        if np.diag(matrix).min() <= 0:
            raise SpaceError(f"A grid is RAS+: its spacing must be positive, not {np.diag(matrix)[:3].tolist()} mm.")

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: ArrayLike, tolerance_mm: float = TOLERANCE_MM) -> Grid:
        """Make a grid from an array's shape and affine.

        Args:
            shape: the three sides of the volume, in voxels.
            affine: (4, 4), voxel to mm.
            tolerance_mm: how far a corner may move when the axes are made straight.

        Raises:
            SpaceError: the axes are mirrored, permuted or oblique.
        """
        matrix = np.asarray(affine, float)
        straight = np.eye(4)
        np.fill_diagonal(straight[:3, :3], np.diag(matrix)[:3])
        straight[:3, 3] = matrix[:3, 3]
        gap = space_gap_mm(shape, matrix, straight)
        if gap > tolerance_mm or np.diag(straight).min() <= 0:
            raise SpaceError(_orientation_message(matrix, gap, tolerance_mm))
        rows = tuple(tuple(float(value) for value in row) for row in straight.round(6))
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), rows)

    @classmethod
    def of_plain(cls, content: Mapping[str, Any]) -> Grid:
        """From JSON, as ``dataclasses.asdict`` gives it.

        Raises:
            SpaceError: it cannot be a grid.
        """
        i, j, k = content["shape"]
        return cls((i, j, k), tuple(tuple(map(float, row)) for row in content["affine"]))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array, (4, 4), voxel to mm."""
        return np.array(self.affine, dtype=float)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sides in mm."""
        return self.affine[0][0], self.affine[1][1], self.affine[2][2]

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0) in mm."""
        return self.affine[0][3], self.affine[1][3], self.affine[2][3]

    @property
    def mirror(self) -> int:
        """Voxels i and mirror - i along the first axis lie at -x and +x, to the nearest half voxel."""
        return round(-2 * self.origin[0] / self.spacing[0])

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in cubic mm."""
        i, j, k = self.spacing
        return i * j * k


def _orientation_message(matrix: NDArray[np.float64], gap: float, tolerance_mm: float) -> str:
    """Say what is wrong with an affine that is not axis-aligned RAS+."""
    from nibabel.orientations import aff2axcodes

    code = "".join(str(letter or "?") for letter in aff2axcodes(matrix))
    if code != "RAS":
        return f"The image is stored as {code}, not RAS. Apply torchio.ToCanonical() first."
    return (
        f"The image is oblique: its corners lie {gap:.2f} mm from an axis-aligned grid, "
        f"{tolerance_mm:g} mm are allowed. Bring it to MNI152 space first (regionwise prepare)."
    )


def tight_slices(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the bounding box of a mask that is not empty."""
    i, j, k = (extent(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3))
    return i, j, k


def extent(touched: ArrayLike) -> slice:
    """Return the slice from the first to the last true entry, empty when there is none."""
    where = np.flatnonzero(touched)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0, 0)


@dataclass(frozen=True)
class Box:
    """Voxels start <= index < stop on each axis. It may reach outside its grid; there a reader pads with zeros."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sides in voxels."""
        i, j, k = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return i, j, k


def region_box(mask: NDArray[np.bool_], grid: Grid, multiple: int, least_side: int = 1) -> Box:
    """Return a box around a mask that a left-right flip maps to itself and that a strided network can take.

    The box is tight, made symmetric about x = 0 mm, and grown at both ends until every side is a multiple of
    `multiple` and at least `least_side`. Where x = 0 falls on a voxel centre and the side must be even, the right end has
    one voxel more: a flip of the box then mirrors the brain half a voxel beside x = 0.

    Args:
        mask: (I, J, K) bool on the grid.
        grid: the grid of the mask; only the x axis matters.
        multiple: the network's total stride, in voxels.
        least_side: the smallest side that the network can take, in voxels.

    Raises:
        EmptyRegionError: the mask has no voxel.
        ValueError: the mask has another shape than the grid, or multiple is below 1.
    """
    if mask.shape != grid.shape:
        raise ValueError(f"The mask has shape {mask.shape}, its grid {grid.shape}: they must be equal.")
    if multiple < 1:
        raise ValueError(f"The sides of a box are a multiple of 1 or more voxels, not {multiple}.")
    if not mask.any():
        raise EmptyRegionError("An empty mask has no box. Does the image contain the region?")
    sides = tight_slices(mask)
    starts = [side.start for side in sides]
    stops = [side.stop for side in sides]
    mirror = grid.mirror
    starts[0], stops[0] = min(starts[0], mirror - stops[0] + 1), max(stops[0], mirror - starts[0] + 1)
    for axis in range(3):
        side = stops[axis] - starts[axis]
        least = max(side, least_side)
        missing = least - side + -least % multiple
        starts[axis] -= missing // 2
        stops[axis] += missing - missing // 2
    return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))
