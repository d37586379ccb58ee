"""Which voxels an input shows: its mask on the study's grid, and the box that its batches cut out. Needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from regions.atlas import region_mask
from regions.catalog import Region
from regions.errors import UserError
from regions.grid import Box, Grid, region_box

SUBJECT_ROOM_MM = 10.0


def region_step(
    region: Region, grid: Grid, mask_mode: str, dilate_mm: float, multiple_of: int, least_side: int = 1
) -> tuple[np.ndarray[Any, Any] | None, Box]:
    """The template mask of a region (None for the whole brain) and the box that its batches show.

    In subject mode the box leaves 10 mm of room around the template's region.

    Raises:
        UserError: if there is no such mask mode, or the subjects' label maps have not the region's labels.
    """
    rooms = {"template": 0.0, "template-dilated": dilate_mm, "subject": SUBJECT_ROOM_MM}
    if mask_mode not in rooms:
        raise UserError(f"mask mode {mask_mode!r} does not exist; modes are {', '.join(rooms)}")
    if region.atlas is not None and mask_mode == "subject":
        raise UserError(
            f"region {region.name!r} is of the atlas {region.atlas.path.name}, which the scans' own label maps do not hold; "
            "use data.mask_mode template"
        )
    mask = region_mask(region, grid, rooms[mask_mode] if region.labels else 0.0)
    return (mask if region.labels else None), region_box(mask, grid, multiple_of, least_side)


def within(box: Box, around: Box) -> Box:
    """A box in the voxels of another one: what it is in an array that holds nothing but the other."""
    start, stop = ([a - b for a, b in zip(end, around.start, strict=True)] for end in (box.start, box.stop))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def crop_to_box(whole: np.ndarray[Any, Any], box: Box, out: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Copy a box out of an array (..., I, J, K), zero where the box reaches outside; reads no more than the box.

    Args:
        whole: The array.
        box: What is copied.
        out: (..., *box.shape), zero everywhere; a new array without it.
    """
    sides = whole.shape[-3:]
    inside = [(min(max(a, 0), n), max(min(b, n), 0)) for a, b, n in zip(box.start, box.stop, sides, strict=True)]
    out = np.zeros((*whole.shape[:-3], *box.shape), dtype=whole.dtype) if out is None else out
    if all(a < b for a, b in inside):
        i, j, k = (slice(a - s, b - s) for (a, b), s in zip(inside, box.start, strict=True))
        out[..., i, j, k] = whole[..., slice(*inside[0]), slice(*inside[1]), slice(*inside[2])]
    return out
