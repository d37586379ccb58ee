"""Batch normalisation over the whole batch, also where it is spread over processes. Needs torch alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def several_processes() -> bool:
    """Whether the batch is spread over processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


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
        if not (self.training and several_processes()):
            return super().forward(image)
        features = image.float()
        sums = torch.stack([features.sum((0, 2, 3, 4)), features.square().sum((0, 2, 3, 4))])
        count = torch.full_like(sums[:1], features.numel() / features.shape[1])
        total, squares, number = SumOverProcesses.apply(torch.cat([sums, count]))
        mean = total / number
        variance = (squares / number - mean.square()).clamp_min(0)
        self.follow(mean, variance, number[0])
        gain = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * gain
        return (features * gain.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)).to(image.dtype)

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        """Let the running statistics follow those of a training batch.

        Args:
            mean: (C,) over the whole batch.
            variance: (C,) its biased variance; the running one is unbiased.
            number: Scalar, the voxels of a channel in the whole batch.
        """
        if not self.track_running_stats:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        unbiased = variance * (number / (number - 1).clamp_min(1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)  # type: ignore[union-attr]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are: for the second forward pass of gradient checkpointing over the same batch."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm3d)]
    kept = [{name: value.clone() for name, value in norm.named_buffers(recurse=False)} for norm in norms]
    try:
        yield
    finally:
        for norm, values in zip(norms, kept, strict=True):
            for name, value in values.items():
                getattr(norm, name).copy_(value)
