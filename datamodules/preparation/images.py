"""The prepared grid, and images on their way into and out of ANTs.

Arrays are (I, J, K) with an affine from voxel to RAS+ millimetres, as NIfTI has it. ANTs counts millimetres to the left and to
the back instead; the two functions here are the only place that turns the signs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files.volumes import ScanError, Volume
from regions.grid import Grid

SPACE = "MNI152NLin2009aSym"
PREPARED_GRID = Grid(
    (197, 233, 189),
    ((1.0, 0.0, 0.0, -98.0), (0.0, 1.0, 0.0, -134.0), (0.0, 0.0, 1.0, -72.0), (0.0, 0.0, 0.0, 1.0)),
)
"""The grid of the MNI152NLin2009aSym template at 1 mm, on which prepared images lie unless larger voxels are asked for."""
SIDES_MM = (1.0, 4.0)
"""Smallest and largest voxels of prepared images."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS+ millimetres to ITK's, and back."""
LARGEST_SHEAR = 0.01
"""Cosine between two voxel axes; a scanner's axes are at right angles."""


def prepared_grid(side_mm: float) -> Grid:
    """The template's grid with voxels of another side; x = 0 lies on voxels' centres, so that mirroring moves whole voxels."""
    ends = np.abs([PREPARED_GRID.origin, np.add(PREPARED_GRID.origin, np.subtract(PREPARED_GRID.shape, 1))])
    first, last = np.ceil(ends / side_mm - 1e-9)
    affine = np.diag([side_mm, side_mm, side_mm, 1.0])
    affine[:3, 3] = -first * side_mm
    return Grid.of(tuple(map(int, first + last + 1)), affine)


def to_ants(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    """An ANTs image of float32 voxels."""
    import ants

    turned = LPS @ affine
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(array, dtype=np.float32),
        origin=tuple(map(float, turned[:3, 3])),
        spacing=tuple(map(float, spacing)),
        direction=turned[:3, :3] / spacing,
    )


def from_ants(image: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels (I, J, K) float32 and affine of an ANTs image."""
    turned = np.eye(4)
    turned[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    turned[:3, 3] = image.origin
    return np.asarray(image.numpy(), dtype=np.float32), LPS @ turned


def check_axes(volume: Volume) -> None:
    """Refuse an image whose voxel axes are not at right angles, which ITK would misread.

    Raises:
        ScanError: naming the file.
    """
    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    skew = float(np.abs(columns.T @ columns - np.eye(3)).max())
    if skew > LARGEST_SHEAR:
        problem = f"its voxel axes are not at right angles (cosine {skew:.3f}, {LARGEST_SHEAR:g} is allowed)"
        raise ScanError(f"{volume.path}: {problem}; export it again without a transform in the header")


def smoothed(array: NDArray[Any], affine: NDArray[np.float64], side_mm: float) -> NDArray[np.float32]:
    """An image without the detail that voxels of ``side_mm`` cannot hold, on its own voxels; larger ones are left as they are.

    A Gaussian whose full width at half maximum makes the width of a voxel that of the larger one.
    """
    from scipy.ndimage import gaussian_filter1d

    values = np.asarray(array, dtype=np.float32)
    for axis, step in enumerate(side_mm / np.linalg.norm(affine[:3, :3], axis=0)):
        if step > 1:
            values = gaussian_filter1d(values, np.sqrt(step**2 - 1) / 2.355, axis=axis, mode="nearest")
    return values


def isotropic(
    array: NDArray[Any], affine: NDArray[np.float64], side_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A coarse copy with cubic voxels, smoothed first where that is coarser: for estimating, never for keeping.

    Args:
        array: (I, J, K), any orientation.
        affine: (4, 4) voxel to mm.
        side_mm: Side of the new voxels.

    Returns:
        (i, j, k) float32, and its affine; the volume's outer faces stay where they are, to within a voxel.
    """
    from scipy.ndimage import affine_transform

    steps = side_mm / np.linalg.norm(affine[:3, :3], axis=0)
    values = smoothed(array, affine, side_mm)
    shape = tuple(max(round(side / step), 1) for side, step in zip(values.shape, steps, strict=True))
    shift = (steps - 1) / 2
    coarse = affine_transform(values, np.diag(steps), shift, output_shape=shape, order=1, mode="nearest")
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ shift
    moved[:3, :3] = affine[:3, :3] * steps
    return coarse, moved
