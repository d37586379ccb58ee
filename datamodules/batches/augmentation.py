"""Which random changes training scans undergo, and how strong they are; ``datamodules.batches.augmenter`` applies them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regions.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training scans; 0 switches one off. Values of the reference's code: flip, noise 0.02, crop shift."""

    flip: float = 0.5
    """Probability of mirroring left and right (the first axis of a RAS+ volume)."""
    shift_mm: float = 2.0
    """Largest shift along each axis, rounded down to whole voxels: nothing is interpolated."""
    noise: float = 0.02
    """Standard deviation of Gaussian noise inside the brain; the image has standard deviation 1."""
    gamma: float = 0.0
    """Standard deviation of the logarithm of the exponent that bends the grey scale on both sides of the brain's mean."""
    rotate_deg: float = 0.0
    """Largest rotation about each axis, interpolated linearly."""
    scale: float = 0.0
    """Largest relative change of size, interpolated linearly."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0:
                raise UserError(f"augmentation.{name} is {value}; give 0 or more")
        for name, most in (("flip", 1.0), ("rotate_deg", 45.0), ("scale", 0.5)):
            if getattr(self, name) > most:
                raise UserError(f"augmentation.{name} is {getattr(self, name)}; give {most:g} or less")

    @property
    def interpolates(self) -> bool:
        """Whether voxels are moved by parts of a voxel."""
        return bool(self.rotate_deg or self.scale)

    def shift_voxels(self, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
        """Largest shift in whole voxels for each axis."""
        i, j, k = (int(self.shift_mm / side + 1e-6) for side in spacing)
        return i, j, k
