"""Where the controls look instead of a region: a random place of its size, and everywhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regions.atlas import dilated, region_mask, template_on
from regions.catalog import Region
from regions.grid import Grid

SEAM_MM = 6.0
"""A random region keeps this distance from the region it stands in for."""


def shown_mask(region: Region, grid: Grid, mask_mode: str, dilate_mm: float) -> npt.NDArray[np.bool_]:
    """The template's region as the study shows it, (I, J, K) bool; in subject mode the template's own."""
    return region_mask(region, grid, dilate_mm if mask_mode == "template-dilated" else 0.0)


def complement_mask(region: Region, grid: Grid, mask_mode: str, dilate_mm: float) -> npt.NDArray[np.bool_]:
    """The template brain without a region, (I, J, K) bool."""
    return np.asarray((template_on(grid) > 0) & ~shown_mask(region, grid, mask_mode, dilate_mm))


def random_mask(
    region: Region, grid: Grid, mask_mode: str, dilate_mm: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """A piece of the template brain as large as a region: the voxels nearest to a random point, on both sides of the midline.

    It keeps `SEAM_MM` away from the region where that leaves at least twice the room that is needed; a region that fills much
    of the brain cannot be avoided, and then the place is anywhere.

    Args:
        region: A region with labels.
        grid: Where the mask is wanted.
        mask_mode: How the study cuts its regions.
        dilate_mm: How far ``template-dilated`` grows.
        rng: Chooses the point.

    Returns:
        (I, J, K) bool with as many voxels as the region.
    """
    taken = shown_mask(region, grid, mask_mode, dilate_mm)
    brain = template_on(grid) > 0
    free = brain & ~dilated(taken, grid.spacing, SEAM_MM)
    wanted = int(taken.sum())
    if free.sum() < 2 * wanted:
        free = brain
    voxels = np.argwhere(free)
    places = voxels * grid.spacing + np.array(grid.origin)
    centre = places[rng.integers(len(places))]
    sides = np.abs(places[:, 0]) - abs(centre[0])
    distance = np.hypot(sides, np.linalg.norm(places[:, 1:] - centre[1:], axis=1))
    chosen = voxels[np.argsort(distance, kind="stable")[:wanted]]
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(chosen.T)] = True
    return mask


def overlap(mask: npt.NDArray[np.bool_], region: Region, grid: Grid, mask_mode: str, dilate_mm: float) -> float:
    """Share of a mask that lies in a region, 0 ... 1."""
    return float((mask & shown_mask(region, grid, mask_mode, dilate_mm)).sum() / mask.sum())
