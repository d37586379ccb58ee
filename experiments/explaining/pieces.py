"""The regions that an input shows, made disjoint: each voxel belongs to the smallest region that holds it.

So shares add up, and taking one region away leaves all others as they are: of a study's six inputs the whole brain shows five,
*gray matter* without the subcortical nuclei. A study's own regions and the regions of its atlas join them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.files.atomic import content_sha256
from regions.atlas import region_mask
from regions.catalog import Region
from regions.grid import EmptyRegionError, Grid

INSIDE = 0.9
"""Share of a region's voxels that must lie in the input, and share of the input that a region must not fill."""
LEFT = 0.5
"""Share of a region's voxels that must be left when smaller regions are taken out of it."""
SEVERAL = 2
"""Regions from which on an input shows several."""


@dataclass(frozen=True)
class Pieces:
    """Disjoint regions of an input.

    Attributes:
        names: In the order of the study's regions.
        without: For each the smaller regions that were taken out of it.
        index: (I, J, K) int16 on the study's grid: number of the piece from 1, 0 elsewhere.
    """

    names: tuple[str, ...]
    without: tuple[tuple[str, ...], ...]
    index: npt.NDArray[np.int16]

    @property
    def several(self) -> bool:
        """Whether there is something to tell apart."""
        return len(self.names) >= SEVERAL

    @property
    def voxels(self) -> list[int]:
        """Voxels of each piece."""
        return [int(count) for count in np.bincount(self.index.ravel(), minlength=len(self.names) + 1)[1:]]

    @property
    def digest(self) -> str:
        """SHA-256 of names and voxels."""
        return content_sha256([list(self.names), np.packbits(self.index.astype(">i2").view(np.uint8)).tobytes().hex()])


def pieces_of(shown: Region, regions: Iterable[Region], grid: Grid) -> Pieces:
    """The disjoint regions that an input shows.

    Args:
        shown: The input.
        regions: All regions of the study; those that choose among the images, and the whole brain, are passed over.
        grid: The study's.
    """
    inside = region_mask(shown, grid)
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for region in regions:
        mask = _mask(region, grid) if region.labels and not region.images and region.name != shown.name else None
        if mask is not None and _fits(mask, inside) and not any(np.array_equal(mask, other) for other in masks.values()):
            masks[region.name] = mask
    while True:
        index = _painted(masks, inside)
        small = [name for number, name in enumerate(masks, 1) if (index == number).sum() < LEFT * masks[name].sum()]
        if not small:
            break
        del masks[max(small, key=lambda name: masks[name].sum())]
    counts = {name: [other for other in masks if other != name and _holds(masks[name], masks[other])] for name in masks}
    return Pieces(tuple(masks), tuple(tuple(taken) for taken in counts.values()), index)


def _mask(region: Region, grid: Grid) -> npt.NDArray[np.bool_] | None:
    try:
        return region_mask(region, grid)
    except EmptyRegionError:
        return None


def _fits(mask: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> bool:
    shared = int((mask & inside).sum())
    return shared >= INSIDE * mask.sum() and shared < INSIDE * inside.sum()


def _painted(masks: dict[str, npt.NDArray[np.bool_]], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """Numbers of the masks in their order, the smallest painted last."""
    index = np.zeros(inside.shape, dtype=np.int16)
    numbers = {name: number for number, name in enumerate(masks, 1)}
    for name in sorted(masks, key=lambda name: -int(masks[name].sum())):
        index[masks[name] & inside] = numbers[name]
    return index


def _holds(large: npt.NDArray[Any], small: npt.NDArray[Any]) -> bool:
    """Whether most of a smaller mask lies in a larger one."""
    return bool(large.sum() > small.sum() and (large & small).sum() > LEFT * small.sum())
