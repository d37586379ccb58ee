"""What a training learns from: the label alone, or the whole score, through one latent value z, the log odds of the label.

Each objective is anchored so that sigmoid(z) is the probability of score >= threshold: nothing that reads a prediction depends
on the objective. Its own parameters serve the training alone. Where the label is 1 below the threshold, -z stands for z.

- ordinal: P(score >= c) = sigmoid(z - b_c) for every cut c, b ascending with c and 0 at the threshold; the loss is the mean
  over the cuts of the binary cross-entropy. Proportional odds (McCullagh, J R Stat Soc B 1980;42:109) on a network's output,
  one for all cuts as in CORAL (Cao et al., Pattern Recognit Lett 2020;140:325).
- regression: score = t + s z + e, e logistic with scale s, so that P(score > t) = P(e > -s z) = sigmoid(z). t lies halfway
  between the threshold and the step below it, as scores come in steps. The loss is the negative log density,
  log s + r + 2 log(1 + exp(-r)) with r = (score - t) / s - z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.errors import ModelError

ObjectiveName = Literal["classification", "ordinal", "regression"]

EDSS_CUTS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
SMALLEST_GAP = 0.1
"""Log odds between neighbouring cuts at the start, at least: a gap of 0 has no gradient."""
SMALLEST_SCALE = 0.1
"""Scale of the error at the start, at least, in points of the score."""


@dataclass(frozen=True)
class ScoreScale:
    """The steps of a score in ascending order, and the threshold from which on its label is 1, or 0 where ``below`` it is 1."""

    threshold: float
    steps: tuple[float, ...]
    below: bool = False


class Objective(nn.Module):
    """The loss of scans by latent value and score; the score that was recorded may lie a step off the true one.

    Args:
        scale: Steps and threshold of the score.
        label_noise: Probability that it does, half for each side; the ends of the scale keep the half that points outwards.
    """

    steps: Tensor

    def __init__(self, scale: ScoreScale, label_noise: float = 0.0) -> None:
        super().__init__()
        self.label_noise, self.sign = label_noise, -1 if scale.below else 1
        self.register_buffer("steps", torch.tensor(scale.steps), persistent=False)

    def forward(self, z: Tensor, score: Tensor) -> Tensor:
        """Expected loss (B,) of scans with latent values z (B,) and recorded scores (B,), over what the true scores may be."""
        z = self.sign * z
        loss = self.loss(z, score)
        if not self.label_noise:
            return loss
        below = self.steps[(torch.searchsorted(self.steps, score) - 1).clamp(min=0)]
        above = self.steps[torch.searchsorted(self.steps, score, right=True).clamp(max=len(self.steps) - 1)]
        beside = self.loss(z, below) + self.loss(z, above)
        return (1 - self.label_noise) * loss + self.label_noise / 2 * beside

    def loss(self, z: Tensor, score: Tensor) -> Tensor:
        """Loss (B,) of scans with true scores (B,) and latent values z (B,), which rise with the score."""
        raise NotImplementedError

    def start_from(self, scores: Sequence[float]) -> None:
        """Start the objective's parameters from the scores of the training part."""


class Ordinal(Objective):
    """Cumulative logits at ascending cuts and at the threshold; with no other cut, the label's log loss."""

    cuts: Tensor

    def __init__(self, scale: ScoreScale, label_noise: float, cuts: Sequence[float]) -> None:
        super().__init__(scale, label_noise)
        cuts = sorted({*cuts, scale.threshold})
        self.register_buffer("cuts", torch.tensor(cuts), persistent=False)
        self.anchor = cuts.index(scale.threshold)
        self.gaps = nn.Parameter(torch.zeros(len(cuts) - 1)) if len(cuts) > 1 else None

    def offsets(self) -> Tensor:
        """Offset (K,) of each cut, strictly ascending, 0 at the threshold."""
        if self.gaps is None:
            return torch.zeros_like(self.cuts)
        offsets = F.pad(F.softplus(self.gaps).cumsum(0), (1, 0))
        return offsets - offsets[self.anchor]

    def loss(self, z: Tensor, score: Tensor) -> Tensor:
        """Mean over the cuts of the binary cross-entropy."""
        logits, reached = z[:, None] - self.offsets(), score[:, None] >= self.cuts
        return F.binary_cross_entropy_with_logits(logits, reached.to(logits), reduction="none").mean(1)

    @torch.no_grad()
    def start_from(self, scores: Sequence[float]) -> None:
        """Start the gaps from the share of scores that reach each cut, half a score added on both sides."""
        if self.gaps is None:
            return
        reached = (torch.tensor(scores)[:, None] >= self.cuts.cpu()).sum(0).double()
        odds = torch.log((reached + 0.5) / (len(scores) - reached + 0.5))
        gaps = (odds[:-1] - odds[1:]).clamp(min=SMALLEST_GAP)
        self.gaps.copy_(torch.log(torch.expm1(gaps)))


class Regression(Objective):
    """The score itself, with a logistic error."""

    def __init__(self, scale: ScoreScale, label_noise: float = 0.0) -> None:
        super().__init__(scale, label_noise)
        below = max((step for step in scale.steps if step < scale.threshold), default=scale.threshold)
        at = min((step for step in scale.steps if step >= scale.threshold), default=scale.threshold)
        self.boundary = (below + at) / 2
        self.log_scale = nn.Parameter(torch.zeros(()))

    def loss(self, z: Tensor, score: Tensor) -> Tensor:
        """Negative log density of the score."""
        r = (score - self.boundary) * torch.exp(-self.log_scale) - z
        return self.log_scale + r + 2 * F.softplus(-r)

    @torch.no_grad()
    def start_from(self, scores: Sequence[float]) -> None:
        """Start from the logistic scale that has the scores' standard deviation."""
        spread = float(torch.tensor(scores, dtype=torch.float64).std(correction=0)) * math.sqrt(3) / math.pi
        self.log_scale.fill_(math.log(max(spread, SMALLEST_SCALE)))


def check_objective(
    name: ObjectiveName,
    cuts: Sequence[float],
    label_noise: float,
    class_weights: tuple[float, float] | None,
    threshold: float | None,
) -> None:
    """Refuse options of an objective that do not go together.

    Args:
        name: The objective.
        cuts: Cuts of an ordinal one.
        label_noise: Probability that a score lies a step off.
        class_weights: Weights of the classes in the loss.
        threshold: The score from which on the label is 1; None where there are no scores.

    Raises:
        ModelError: naming the option, its value and what is allowed.
    """
    if not 0 <= label_noise < 1:
        raise ModelError(f"model.label_noise is {label_noise}; give a probability from 0 to below 1")
    if class_weights is not None and name != "classification":
        weights = list(class_weights)
        raise ModelError(f"model.class_weights {weights} goes with model.objective classification, not {name}; leave one out")
    if threshold is None and (label_noise or name != "classification"):
        raise ModelError(f"model.objective {name} with label_noise {label_noise:g} learns from scores; give their scale")
    if name != "ordinal":
        return
    listed = ", ".join(f"{cut:g}" for cut in cuts)
    if not set(cuts) - {threshold} or any(not low < high for low, high in pairwise(cuts)):
        raise ModelError(f"model.cuts is [{listed}]; give scores in ascending order, one at least beside the label's threshold")


def make_objective(
    name: ObjectiveName, scale: ScoreScale | None, label_noise: float, cuts: Sequence[float]
) -> Objective | None:
    """The objective of a name; None where the recorded label says all, that is classification without noise."""
    if scale is None or (name == "classification" and not label_noise):
        return None
    if name == "regression":
        return Regression(scale, label_noise)
    return Ordinal(scale, label_noise, cuts if name == "ordinal" else ())
