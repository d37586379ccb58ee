"""How much of a region there is, and how much of something lies in it: arrays in, plain numbers out.

Every function takes a label map in the scheme of `regions.labels` and any number of regions, and returns one entry per
region under its name. A region that is absent has 0 voxels; what cannot be computed without voxels is nan, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regions.catalog import Region


class Volume(NamedTuple):
    """The size of a region: voxels, and millilitres."""

    voxels: int
    ml: float


class Share(NamedTuple):
    """How an attribution map treats a region.

    Attributes:
        attribution: share of the brain's absolute attribution that lies in the region, 0 ... 1.
        volume: share of the brain's volume that the region takes, 0 ... 1.
        ratio: attribution / volume: 1 is what a map without any preference gives.
    """

    attribution: float
    volume: float
    ratio: float


def region_volumes(labels: NDArray[np.uint8], voxel_mm3: float, regions: Iterable[Region]) -> dict[str, Volume]:
    """Count the voxels of each region.

    Args:
        labels: (I, J, K) uint8.
        voxel_mm3: volume of one voxel in cubic mm.
        regions: what to measure.

    Raises:
        ValueError: the voxel volume is not positive.
    """
    if not voxel_mm3 > 0:
        raise ValueError(f"The volume of a voxel is positive, not {voxel_mm3} mm^3.")
    counts = np.bincount(labels.ravel(), minlength=256)
    voxels = {region.name: int(counts[region.select(np.arange(256))].sum()) for region in regions}
    return {name: Volume(count, count * voxel_mm3 / 1000) for name, count in voxels.items()}


def region_means(image: NDArray[Any], labels: NDArray[np.uint8], regions: Iterable[Region]) -> dict[str, float]:
    """Average an image over each region, in double precision.

    Args:
        image: (I, J, K), any unit.
        labels: (I, J, K) uint8, on the same grid.
        regions: where to average.

    Returns:
        Mean per region, nan for a region without voxels.

    Raises:
        ValueError: image and labels have different shapes.
    """
    _same_shape(image, labels)
    masks = {region.name: region.select(labels) for region in regions}
    return {name: float(image[mask].mean(dtype=np.float64)) if mask.any() else nan for name, mask in masks.items()}


def attribution_share(attribution: NDArray[Any], labels: NDArray[np.uint8], regions: Iterable[Region]) -> dict[str, Share]:
    """Say how much of an attribution map falls into each region, against the volume of the region.

    Large regions collect much attribution by being large; `ratio` takes that out. The sign is dropped; what lies
    outside the brain is left out of every sum.

    Args:
        attribution: (I, J, K), any unit.
        labels: (I, J, K) uint8, on the same grid.
        regions: what to compare; they may overlap.

    Raises:
        ValueError: the shapes differ, the map has nan or infinity in the brain, or is 0 in the whole brain.
    """
    _same_shape(attribution, labels)
    strength = np.abs(attribution[labels > 0], dtype=np.float64)
    inside = labels[labels > 0]
    total = float(strength.sum())
    if not np.isfinite(total):
        raise ValueError("The attribution map has nan or infinite values in the brain. Did training diverge?")
    if total == 0:
        raise ValueError("The attribution map is 0 in the whole brain, so no share can be given.")
    shares = {}
    for region in regions:
        mask = region.select(inside)
        attributed, volume = float(strength[mask].sum()) / total, float(mask.mean())
        shares[region.name] = Share(attributed, volume, attributed / volume if volume else nan)
    return shares


def _same_shape(image: NDArray[Any], labels: NDArray[np.uint8]) -> None:
    """Refuse an image that is not on the grid of its labels."""
    if image.shape != labels.shape:
        raise ValueError(f"Image {image.shape} and labels {labels.shape} have different shapes: put them on one grid first.")
