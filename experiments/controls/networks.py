"""A network that remembers single scans."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class VoxelMemory(nn.Module):
    """One weight for each voxel and class, on voxels that are standardised over the training batches.

    With fewer scans than voxels it can tell every training scan from every other, so it recognises a second scan of a patient
    whom it was trained on. That makes it the network of the leaky split: a small convolutional one may not remember enough to
    show the harm, and nobody should take that for safety.

    Args:
        channels: Channels of the input.
        sides: I, J, K of the input.
    """

    STEP = 20.0
    """Scales the input so that one step of the optimiser moves a logit by about 20 x the learning rate, whatever the size."""

    def __init__(self, channels: int, sides: Sequence[int]) -> None:
        super().__init__()
        voxels = channels * math.prod(sides)
        self.standardise = nn.BatchNorm1d(voxels, affine=False)
        self.weigh = nn.Linear(voxels, 2)
        nn.init.zeros_(self.weigh.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K), exactly zero outside the region, to logits (B, 2); batches of two and more while training."""
        flat = image.flatten(1)
        inside = (flat != 0).any(dim=0).sum().clamp(min=1)
        logits: Tensor = self.weigh(self.standardise(flat) * (self.STEP / inside))
        return logits
