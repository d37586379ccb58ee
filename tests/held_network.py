"""A network that computes what ResidualCNN computes, but slowly while a file exists: tests interrupt trainings with it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor

from lightning_modules.networks import ResidualCNN

HOLD = "REGIONWISE_TEST_HOLD"
BATCH_SECONDS = 1.0


class HeldCNN(ResidualCNN):
    """The same function of its input, at the pace that a test needs."""

    def __init__(self, width: int = 2, stages: int = 3) -> None:
        super().__init__(width=width, stages=stages)

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits (B, 2) of volumes (B, 2, I, J, K)."""
        if HOLD in os.environ and Path(os.environ[HOLD]).exists():
            time.sleep(BATCH_SECONDS)
        return super().forward(volumes)
