"""Apply an ``Augmentation`` to training batches, on the device that holds them.

Each scan's parameters are a function of (seed, epoch, row of the cohort) alone: they depend neither on the batch it falls into
nor on the input, the number of devices or an earlier interruption. Every change is tied to the study's grid, not to an input's
box, so a regional run sees exactly what the global run sees of its region, noise included.

On a CPU the scans of a batch are changed one after another, which is quickest there. On a GPU, where each kernel has to be
launched, they are changed together, a kernel a step whatever the batch's size; only turning and scaling go scan by scan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.batches.augmentation import Augmentation
from regions.errors import UserError
from regions.grid import Box, Grid

NOISE_OFFSETS = 1 << 16


ONE_AFTER_ANOTHER = ("cpu",)
"""Devices on which the scans of a batch are changed one after another."""


@dataclass(frozen=True)
class Parameters:
    """What happens to each scan of the cohort in one epoch; one row a scan."""

    flip: npt.NDArray[np.bool_]
    """(n,) whether left and right change places."""
    shift: npt.NDArray[np.int64]
    """(n, 3) voxels; what leaves at v came in at v + shift."""
    exponent: npt.NDArray[np.float64]
    """(n,) exponent of the grey scale."""
    angle: npt.NDArray[np.float64]
    """(n, 3) radians about the first, second and third axis, in this order."""
    size: npt.NDArray[np.float64]
    """(n,) the head grows by this factor."""
    offset: npt.NDArray[np.int64]
    """(n,) where the scan's noise starts in the epoch's row of random numbers; no two scans share one."""
    noise_seed: int
    """Seed of that row."""


class Augmenter:
    """Apply an ``Augmentation`` to batches.

    Args:
        options: What is done, and how strongly.
        box: The voxels that leave, on the study's grid.
        grid: The study's grid; rotations turn about its centre.
        scans: Number of scans of the cohort.
        seed: Seed of the run.
        missing: Row of a scan -> channels of the images that it lacks, which stay zero.
        kept: Channels of masks and maps, whose values get neither noise nor another grey scale and are not interpolated.

    Raises:
        ValueError: if scans are mirrored and x = 0 lies neither on a voxel's centre nor between two.
    """

    def __init__(
        self,
        options: Augmentation,
        box: Box,
        grid: Grid,
        scans: int,
        seed: int,
        missing: Mapping[int, Sequence[int]] = MappingProxyType({}),
        kept: Sequence[int] = (),
    ) -> None:
        self.options, self.box, self.grid, self.scans, self.seed = options, box, grid, scans, seed
        self.mirror = mirror_of(grid, options)
        self.read = grown(box, options, grid)
        self.missing, self.kept = missing, list(kept)
        self._drawn: tuple[int, Parameters] | None = None
        self._noise: tuple[int, torch.device, Tensor] | None = None

    def __call__(self, image: Tensor, index: Tensor, epoch: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Change a batch of training scans.

        Args:
            image: (B, C, *read.shape) float16 or float32, 0 outside the brain.
            index: (B,) int, the scans' rows in the cohort.
            epoch: Epoch of the training, from 0.
            labels: (B, *read.shape) uint8 label maps, moved along with the image.

        Returns:
            image (B, C, *box.shape) float32, and labels (B, *box.shape) uint8 or None.
        """
        drawn = self.parameters(epoch)
        rows: list[int] = index.tolist()
        together = image.device.type not in ONE_AFTER_ANOTHER
        move = self._warped if self.options.interpolates else self._cropped
        moved_together = together and not self.options.interpolates
        if moved_together:
            out = self._cropped_together(image, rows, drawn).float()
        else:
            out = image.new_empty((*image.shape[:2], *self.box.shape), dtype=torch.float32)
            for target, volume, row in zip(out, image, rows, strict=True):
                target.copy_(move(volume, row, drawn))
        kept = out[:, self.kept]
        inside = self._inside(out, rows) if self.options.noise else out
        if self.options.gamma:
            exponent = _sent(drawn.exponent[rows], out.device)
            out = out.sign() * out.abs() ** exponent[:, None, None, None, None]
        if self.options.noise:
            add = self._add_noise_together if together else self._add_noise
            add(out, inside, rows, epoch, drawn)
            for target, row in zip(out, rows, strict=True):
                for channel in self.missing.get(row, ()):
                    target[channel] = 0
        if self.kept:
            out[:, self.kept] = kept
        if labels is None:
            return out, None
        if moved_together:
            return out, self._cropped_together(labels[:, None], rows, drawn)[:, 0]
        return out, torch.cat([move(label_map[None], row, drawn) for label_map, row in zip(labels, rows, strict=True)])

    def parameters(self, epoch: int) -> Parameters:
        """The parameters of every scan of the cohort in an epoch; those of one option do not depend on another."""
        if self._drawn is None or self._drawn[0] != epoch:
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch])))
            n, o = self.scans, self.options
            drawn = Parameters(
                flip=rng.random(n) < o.flip,
                shift=_whole(rng.random((n, 3)), np.array(o.shift_voxels(self.grid.spacing))),
                exponent=np.exp(rng.standard_normal(n) * o.gamma),
                angle=np.deg2rad(rng.uniform(-1, 1, (n, 3)) * o.rotate_deg),
                size=1 + rng.uniform(-1, 1, n) * o.scale,
                offset=rng.permutation(max(n, NOISE_OFFSETS))[:n],
                noise_seed=int(rng.integers(0, 2**63 - 1)),
            )
            self._drawn = epoch, drawn
        return self._drawn[1]

    def _inside(self, image: Tensor, rows: list[int]) -> Tensor:
        """(B, 1, *box.shape) 1 in the brain, 0 elsewhere: where the first image that a scan has is not zero."""
        inside = torch.ne(image[:, :1], 0, out=torch.empty_like(image[:, :1]))
        for target, volume, row in zip(inside, image, rows, strict=True):
            there = [channel for channel in range(len(volume)) if channel not in self.missing.get(row, ())]
            if there and there[0]:
                torch.ne(volume[there[0]], 0, out=target[0])
        return inside

    def _first(self, row: int, drawn: Parameters) -> list[int]:
        """The corner of the voxels that a scan's crop takes, on the grid, before it is mirrored."""
        first = [start + int(shift) for start, shift in zip(self.box.start, drawn.shift[row], strict=True)]
        if drawn.flip[row]:
            first[0] = self.mirror - (first[0] + self.box.shape[0] - 1)
        return first

    def _cropped(self, volume: Tensor, row: int, drawn: Parameters) -> Tensor:
        """Shift and mirror one volume (C, *read.shape): a view of whole voxels, (C, *box.shape)."""
        corner = [at - start for at, start in zip(self._first(row, drawn), self.read.start, strict=True)]
        i, j, k = (slice(at, at + side) for at, side in zip(corner, self.box.shape, strict=True))
        part = volume[:, i, j, k]
        return part.flip(-3) if drawn.flip[row] else part

    def _cropped_together(self, image: Tensor, rows: list[int], drawn: Parameters) -> Tensor:
        """``_cropped`` of a whole batch (B, C, *read.shape) as one kernel: (B, C, *box.shape)."""
        side, *sides = self.box.shape
        corners = np.array([self._first(row, drawn) for row in rows]) - self.read.start
        order = np.where(drawn.flip[rows][:, None], np.arange(side)[::-1], np.arange(side))
        where = np.concatenate([corners[:, :1] + order, corners[:, 1:]], axis=1)
        sent = torch.from_numpy(where).to(image.device, non_blocking=True)
        windows = image.unfold(3, sides[0], 1).unfold(4, sides[1], 1)
        scans = torch.arange(len(rows), device=image.device)[:, None]
        return windows[scans, :, sent[:, :side], sent[:, side, None], sent[:, side + 1, None]].permute(0, 2, 1, 3, 4)

    def _warped(self, volume: Tensor, row: int, drawn: Parameters) -> Tensor:
        """Shift, mirror, rotate and scale one volume (C, *read.shape) in one step; labels, masks and maps stay exact."""
        backward = rotation(drawn.angle[row]).T / drawn.size[row]
        spacing, centre = np.array(self.grid.spacing), (np.array(self.grid.shape) - 1) / 2
        positions = []
        for axis, (first, side) in enumerate(zip(self._first(row, drawn), self.box.shape, strict=True)):
            voxels = first + np.arange(side)
            voxels = voxels[::-1] if axis == 0 and drawn.flip[row] else voxels
            positions.append((voxels - centre[axis]) * spacing[axis])
        x, y, z = (_sent(position, volume.device) for position in positions)
        places = []
        for axis, (a, b, c) in enumerate((backward / spacing[:, None]).tolist()):
            voxel = a * x[:, None, None] + b * y[None, :, None] + c * z[None, None, :] + (centre[axis] - self.read.start[axis])
            places.append((2 * voxel + 1) / self.read.shape[axis] - 1)
        where = torch.stack(places[::-1], dim=-1)[None]
        mode = "bilinear" if volume.is_floating_point() else "nearest"
        moved = F.grid_sample(volume[None].float(), where, mode, align_corners=False)[0]
        if mode == "nearest":
            return moved.to(volume.dtype)
        if self.kept:
            moved[self.kept] = F.grid_sample(volume[None, self.kept].float(), where, "nearest", align_corners=False)[0]
        return moved

    def _add_noise(self, image: Tensor, brain: Tensor, rows: list[int], epoch: int, drawn: Parameters) -> None:
        """Add each scan's noise to (B, C, *box.shape) in place: a stretch of the epoch's row, laid out on the study's grid.

        ``brain`` (B, 1, *box.shape) is 1 where noise is added and 0 elsewhere.
        """
        on_grid, within = self._overlap()
        noise = self._windows(image, epoch, drawn)
        for target, inside, row in zip(image, brain, rows, strict=True):
            target[within].addcmul_(noise[int(drawn.offset[row])][on_grid], inside[within])

    def _add_noise_together(self, image: Tensor, brain: Tensor, rows: list[int], epoch: int, drawn: Parameters) -> None:
        """``_add_noise`` as two kernels."""
        on_grid, within = self._overlap()
        offsets = torch.from_numpy(drawn.offset[rows]).to(image.device, non_blocking=True)
        noise = self._windows(image, epoch, drawn)[:, *on_grid].index_select(0, offsets)
        image[:, *within].addcmul_(noise, brain[:, *within])

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The voxels that box and grid share, in (C, *grid.shape) and in (C, *box.shape)."""
        ends = [(max(a, 0), min(b, n)) for a, b, n in zip(self.box.start, self.box.stop, self.grid.shape, strict=True)]
        within = [slice(a - start, b - start) for (a, b), start in zip(ends, self.box.start, strict=True)]
        return (slice(None), *(slice(*end) for end in ends)), (slice(None), *within)

    def _windows(self, image: Tensor, epoch: int, drawn: Parameters) -> Tensor:
        """A view of the epoch's row of noise: (offsets, C, *grid.shape), neighbours along the first axis one number apart."""
        count, offsets = image.shape[1] * math.prod(self.grid.shape), max(self.scans, NOISE_OFFSETS)
        if self._noise is None or self._noise[:2] != (epoch, image.device):
            generator = torch.Generator(image.device).manual_seed(drawn.noise_seed)
            numbers = torch.randn(count + offsets, generator=generator, device=image.device)
            self._noise = epoch, image.device, numbers.mul_(self.options.noise)
        _, j, k = self.grid.shape
        return self._noise[2].as_strided((offsets, image.shape[1], *self.grid.shape), (1, count // image.shape[1], j * k, k, 1))


def _sent(numbers: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Numbers as float32 on a device; the host does not wait until it has them."""
    return torch.from_numpy(numbers.astype(np.float32)).to(device, non_blocking=True)


def _whole(share: npt.NDArray[np.float64], most: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Turn shares in [0, 1) into whole numbers from -most to most."""
    return np.floor(share * (2 * most + 1)).astype(np.int64) - most


def rotation(angle: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Rotation matrix (3, 3): right-handed turns by angle (3,) in radians about the first, then second, then third axis."""
    about = []
    for axis, (cos, sin) in enumerate(zip(np.cos(angle), np.sin(angle), strict=True)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[[i, i, j, j], [i, j, i, j]] = cos, -sin, sin, cos
        about.append(matrix)
    return about[2] @ about[1] @ about[0]


def mirror_of(grid: Grid, augmentation: Augmentation) -> int:
    """The sum of the indices of two voxels that lie at -x and +x.

    Raises:
        ValueError: if x = 0 lies neither on a voxel's centre nor between two, and mirroring is asked for.
    """
    exact = -2 * grid.origin[0] / grid.spacing[0]
    if augmentation.flip and abs(exact - round(exact)) > 0.05:
        raise UserError(
            f"left-right mirroring needs x = 0 on a voxel's centre or edge; it lies {exact / 2 % 1:.2f} voxels beside. "
            "Set --data.augmentation.flip 0"
        )
    return grid.mirror


def grown(box: Box, augmentation: Augmentation, grid: Grid) -> Box:
    """The box that must be read so that a changed crop of ``box`` finds its voxels.

    A box can lie beside its mirror image (see ``regions.grid.region_box``), so both are read. Where scans are turned or scaled,
    the box's corners are followed over the range of angles and sizes.
    """
    room = np.array(augmentation.shift_voxels(grid.spacing))
    start, stop = np.array(box.start) - room, np.array(box.stop) + room
    if augmentation.flip:
        mirror = mirror_of(grid, augmentation)
        start[0], stop[0] = min(start[0], mirror - stop[0] + 1), max(stop[0], mirror - start[0] + 1)
    if augmentation.interpolates:
        spacing, centre = np.array(grid.spacing), (np.array(grid.shape) - 1) / 2
        corners = (np.array(list(product(*zip(start, stop - 1, strict=True)))) - centre) * spacing
        angles = np.deg2rad(np.linspace(-augmentation.rotate_deg, augmentation.rotate_deg, 7))
        turned = np.stack([corners @ rotation(np.array(angle)) for angle in product(angles, repeat=3)])
        reached = np.concatenate([turned / (1 + sign * augmentation.scale) for sign in (-1, 1)]) / spacing + centre
        start = np.minimum(start, np.floor(reached.min(axis=(0, 1))).astype(int) - 1)
        stop = np.maximum(stop, np.ceil(reached.max(axis=(0, 1))).astype(int) + 2)
    return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))
