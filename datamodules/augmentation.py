"""What happens to a batch on its device: random changes for training data only, then the region step, which is always last.

All of it is batched. Each scan has its own parameters, a function of (seed, epoch, scan) alone: they do not depend on the batch
a scan falls into, on the number of devices, or on an earlier interruption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regions.grid import Box

NOISE_OFFSETS = 1 << 16


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
    """Standard deviation of the logarithm of the exponent that bends the grey scale."""
    rotate_deg: float = 0.0
    """Largest rotation about each axis, interpolated linearly."""
    scale: float = 0.0
    """Largest relative change of size, interpolated linearly."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"augmentation.{name} is {value}; give 0 or more")
        if self.flip > 1 or self.scale >= 1:
            raise ValueError(f"augmentation.flip is {self.flip} and .scale {self.scale}; a probability and a share below 1")

    def shift_voxels(self, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
        """Largest shift in whole voxels for each axis."""
        i, j, k = (int(self.shift_mm / side + 1e-6) for side in spacing)
        return i, j, k


def grown(box: Box, augmentation: Augmentation, spacing: tuple[float, float, float]) -> Box:
    """The box that must be read so that a mirrored and shifted crop of ``box`` finds its voxels.

    A mirrored box can end one voxel beside itself (see ``regions.atlas.region_box``), hence one more on the first axis.
    """
    room = np.array(augmentation.shift_voxels(spacing)) + (1 if augmentation.flip else 0, 0, 0)
    start, stop = np.array(box.start) - room, np.array(box.stop) + room
    return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))


class Augmenter:
    """Apply an ``Augmentation`` to batches.

    Args:
        options: What is done, and how strongly.
        box: The voxels that leave, on the study's grid.
        read: The voxels that come in, see ``grown``.
        mirror: Voxels i and mirror - i of the first axis lie at -x and +x.
        spacing: Voxel sides in mm.
        scans: Number of scans of the cohort.
        seed: Seed of the run.
    """

    def __init__(
        self, options: Augmentation, box: Box, read: Box, mirror: int, spacing: tuple[float, float, float], scans: int, seed: int
    ) -> None:
        self.options, self.box, self.read, self.mirror, self.scans, self.seed = options, box, read, mirror, scans, seed
        self.shifts = options.shift_voxels(spacing)
        self.spacing = spacing
        self._epoch: int | None = None

    def __call__(self, image: Tensor, index: Tensor, epoch: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Change a batch of training scans.

        Args:
            image: (B, C, *read.shape) float16 or float32.
            index: (B,) int, the scans' rows in the cohort.
            epoch: Epoch of the training, from 0.
            labels: (B, *read.shape) uint8 label maps, moved along with the image.

        Returns:
            image (B, C, *box.shape) float32, and labels (B, *box.shape) uint8 or None.
        """
        self._draw(epoch, image.device)
        rows = index.to(image.device)
        if self.options.rotate_deg or self.options.scale:
            image, labels = self._warp(image.float(), rows, labels)
        where = self._voxels(rows)
        image = _take(image, where, self.box.shape).float()
        moved = None if labels is None else _take(labels[:, None], where, self.box.shape)[:, 0]
        brain = image[:, :1] != 0
        if self.options.gamma:
            image = self._bend(image, rows)
        if self.options.noise:
            image = image + self._noise_of(image, rows) * brain
        return torch.where(brain, image, 0.0), moved

    def _draw(self, epoch: int, device: torch.device) -> None:
        if epoch == self._epoch:
            return
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch])))
        n = self.scans

        def table(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        self._flip = table(rng.random(n) < self.options.flip)
        self._shift = table(np.stack([rng.integers(-s, s + 1, n) for s in self.shifts], axis=1))
        self._exponent = table(np.exp(rng.normal(0, 1, n) * self.options.gamma).astype(np.float32))
        self._angle = table(np.deg2rad(rng.uniform(-1, 1, (n, 3)) * self.options.rotate_deg).astype(np.float32))
        self._size = table((1 + rng.uniform(-1, 1, n) * self.options.scale).astype(np.float32))
        self._offset = table(rng.integers(0, NOISE_OFFSETS, n))
        self._noise: Tensor | None = None
        self._noise_seed = int(rng.integers(0, 2**63 - 1))
        self._epoch = epoch

    def _voxels(self, rows: Tensor) -> Tensor:
        """For each voxel that leaves, its place in the flattened volume that came in, (B, box voxels)."""
        axes = []
        for axis in range(3):
            here = torch.arange(self.box.start[axis], self.box.stop[axis], device=rows.device)
            wanted = here[None] + self._shift[rows, axis][:, None]
            if axis == 0:
                wanted = torch.where(self._flip[rows][:, None], self.mirror - wanted, wanted)
            axes.append(wanted - self.read.start[axis])
        x, y, z = axes
        _, j, k = self.read.shape
        return ((x[:, :, None, None] * j + y[:, None, :, None]) * k + z[:, None, None, :]).flatten(1)

    def _bend(self, image: Tensor, rows: Tensor) -> Tensor:
        low = image.amin(dim=(2, 3, 4), keepdim=True)
        span = (image.amax(dim=(2, 3, 4), keepdim=True) - low).clamp_min(1e-6)
        return ((image - low) / span) ** self._exponent[rows][:, None, None, None, None] * span + low

    def _noise_of(self, image: Tensor, rows: Tensor) -> Tensor:
        """Noise of standard deviation ``noise``: each scan takes a stretch of one long row of numbers, drawn once an epoch."""
        count = image[0].numel()
        if self._noise is None or self._noise.numel() < count + NOISE_OFFSETS:
            generator = torch.Generator(image.device).manual_seed(self._noise_seed)
            self._noise = torch.randn(count + NOISE_OFFSETS, generator=generator, device=image.device) * self.options.noise
        return self._noise.unfold(0, count, 1)[self._offset[rows]].view(image.shape)

    def _warp(self, image: Tensor, rows: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Rotate and scale about the centre of the box; positions in mm, so that rotations stay rigid."""
        sides = torch.tensor([n * s for n, s in zip(self.read.shape, self.spacing, strict=True)], device=image.device)
        matrix = _rotation(self._angle[rows]) / self._size[rows][:, None, None]
        matrix = matrix * sides[None, None, :] / sides[None, :, None]
        theta = torch.cat([matrix.flip(1, 2), matrix.new_zeros(len(rows), 3, 1)], dim=2)
        grid = F.affine_grid(theta, [len(rows), 1, *self.read.shape], align_corners=False)
        moved = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
        if labels is None:
            return moved, None
        nearest = F.grid_sample(labels[:, None].float(), grid, mode="nearest", align_corners=False)
        return moved, nearest[:, 0].to(labels.dtype)


def _take(volume: Tensor, where: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pick voxels (B, n) of volume (B, C, ...) and return them as (B, C, *shape)."""
    channels = volume.shape[1]
    picked = torch.gather(volume.flatten(2), 2, where[:, None].expand(-1, channels, -1))
    return picked.view(len(volume), channels, *shape)


def _rotation(angle: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) from angles (B, 3) in radians about the first, second and third axis."""
    cos, sin = angle.cos(), angle.sin()
    one, zero = torch.ones_like(cos[:, 0]), torch.zeros_like(cos[:, 0])

    def matrix(*values: Tensor) -> Tensor:
        return torch.stack(values, dim=1).view(-1, 3, 3)

    about_i = matrix(one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0])
    about_j = matrix(cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1])
    about_k = matrix(cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one)
    return about_k @ about_j @ about_i
