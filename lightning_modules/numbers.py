"""A network that predicts a number of each scan: a value, or an ordinal step.

Both read the latent value z, the difference of the network's two logits, and keep what turns it into a number in the
checkpoint:

- a value is mean + SD * z, both of the training part; the loss is the smooth L1 loss of z against the standardised value,
  squared up to one SD and absolute beyond it;
- a step is the expected number of cuts that are reached, the sum of sigmoid(z - b_c) over the cuts c; the loss is that of
  cumulative logits (``lightning_modules.objectives``) with the middle cut's offset at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.classifier import Batch, StratificationModule
from lightning_modules.metrics import evaluate_number
from lightning_modules.objectives import Ordinal, ScoreScale


class NumberModule(StratificationModule):
    """Train a network to predict a number of each scan.

    A batch holds ``score`` (B,) float32, the value or the step, beside ``image`` and ``index``.

    Args:
        network: As ``StratificationModule`` takes it.
        steps: Highest step of an ordinal target; 0 for a value.
        options: Arguments of ``StratificationModule``.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, steps: int = 0, **options: Any) -> None:
        super().__init__(network, **options)
        self.steps = steps
        self.register_buffer("mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("spread", torch.tensor(1.0, dtype=torch.float64))
        if steps:
            cuts = tuple(float(step) for step in range(1, steps + 1))
            self.ordinal = Ordinal(ScoreScale(cuts[(steps - 1) // 2], (0.0, *cuts)), 0.0, cuts)

    def start_from(self, scores: Sequence[float]) -> None:
        """Take mean and SD, or the offsets of the cuts, from the numbers of the training part; nothing else is looked at."""
        values = torch.tensor(scores, dtype=torch.float64)
        self.mean.fill_(values.mean())
        self.spread.fill_(values.std(correction=0) if values.std(correction=0) > 0 else 1.0)
        if self.steps:
            self.ordinal.start_from(scores)

    def number(self, logits: Tensor) -> Tensor:
        """Predicted value or expected step (B,) float64 from logits (B, 2)."""
        z = (logits[:, 1] - logits[:, 0]).double()
        if self.steps:
            return torch.sigmoid(z[:, None] - self.ordinal.offsets().detach()).sum(1)
        return self.mean + self.spread * z

    def _number_loss(self, logits: Tensor, score: Tensor) -> Tensor:
        z = logits[:, 1] - logits[:, 0]
        if self.steps:
            loss: Tensor = self.ordinal(z, score)
            return loss.mean()
        return F.smooth_l1_loss(z, ((score - self.mean) / self.spread).to(z))

    def _objective_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._number_loss(logits, batch["score"])

    def _weights_of(self, label: Tensor) -> Tensor:
        return torch.ones(len(label), device=label.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of a tuning batch until the part is complete."""
        self._tuning.append((self._logits(batch).detach(), batch["score"]))

    def on_validation_epoch_end(self) -> None:
        """Log loss and scores of the whole tuning part."""
        logits, score = (torch.cat(column) for column in zip(*self._tuning, strict=True))
        self._tuning.clear()
        self.log("tuning/loss", self._number_loss(logits, score), prog_bar=True)
        scores = evaluate_number(self.number(logits).cpu(), score.double().cpu(), float(self.mean), self.steps)
        for name, value in scores.items():
            if value is not None:
                self.log(f"tuning/{name}", value)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The scan's row and predicted number, as predictions.tsv needs them."""
        return {"index": batch["index"], "number": self.number(self._logits(batch))}

    def _own_parameters(self) -> list[nn.Parameter]:
        return list(self.ordinal.parameters()) if self.steps else []
