"""A block of the residual network with fewer passes over the volume than its layers make one after another.

The sum of the two convolutions is itself one 3x3x3 convolution (the 1x1x1 kernel is added to the centre tap), exact up to
rounding; both kernels are trained. The leaky ReLU rises everywhere, so it may follow the max-pooling instead of preceding it,
on an eighth of the voxels, with equal results bit for bit. In float32 on a CPU, normalisation joins in (``pooling``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.cpu import pooling
from lightning_modules.cpu.normalisation import SharedBatchNorm3d


def fused(image: Tensor, wide: nn.Conv3d, point: nn.Conv3d, norm: SharedBatchNorm3d, pool: bool) -> Tensor:
    """Sum of two convolutions, batch normalisation, leaky ReLU, and max-pooling by 2 if asked.

    Args:
        image: (B, C, I, J, K).
        wide: 3x3x3, from C to D channels, zero-padded, without bias.
        point: 1x1x1, from C to D channels, without bias.
        norm: Normalisation of D channels.
        pool: Whether the sides are halved.

    Returns:
        (B, D, I, J, K), or (B, D, I / 2, J / 2, K / 2).
    """
    kernel = wide.weight + F.pad(point.weight, (1, 1, 1, 1, 1, 1))
    if pool and pooling.is_supported(image, norm):
        return F.leaky_relu(pooling.conv_norm_pool(image, kernel, norm), inplace=True)
    features = norm(convolved(image, kernel))
    return F.leaky_relu(F.max_pool3d(features, 2) if pool else features, inplace=True)


def convolved(image: Tensor, kernel: Tensor) -> Tensor:
    """Map (B, C, I, J, K) by a kernel (D, C, 3, 3, 3) to (B, D, I, J, K), zero-padded.

    Volumes with a side shorter than the kernel are computed in float32 on a CPU: in bfloat16 oneDNN leaves the gradient of
    kernel taps that only ever meet padding unwritten there, whatever the memory held before. They are tiny.
    """
    if image.device.type == "cpu" and min(image.shape[2:]) < kernel.shape[-1]:
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(image.float(), kernel.float(), padding=1).to(image.dtype)
    return F.conv3d(image, kernel, padding=1)


def handles_layout(image: Tensor, wide: nn.Conv3d, norm: SharedBatchNorm3d, pool: bool) -> bool:
    """Whether ``fused`` brings (B, C, I, J, K) into a layout of its own, so that channels-last would be lost work."""
    return pool and pooling.is_supported(image, norm) and pooling.can_fold(wide.in_channels, wide.out_channels)
