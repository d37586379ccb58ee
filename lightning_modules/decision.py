"""Three rules that turn a fold's probabilities into decisions, for networks, baselines and controls alike; numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

Decision = Literal["midpoint", "balanced_accuracy", "prior"]
Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
CLIP = 1e-6
"""Probabilities are held this far from 0 and 1 before a logarithm is taken; log odds that differ by less are the same."""
DECISIONS: Mapping[str, str] = MappingProxyType(
    {
        "midpoint": "midpoint of the two classes' mean log odds on the tuning part",
        "balanced_accuracy": "highest balanced accuracy on the tuning part",
        "prior": "share of positive scans in the training part",
    }
)
"""Rule -> where a fold's threshold lies, for tables and reports."""


def choose_threshold(decision: Decision, y: Labels, p: Probabilities, prevalence: float) -> float:
    """The threshold of one fold: a scan counts as positive when its probability is at least this.

    Args:
        decision: The rule.
        y: (n,) labels 0 or 1 of the tuning part.
        p: (n,) probabilities in [0, 1] of the tuning part.
        prevalence: Share of positive scans in the training part; only ``prior`` looks at it, and at nothing else.

    Returns:
        A threshold in [0, 1].

    Raises:
        ValueError: if there is no such rule.
    """
    if decision == "prior":
        return float(prevalence)
    rules = {"midpoint": midpoint, "balanced_accuracy": best_threshold}
    if decision not in rules:
        raise ValueError(f"decision is {decision!r}; it can be {', '.join(map(repr, DECISIONS))}")
    return rules[decision](y, p)


def midpoint(y: Labels, p: Probabilities) -> float:
    """The probability whose log odds lie halfway between the mean log odds of the positive and of the negative tuning scans.

    It stays there where the means are in the wrong order: the threshold is a cut and does not turn a network's output round.
    A scan that lies on it counts as positive whatever rounding does.

    Args:
        y: (n,) labels 0 or 1.
        p: (n,) probabilities in [0, 1].

    Returns:
        A threshold in [0, 1]; 0.5 where the part holds one class only, all probabilities are the same, or one is not a number.
    """
    p = np.asarray(p, dtype=np.float64)
    if not _has_both_classes(y) or not np.isfinite(p).all():
        return 0.5
    held = np.clip(p, CLIP, 1 - CLIP)
    odds = np.log(held / (1 - held))
    if np.ptp(odds) < CLIP:
        return 0.5
    middle = (odds[y == 1].mean() + odds[y == 0].mean()) / 2 - 1e-9
    return float(1 / (1 + np.exp(-middle)))


def best_threshold(y: Labels, p: Probabilities) -> float:
    """The threshold with the highest balanced accuracy on the tuning part; among equals the one nearest to 0.5.

    Candidates are the midpoints between neighbouring values of 0, the probabilities and 1, so that rounding cannot move a scan
    across the threshold.

    Args:
        y: (n,) labels 0 or 1.
        p: (n,) probabilities in [0, 1].

    Returns:
        A threshold in [0, 1]; 0.5 where the part holds one class only, or a probability is not a number.
    """
    p = np.asarray(p, dtype=np.float64)
    if not _has_both_classes(y) or not np.isfinite(p).all():
        return 0.5
    positives, negatives = int(np.sum(y == 1)), int(np.sum(y == 0))
    values = np.unique(np.concatenate([[0.0, 1.0], p]))
    candidates = values[:-1] + np.diff(values) / 2
    decided = p[None, :] >= candidates[:, None]
    hits, rejections = (decided & (y == 1)).sum(axis=1), (~decided & (y == 0)).sum(axis=1)
    accuracy = hits * negatives + rejections * positives
    best = candidates[accuracy == accuracy.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _has_both_classes(y: Labels) -> bool:
    return bool(np.any(y == 1) and np.any(y == 0))
