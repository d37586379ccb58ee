"""3D networks that turn a T1w + FLAIR volume into two class logits. Needs torch alone.

The residual network follows public code that is probably, not provably, the reference study's own (Coll et al., J Magn Reson
Imaging 2024;60(1):258-267), so it is called paper-like. Any other ``torch.nn.Module`` that maps (B, C, I, J, K) to (B, 2) can
take its place by import path.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Sum (any shape)."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum the gradients."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm3d(nn.BatchNorm3d):
    """Batch normalisation whose batch is the whole batch also where it is spread over processes, on any device.

    In one process it is ``nn.BatchNorm3d`` itself. ``nn.SyncBatchNorm`` does the same on GPUs alone.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Normalise (B, C, I, J, K) by mean and variance over the batches of all processes; running ones in evaluation."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(image)
        features = image.float()
        sums = torch.stack([features.sum((0, 2, 3, 4)), features.square().sum((0, 2, 3, 4))])
        count = torch.full_like(sums[:1], features.numel() / features.shape[1])
        total, squares, number = SumOverProcesses.apply(torch.cat([sums, count]))
        mean = total / number
        variance = (squares / number - mean.square()).clamp_min(0)
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * number / (number - 1).clamp_min(1), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        gain = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * gain
        return (features * gain.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)).to(image.dtype)


class ResidualBlock(nn.Module):
    """A 3x3x3 and a parallel 1x1x1 convolution, summed, batch-normalised, leaky ReLU, and max-pooling by 2 if asked.

    Two rewritings save passes over the volume. The sum of the two convolutions is itself one 3x3x3 convolution (the 1x1x1
    kernel is added to the centre tap), exact up to rounding; both kernels are trained. The leaky ReLU rises everywhere, so it
    may follow the max-pooling instead of preceding it, on an eighth of the voxels, with equal results bit for bit.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.wide = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.point = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.norm = SharedBatchNorm3d(out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, I, J, K) to (B, out_channels, I, J, K), the sides halved where it pools."""
        kernel = self.wide.weight + F.pad(self.point.weight, (1, 1, 1, 1, 1, 1))
        features = self.norm(F.conv3d(image, kernel, padding=1))
        return F.leaky_relu(F.max_pool3d(features, 2) if self.pool else features, inplace=True)


class ResidualCNN(nn.Module):
    """Paper-like residual 3D-CNN: stages of f, 2f, 4f, ... channels, max-pooling between them, global max-pooling.

    Args:
        in_channels: Channels of the input, T1w and FLAIR by default.
        classes: Logits that come out.
        width: Channels f of the first stage.
        stages: Number of residual stages; the volume is halved between them.
        dropout: Probability of dropping a feature before the classifying head.
    """

    def __init__(self, in_channels: int = 2, classes: int = 2, width: int = 8, stages: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if width < 1 or stages < 1:
            raise ValueError(f"width and stages must be at least 1, got width={width}, stages={stages}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        channels = [in_channels, *(width * 2**stage for stage in range(stages))]
        self.stages = nn.Sequential(
            *(ResidualBlock(i, o, pool=stage < stages - 1) for stage, (i, o) in enumerate(pairwise(channels)))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Linear(channels[-1], 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, classes)
        )
        self.multiple_of = 2 ** (stages - 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to logits (B, classes).

        Raises:
            ValueError: if I, J or K is not a multiple of ``multiple_of``; pooling would leave voxels out.
        """
        if any(side % self.multiple_of for side in image.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.multiple_of}, got {tuple(image.shape[2:])}")
        return self.head(self.dropout(torch.amax(self.stages(image), dim=(2, 3, 4))))


def multiple_of(network: nn.Module) -> int:
    """The number that each side of the network's input must be a multiple of: its own ``multiple_of``, or 8."""
    return int(getattr(network, "multiple_of", 8))
