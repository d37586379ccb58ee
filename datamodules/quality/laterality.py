"""Is a scan mirrored? Brains and coils are not symmetric, and a cohort says how: a mirrored scan deviates the other way.

From each image the mirrored image is subtracted; what is left is averaged in blocks of about 8 mm on one side. Scans are scored
along the linear discriminant between a cohort and its mirror image: 1 for a scan like the cohort's mean, -1 for its mirror
image. Kept are that direction, and median and spread of the scores that the cohort's scans get from the direction of the
others, in ten parts. A cohort whose scores are not well above 0 cannot tell, and says so.

References:
    Ledoit, Wolf, J Multivar Anal 2004;88:365-411, doi 10.1016/S0047-259X(03)00096-4 (the shrunk covariance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regions.atlas import template_on
from regions.grid import Grid

BLOCK_MM = 8.0
LEAST_SCANS = 20
"""With fewer scans the mean asymmetry is noise."""
SEPARATION = 4.0
"""A cohort can tell where the median score lies this many robust standard deviations above 0: a sound scan is called mirrored
once in 30,000, were scores normal."""
USUAL = 2.5
"""Robust standard deviations within which 99 of 100 scans score."""
PARTS = 10
MAD = 1.4826


@dataclass(frozen=True)
class SideReference:
    """Along which direction a cohort differs from its mirror image, and how its scans score; empty with too few scans.

    Attributes:
        direction: (contrasts x blocks,) weights of the differences between the sides.
        median: Of the scores; 0 where there are too few scans.
        spread: Robust standard deviation of the scores.
    """

    direction: tuple[float, ...] = ()
    median: float = 0.0
    spread: float = 0.0

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> SideReference:
        """From plain JSON content, as ``dataclasses.asdict`` gives it."""
        return cls(**{**recorded, "direction": tuple(recorded["direction"])})

    @property
    def can_tell(self) -> bool:
        """Whether the cohort distinguishes a scan from its mirror image."""
        return self.spread > 0 and self.median / self.spread >= SEPARATION

    def score(self, differences: NDArray[np.float64]) -> float:
        """1 for a scan like the cohort's mean, -1 for its mirror image; nan where the cohort says nothing."""
        return float(differences @ np.array(self.direction)) if self.direction else float("nan")

    def is_mirrored(self, differences: NDArray[np.float64]) -> bool:
        """Whether the mirror image would be one of the cohort's usual scans; never where the cohort cannot tell."""
        return self.can_tell and -self.score(differences) >= self.median - USUAL * self.spread

    def is_doubtful(self, differences: NDArray[np.float64]) -> bool:
        """Whether neither a scan nor its mirror image is usual; never where the cohort cannot tell."""
        return self.can_tell and abs(self.score(differences)) < self.median - USUAL * self.spread


def side_differences(images: Sequence[NDArray[Any]], brain: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """Left minus right in blocks of about 8 mm, (contrasts x blocks,), in standard deviations of each image's brain.

    Args:
        images: (I, J, K) each, any unit, RAS+ in MNI152 space.
        brain: (I, J, K) bool.
        grid: Where the voxels lie.
    """
    sides, chosen = _blocks_of(grid)
    mirror = _mirrored_planes(grid)
    both = brain & brain[mirror]
    parts = []
    for image in images:
        values = image.astype(np.float32)
        inside = values[brain]
        spread = float(inside.std(dtype=np.float64)) or 1.0
        difference = (values - values[mirror]) * both / np.float32(spread)
        parts.append(_block_means(difference, sides)[chosen])
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


def side_reference(differences: NDArray[np.float64]) -> SideReference:
    """The reference of a cohort from the (scans, contrasts x blocks) ``side_differences`` of its scans, in its own order."""
    if len(differences) < LEAST_SCANS:
        return SideReference()
    scores = np.concatenate(
        [differences[rows] @ _direction(np.delete(differences, rows, axis=0))
         for rows in np.array_split(np.arange(len(differences)), PARTS)]
    )  # fmt: skip
    median = float(np.median(scores))
    spread = MAD * float(np.median(np.abs(scores - median)))
    return SideReference(tuple(_direction(differences).tolist()), median, spread)


def _direction(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the linear discriminant with a shrunk covariance, scaled so that the mean scores 1; 0 without asymmetry."""
    mean = differences.mean(axis=0)
    away = differences - mean
    n, size = away.shape
    _, singular, axes = np.linalg.svd(away, full_matrices=False)
    values = singular**2 / n
    common = float(values.sum()) / size
    apart = float((values**2).sum()) - size * common**2
    noise = (float(((away**2).sum(axis=1) ** 2).sum()) / n - float((values**2).sum())) / n
    shrinkage = float(np.clip(noise / apart, 1e-3, 1)) if apart > 0 else 1.0
    rest = shrinkage * common
    if rest <= 0 or not mean.any():
        return np.zeros(size)
    along = axes @ mean
    weights = mean / rest + axes.T @ (along / ((1 - shrinkage) * values + rest) - along / rest)
    return np.asarray(weights / (weights @ mean))


def _mirrored_planes(grid: Grid) -> NDArray[np.intp]:
    """For each plane across the left-right axis the plane that lies as far on the other side of the middle."""
    across = grid.origin[0] + grid.spacing[0] * np.arange(grid.shape[0])
    return np.clip(np.rint((-across - grid.origin[0]) / grid.spacing[0]), 0, grid.shape[0] - 1).astype(np.intp)


@lru_cache(maxsize=2)
def _blocks_of(grid: Grid) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Voxels a side of a block, and which blocks lie in the template's brain on the right."""
    sides = tuple(max(round(BLOCK_MM / side), 1) for side in grid.spacing)
    right = (grid.origin[0] + grid.spacing[0] * np.arange(grid.shape[0])) > 0
    brain = (template_on(grid) > 0) & right[:, None, None]
    return sides, _block_means(brain.astype(np.float32), sides) > 0.5


def _block_means(volume: NDArray[Any], sides: Sequence[int]) -> NDArray[np.float32]:
    counts = [-(-length // side) for length, side in zip(volume.shape, sides, strict=True)]
    pad = [(0, count * side - length) for count, side, length in zip(counts, sides, volume.shape, strict=True)]
    shape = [number for pair in zip(counts, sides, strict=True) for number in pair]
    return np.asarray(np.pad(volume, pad).reshape(shape).mean(axis=(1, 3, 5)), dtype=np.float32)
