"""A network that gives one output for every scan, in one fold and on small boxes: a dead network as seen from outside."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_modules.liveness import INITIALISATIONS
from lightning_modules.networks import ResidualCNN

DEAD_FOLD, SMALL = 1, 16 * 16 * 16


class DyingCNN(ResidualCNN):
    """Dead in fold 1 of seed 0, in every initialisation, where the box is small; alive everywhere else."""

    def __init__(self) -> None:
        streams = [(0, DEAD_FOLD), *((0, DEAD_FOLD, number) for number in range(1, INITIALISATIONS))]
        seeds = {int(np.random.SeedSequence(stream).generate_state(1)[0]) for stream in streams}
        self.dead = torch.initial_seed() in seeds
        super().__init__(width=2, stages=2)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 2) of images (B, 2, I, J, K)."""
        logits = super().forward(image)
        if self.dead and image.shape[2:].numel() <= SMALL:
            return logits * 0 + self.head[-1].bias
        return logits
