"""The residual network as plain PyTorch layers, one after another, as a script or the reference's code would write it.

The same function of the same weights as ``lightning_modules.networks.ResidualCNN``, without its shortcuts; the peers train it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class PlainBlock(nn.Module):
    """A 3x3x3 and a parallel 1x1x1 convolution, summed; batch normalisation, leaky ReLU, and max-pooling by 2 if asked."""

    def __init__(self, in_channels: int, out_channels: int, pool: bool) -> None:
        super().__init__()
        self.wide = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.point = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm3d(out_channels)
        self.activation = nn.LeakyReLU(inplace=True)
        self.pool = nn.MaxPool3d(2) if pool else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, I, J, K) to (B, out_channels, I, J, K), the sides halved where it pools."""
        out: Tensor = self.pool(self.activation(self.norm(self.wide(image) + self.point(image))))
        return out


class PlainCNN(nn.Module):
    """Stages of f, 2f, 4f, 8f channels, max-pooling between them, global max-pooling; parameters named as in ResidualCNN."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        channels = [2, *(width * 2**stage for stage in range(4))]
        self.stages = nn.Sequential(*(PlainBlock(i, o, pool=stage < 3) for stage, (i, o) in enumerate(pairwise(channels))))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Linear(channels[-1], 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 2, I, J, K) to logits (B, 2)."""
        logits: Tensor = self.head(self.dropout(torch.amax(self.stages(image), dim=(2, 3, 4))))
        return logits
