"""Metrics of a whole partition, and the choice of the decision threshold.

Metrics are computed once per epoch on all scans of the partition, never averaged over batches. A metric that is undefined, for
example the AUROC of a partition with one class, is None, never 0.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torchmetrics.classification import BinaryAUROC, BinaryStatScores

METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auroc")


def evaluate(probability: Tensor, label: Tensor, threshold: float) -> dict[str, float | None]:
    """Balanced accuracy, sensitivity, specificity and AUROC of one partition.

    Args:
        probability: (n,) float, probability of the positive class.
        label: (n,) int, 0 or 1.
        threshold: A scan counts as positive when its probability is at least this.

    Returns:
        One value for each of ``METRICS``; None where it is undefined.
    """
    decision = (probability >= threshold).long()
    tp, fp, tn, fn, _ = BinaryStatScores()(decision, label).tolist()
    sensitivity = tp / (tp + fn) if tp + fn else None
    specificity = tn / (tn + fp) if tn + fp else None
    both = sensitivity is not None and specificity is not None
    return {
        "balanced_accuracy": (sensitivity + specificity) / 2 if both else None,  # type: ignore[operator]
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auroc": _auroc(probability, label) if both else None,
    }


def _auroc(probability: Tensor, label: Tensor) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*interpolation.*")
        return round(float(BinaryAUROC()(probability.double(), label)), 6)


def best_threshold(probability: Tensor, label: Tensor) -> float:
    """The threshold with the highest balanced accuracy on the tuning part; among equals the one nearest to 0.5.

    Candidates are the midpoints between neighbouring probabilities, so that rounding cannot move a scan across it.

    Args:
        probability: (n,) float.
        label: (n,) int, 0 or 1.

    Returns:
        A threshold in [0, 1]; 0.5 where the part holds one class only.
    """
    positives, negatives = int(label.sum()), int((1 - label).sum())
    if not positives or not negatives:
        return 0.5
    values = torch.unique(probability.double())
    candidates = torch.cat([values[:-1] + (values[1:] - values[:-1]) / 2, torch.tensor([0.5], dtype=torch.float64)])
    decisions = probability.double()[None, :] >= candidates[:, None]
    sensitivity = (decisions & (label == 1)).sum(1) / positives
    specificity = (~decisions & (label == 0)).sum(1) / negatives
    accuracy = sensitivity + specificity
    best = candidates[accuracy >= accuracy.max() - 1e-6]
    return float(best[(best - 0.5).abs().argmin()])
