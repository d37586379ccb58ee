"""3D networks that turn a T1w + FLAIR volume into two class logits. Needs torch alone.

The residual network follows public code that is probably, not provably, the reference study's own (Coll et al., J Magn Reson
Imaging 2024;60(1):258-267), so it is called paper-like. Any other ``torch.nn.Module`` that maps (B, C, I, J, K) to (B, 2) can
take its place by import path.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_modules import pooling
from lightning_modules.errors import ModelError
from lightning_modules.normalisation import SharedBatchNorm3d, frozen_statistics


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
        if self.pool and pooling.applies(image, self.norm):
            return F.leaky_relu(pooling.conv_norm_pool(image, kernel, self.norm), inplace=True)
        features = self.norm(convolved(image, kernel))
        return F.leaky_relu(F.max_pool3d(features, 2) if self.pool else features, inplace=True)


def convolved(image: Tensor, kernel: Tensor) -> Tensor:
    """Map (B, C, I, J, K) by a kernel (D, C, 3, 3, 3) to (B, D, I, J, K), zero-padded.

    Volumes with a side shorter than the kernel are computed in float32 on a CPU: in bfloat16 oneDNN leaves the gradient of
    kernel taps that only ever meet padding unwritten there, whatever the memory held before. They are tiny.
    """
    if image.device.type == "cpu" and min(image.shape[2:]) < kernel.shape[-1]:
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(image.float(), kernel.float(), padding=1).to(image.dtype)
    return F.conv3d(image, kernel, padding=1)


class ResidualCNN(nn.Module):
    """Paper-like residual 3D-CNN: stages of f, 2f, 4f, ... channels, max-pooling between them, global max-pooling.

    Args:
        in_channels: Channels of the input, T1w and FLAIR by default.
        classes: Logits that come out.
        width: Channels f of the first stage.
        stages: Number of residual stages; the volume is halved between them.
        dropout: Probability of dropping a feature before the classifying head.
        checkpointing: Keep only what enters each stage, and compute the rest again on the way back: less memory, about a third
            more time, the same numbers.
    """

    def __init__(
        self,
        in_channels: int = 2,
        classes: int = 2,
        width: int = 8,
        stages: int = 4,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if width < 1 or stages < 1:
            raise ModelError(f"width and stages must be at least 1, got width={width}, stages={stages}")
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout must lie in [0, 1), got {dropout}")
        channels = [in_channels, *(width * 2**stage for stage in range(stages))]
        self.stages = nn.Sequential(
            *(ResidualBlock(i, o, pool=stage < stages - 1) for stage, (i, o) in enumerate(pairwise(channels)))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Linear(channels[-1], 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, classes)
        )
        self.multiple_of = 2 ** (stages - 1)
        self.checkpointing = checkpointing

    def lays_out(self, image: Tensor) -> bool:
        """Whether the first stage brings (B, C, I, J, K) into a layout of its own, so that channels-last would be lost work."""
        first: ResidualBlock = self.stages[0]  # type: ignore[assignment]
        channels = first.wide.in_channels, first.wide.out_channels
        return first.pool and pooling.applies(image, first.norm) and pooling.folds(*channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to logits (B, classes).

        Raises:
            ValueError: if I, J or K is not a multiple of ``multiple_of``; pooling would leave voxels out.
        """
        if any(side % self.multiple_of for side in image.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.multiple_of}, got {tuple(image.shape[2:])}")
        for stage in self.stages:
            image = self._again(stage, image) if self.checkpointing and torch.is_grad_enabled() else stage(image)
        return self.head(self.dropout(torch.amax(image, dim=(2, 3, 4))))

    @staticmethod
    def _again(stage: nn.Module, image: Tensor) -> Tensor:
        """A stage that is computed a second time for its gradient; running statistics follow the first time only."""

        def passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), frozen_statistics(stage)

        out: Tensor = checkpoint(stage, image, use_reentrant=False, preserve_rng_state=False, context_fn=passes)
        return out


def multiple_of(network: nn.Module) -> int:
    """The number that each side of the network's input must be a multiple of: its own ``multiple_of``, or 8."""
    return int(getattr(network, "multiple_of", 8))
