"""Which voxels an input shows: its mask on the study's grid, and the box that its batches cut out. Needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from regions.atlas import region_mask
from regions.catalog import Region
from regions.grid import Box, Grid, region_box

SUBJECT_ROOM_MM = 10.0


def region_step(
    region: Region, grid: Grid, mask_mode: str, dilate_mm: float, multiple_of: int
) -> tuple[np.ndarray[Any, Any] | None, Box]:
    """The template mask of a region (None for the whole brain) and the box that its batches show.

    In subject mode the box leaves 10 mm of room around the template's region.
    """
    room = {"template": 0.0, "template-dilated": dilate_mm, "subject": SUBJECT_ROOM_MM}[mask_mode] if region.labels else 0.0
    mask = region_mask(region, grid, room)
    return (mask if region.labels else None), region_box(mask, grid, multiple_of)


def crop_to_box(mask: np.ndarray[Any, Any], box: Box) -> np.ndarray[Any, Any]:
    """Cut a box out of an array (I, J, K), zero where the box reaches outside."""
    room = max(max(-s for s in box.start), max(e - n for e, n in zip(box.stop, mask.shape, strict=True)), 0)
    padded = np.pad(mask, room)
    return padded[tuple(slice(a + room, b + room) for a, b in zip(box.start, box.stop, strict=True))]
