"""Convolution, batch normalisation and max-pooling by 2 as one step, for the CPU. Needs torch alone.

On a CPU the passes over the largest volumes cost more than the arithmetic. Three rewritings save most of them, all exact up to
rounding:

- Normalising is a rising line a voxel (after the kernels of channels with a negative gain have changed sign), so it may follow
  the pooling, on an eighth of the voxels. The gradient then reaches every voxel as a line through its value, plus the pooled
  gradient at the voxel that won: one pass, and no index volume is kept.
- A convolution with few channels leaves most of a vector register empty. Folding neighbours along the last two axes into
  channels, (B, C, I, J, K) -> (B, 4 C, I, J / 2, K / 2), gives the same sums with four times the channels.
- Mean and variance are taken in one pass over rows that stay in the cache, and put together in float64.

Volumes are kept channels-last here: (B, I, J, K, C) in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_modules.cpu.normalisation import SharedBatchNorm3d, several_processes

REGISTER = 8
"""float32 numbers of a vector register; a convolution with fewer channels on either side is folded where both stay small."""
BLOCK = 1 << 18
"""Numbers that are worked on at a time; they and what is made of them stay in the cache."""
TILE = 64
"""Voxels whose sums are kept apart, so that long sums lose little."""


def is_supported(image: Tensor, norm: SharedBatchNorm3d) -> bool:
    """Whether ``conv_norm_pool`` computes this: float32 on a CPU, in training, or in evaluation without gradients."""
    plain = image.device.type == "cpu" and image.dtype == torch.float32 and norm.affine and norm.track_running_stats
    return (
        plain
        and (norm.training or not torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not any(side % 2 for side in image.shape[2:])
    )


def can_fold(inputs: int, outputs: int) -> bool:
    """Whether a convolution with these numbers of channels is folded."""
    return 4 * inputs <= REGISTER and outputs < REGISTER


def conv_norm_pool(image: Tensor, kernel: Tensor, norm: SharedBatchNorm3d) -> Tensor:
    """Max-pooling by 2 of the batch-normalised 3x3x3 convolution, zero-padded.

    Args:
        image: (B, C, I, J, K) float32 on the CPU, even sides.
        kernel: (D, C, 3, 3, 3).
        norm: Its gain, shift and running statistics, which follow in training.

    Returns:
        (B, D, I / 2, J / 2, K / 2), channels-last in memory.
    """
    channels, (i, j, k) = kernel.shape[0], image.shape[2:]
    if norm.training:
        sign = torch.where(norm.weight < 0, -1.0, 1.0).to(kernel.dtype)
        kernel, bias = kernel * sign.view(-1, 1, 1, 1, 1), None
    else:
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator, union-attr]
        kernel, bias = kernel * gain.view(-1, 1, 1, 1, 1), norm.bias - norm.running_mean * gain  # type: ignore[operator]
    if can_fold(image.shape[1], channels):
        raw = F.conv3d(folded(image), folded_kernel(kernel), bias if bias is None else bias.repeat(4), padding=(1, 0, 0))
        inners = (j * k * channels, 2 * channels, channels)
    else:
        last = image.contiguous(memory_format=torch.channels_last_3d)
        raw = F.conv3d(last, kernel.contiguous(memory_format=torch.channels_last_3d), bias, padding=1)
        inners = (j * k * channels, k * channels, channels)
    rows = raw.permute(0, 2, 3, 4, 1).contiguous()
    if norm.training:
        pooled, mean, variance, number = NormPool.apply(rows, norm.weight * sign, norm.bias, norm.eps, inners)
        norm.follow(mean * sign, variance, number)
    else:
        pooled = halved(rows, inners)
    return pooled.view(len(image), i // 2, j // 2, k // 2, channels).permute(0, 4, 1, 2, 3)


def folded(image: Tensor) -> Tensor:
    """Pad by one voxel and fold pairs of neighbours along the last two axes into channels.

    Returns:
        (B, 4 C, I, J / 2 + 1, K / 2 + 1), channels-last in memory; channel (2 p + q) C + c holds channel c of the voxels at
        2 j + p - 1 and 2 k + q - 1.
    """
    b, c, i, j, k = image.shape
    pairs = F.pad(image, (1, 1, 1, 1)).view(b, c, i, j // 2 + 1, 2, k // 2 + 1, 2)
    if image.requires_grad:
        together = pairs.permute(0, 2, 3, 5, 4, 6, 1).reshape(b, i, j // 2 + 1, k // 2 + 1, 4 * c)
    else:
        together = image.new_empty(b, i, j // 2 + 1, k // 2 + 1, 4 * c)
        for channel in range(4 * c):  # one strided copy each is faster than one permuted copy of all
            p, q, source = channel // (2 * c), channel // c % 2, channel % c
            together[..., channel] = pairs[:, source, :, :, p, :, q]
    return together.permute(0, 4, 1, 2, 3)


def folded_kernel(kernel: Tensor) -> Tensor:
    """The kernel (4 D, 4 C, 3, 2, 2) that does to a folded image what (D, C, 3, 3, 3) does to the image itself."""
    d, c = kernel.shape[:2]
    moved = torch.stack([F.pad(kernel, (q, 1 - q, p, 1 - p)) for p in (0, 1) for q in (0, 1)])
    pairs = moved.view(4 * d, c, 3, 2, 2, 2, 2).permute(0, 4, 6, 1, 2, 3, 5)
    return pairs.reshape(4 * d, 4 * c, 3, 2, 2).contiguous(memory_format=torch.channels_last_3d)


def halved(values: Tensor, inners: tuple[int, ...]) -> Tensor:
    """Take the larger one of two neighbours along each axis.

    Args:
        values: Contiguous.
        inners: For each axis, the distance in memory of two neighbours once the axes before it are halved.
    """
    for inner in inners:
        pairs = values.view(-1, 2, inner)
        values = torch.maximum(pairs[:, 0], pairs[:, 1])
    return values


def blocks(volume: Tensor, rows: int, size: int) -> Sequence[Tensor]:
    """Cut a contiguous volume of ``rows`` rows into parts of whole rows that hold about ``size`` numbers."""
    flat = volume.view(rows, -1)
    return flat.split(max(1, size // flat.shape[1]))


class NormPool(torch.autograd.Function):
    """Batch normalisation with a gain of 0 or more, then max-pooling by 2, of a volume that lies channels-last in memory.

    Of two equal neighbours the first one wins, and gets the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, volume: Tensor, gain: Tensor, shift: Tensor, eps: float, inners: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalise and pool.

        Args:
            ctx: What the backward pass needs.
            volume: Contiguous; the last axis holds C channels, or several voxels of C channels.
            gain: (C,), 0 or more.
            shift: (C,).
            eps: Added to the variance.
            inners: See ``halved``.

        Returns:
            Pooled (n, C); mean (C,), biased variance (C,) and number of voxels () of the whole batch, float64.
        """
        channels, rows = len(gain), volume.numel() // (2 * inners[0])
        largest = volume.new_empty(volume.numel() // 8 // channels, channels)
        tile = math.gcd(2 * inners[0], TILE * channels)
        sums = torch.zeros(2, tile, dtype=torch.float64)
        for part, into in zip(blocks(volume, rows, BLOCK), blocks(largest, rows, BLOCK // 8), strict=True):
            into.copy_(halved(part, inners).view_as(into))
            sums[0] += part.view(-1, tile).sum(0)
            sums[1] += part.square().view(-1, tile).sum(0)
        sums = sums.view(2, -1, channels).sum(1)
        number = torch.tensor(float(volume.numel() // channels), dtype=torch.float64)
        if several_processes():
            shared = torch.cat([sums.flatten(), number.view(1)])
            dist.all_reduce(shared)
            sums, number = shared[:-1].view(2, channels), shared[-1]
        mean, squares = sums / number
        variance = (squares - mean.square()).clamp_min(0)
        steep = torch.rsqrt(variance + eps)
        slope = gain.double() * steep
        ctx.save_for_backward(volume, largest, slope, mean, steep, number)
        ctx.inners = inners
        out = torch.addcmul((shift.double() - mean * slope).to(volume.dtype), largest, slope.to(volume.dtype))
        ctx.mark_non_differentiable(mean, variance, number)
        return out, mean, variance, number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of volume, gain and shift."""
        volume, largest, slope, mean, steep, number = ctx.saved_tensors
        kind, rows = volume.dtype, volume.numel() // (2 * ctx.inners[0])
        normal = (largest - mean.to(kind)).mul_(steep.to(kind))
        local = torch.stack([gradient.sum(0), normal.mul_(gradient).sum(0)]).double()
        total = local.clone()
        if several_processes():
            dist.all_reduce(total)
        rise = -slope * steep * total[1] / number
        level = -slope * total[0] / number - rise * mean
        tiles = 2 * ctx.inners[0] // len(slope)
        rises, levels = rise.to(kind).repeat(tiles), level.to(kind).repeat(tiles)
        scaled, result = gradient * slope.to(kind), torch.empty_like(volume)
        sizes = (BLOCK, BLOCK // 8, BLOCK)
        parts = (blocks(values, rows, size) for values, size in zip((volume, scaled, result), sizes, strict=True))
        for part, pooled, into in zip(*parts, strict=True):
            torch.addcmul(levels, part, rises, out=into).add_(to_winners(pooled, part, ctx.inners).view_as(into))
        return result, local[1].to(kind), local[0].to(kind), None, None


def to_winners(gradient: Tensor, values: Tensor, inners: tuple[int, ...]) -> Tensor:
    """Give the gradient of each maximum to the largest of its 2x2x2 values, the others 0; the size of the values."""
    pairs = values.view(-1, 2, inners[0])
    if inners[1:]:
        gradient = to_winners(gradient, torch.maximum(pairs[:, 0], pairs[:, 1]), inners[1:])
    gradient, spread = gradient.view(-1, inners[0]), torch.empty_like(pairs)
    first, second = spread[:, 0], spread[:, 1]
    torch.gt(pairs[:, 1], pairs[:, 0], out=second).mul_(gradient)
    torch.sub(gradient, second, out=first)
    return spread
