"""Metrics of a whole partition.

Metrics are computed once per epoch on all scans of the partition, never averaged over batches. A metric that is undefined, for
example the AUROC of a partition with one class, is None, never 0.
"""

from __future__ import annotations

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.classification import BinaryStatScores

METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auroc")


def evaluate(probability: Tensor, label: Tensor, threshold: float) -> dict[str, float | None]:
    """Balanced accuracy, sensitivity, specificity and AUROC of one partition.

    Args:
        probability: (n,) float, probability of the positive class.
        label: (n,) int, 0 or 1.
        threshold: A scan counts as positive when its probability is at least this.

    Returns:
        One value for each of ``METRICS``; None where it is undefined, all None where a probability is not a number.
    """
    if not torch.isfinite(probability).all():
        return dict.fromkeys(METRICS)
    decision = (probability.double() >= threshold).long()
    tp, fp, tn, fn, _ = BinaryStatScores()(decision, label).tolist()
    sensitivity = tp / (tp + fn) if tp + fn else None
    specificity = tn / (tn + fp) if tn + fp else None
    both = None if sensitivity is None or specificity is None else (sensitivity + specificity) / 2
    return {
        "balanced_accuracy": both,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auroc": None if both is None else _auroc(probability, label),
    }


def evaluate_number(p: Tensor, y: Tensor, mean: float, steps: int = 0) -> dict[str, float | None]:
    """Scores of the predicted numbers of one partition.

    Args:
        p: (n,) float64 predicted value, or expected step.
        y: (n,) float64 value or step.
        mean: Mean of y in the training part, which R2 compares with.
        steps: Highest step of an ordinal target; 0 for a value.

    Returns:
        ``mae``, ``rmse``, ``r2``, ``spearman``, of steps ``kappa`` too (quadratic weights); None where a score is undefined,
        all None where a prediction is not a number.
    """
    names = ("mae", "rmse", "r2", "spearman", *(("kappa",) if steps else ()))
    if not torch.isfinite(p).all():
        return dict.fromkeys(names)
    error, around = p - y, ((y - mean) ** 2).mean()
    square = (error**2).mean()
    ranks = [torch.from_numpy(rankdata(column.numpy())).double() for column in (p, y)]
    a, b = (rank - rank.mean() for rank in ranks)
    norm = (a.square().sum() * b.square().sum()).sqrt()
    scores = [error.abs().mean(), square.sqrt(), 1 - square / around, (a * b).sum() / norm]
    if steps:
        step = torch.floor(p + 0.5).clamp(0, steps)
        chance = y.var(correction=0) + step.var(correction=0) + (y.mean() - step.mean()) ** 2
        scores.append(1 - ((step - y) ** 2).mean() / chance)
    return {name: float(score) if torch.isfinite(score) else None for name, score in zip(names, scores, strict=True)}


def _auroc(probability: Tensor, label: Tensor) -> float:
    """Share of pairs of a positive and a negative scan in the right order, ties counting half; both classes are present."""
    ahead = probability[label == 1].double()[:, None] - probability[label == 0].double()[None, :]
    return (int((ahead > 0).sum()) + int((ahead == 0).sum()) / 2) / ahead.numel()
