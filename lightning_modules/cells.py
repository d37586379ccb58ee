"""Convolution, batch normalisation and max-pooling by 2 with the voxels of a pooling cell side by side, for a GPU.

Matrix units multiply eight channels and more at a time, and a convolution from the two channels of a scan leaves them idle.
Folding the 2x2x2 voxels of a cell into channels, (B, C, I, J, K) -> (B, 8 C, I / 2, J / 2, K / 2), turns a 3x3x3 convolution
to D channels into a 2x2x2 one to 8 D: the same sums, exact up to rounding. Pooling then takes the largest of neighbours in
memory. Needs torch alone.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_modules.pooling import halved, to_winners

FEW = 8
"""A convolution from fewer channels than this is folded."""


def applies(image: Tensor) -> bool:
    """Whether ``conv_norm_pool`` is the faster way: few channels on a GPU, and sides that pooling halves."""
    return image.is_cuda and image.shape[1] < FEW and not any(side % 2 for side in image.shape[2:])


def conv_norm_pool(image: Tensor, kernel: Tensor, norm: nn.Module) -> Tensor:
    """Max-pooling by 2 of the batch-normalised 3x3x3 convolution, zero-padded.

    Args:
        image: (B, C, I, J, K), even sides.
        kernel: (D, C, 3, 3, 3).
        norm: Batch normalisation of D channels.

    Returns:
        (B, D, I / 2, J / 2, K / 2), channels-last in memory.
    """
    if torch.is_autocast_enabled(image.device.type):
        image = image.to(torch.get_autocast_dtype(image.device.type))
    raw = F.conv3d(folded(image), folded_kernel(kernel))
    (b, _, i, j, k), d = raw.shape, len(kernel)
    voxels = raw.permute(0, 2, 3, 4, 1).reshape(b * i, j, k, 8, d).permute(0, 4, 1, 2, 3)
    cells = norm(voxels).permute(0, 2, 3, 4, 1).contiguous()
    return LargestOfCell.apply(cells).view(b, i, j, k, d).permute(0, 4, 1, 2, 3)


class LargestOfCell(torch.autograd.Function):
    """The largest of the eight voxels of each cell. Of two equal ones the first one wins, and gets the gradient."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor) -> Tensor:
        """Map (..., 8, D), contiguous, to (..., D)."""
        ctx.save_for_backward(cells)
        return halved(cells, inners(cells)).view(*cells.shape[:-2], cells.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Hand each gradient to the voxel that won."""
        (cells,) = ctx.saved_tensors
        return to_winners(gradient.contiguous(), cells, inners(cells)).view_as(cells)


def inners(cells: Tensor) -> tuple[int, int, int]:
    """The distances in memory of neighbours in a cell (see ``lightning_modules.pooling.halved``)."""
    channels = cells.shape[-1]
    return 4 * channels, 2 * channels, channels


def folded(image: Tensor) -> Tensor:
    """Pad by one voxel and fold 2x2x2 neighbours into channels.

    Returns:
        (B, 8 C, I / 2 + 1, J / 2 + 1, K / 2 + 1), channels-last in memory; channel (4 p + 2 q + r) C + c holds channel c of the
        voxels at 2 i + p - 1, 2 j + q - 1 and 2 k + r - 1.
    """
    b, c, i, j, k = image.shape
    pairs = F.pad(image, (1, 1, 1, 1, 1, 1)).view(b, c, i // 2 + 1, 2, j // 2 + 1, 2, k // 2 + 1, 2)
    together = pairs.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, i // 2 + 1, j // 2 + 1, k // 2 + 1, 8 * c)
    return together.permute(0, 4, 1, 2, 3)


def folded_kernel(kernel: Tensor) -> Tensor:
    """The kernel (8 D, 8 C, 2, 2, 2) that does to a folded image what (D, C, 3, 3, 3) does to the image itself."""
    d, c = kernel.shape[:2]
    moved = torch.stack([F.pad(kernel, (r, 1 - r, q, 1 - q, p, 1 - p)) for p, q, r in product((0, 1), repeat=3)])
    pairs = moved.view(8 * d, c, 2, 2, 2, 2, 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return pairs.reshape(8 * d, 8 * c, 2, 2, 2).contiguous(memory_format=torch.channels_last_3d)
