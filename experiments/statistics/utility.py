"""Decision curve: does acting on the probabilities do more good than treating everyone or no one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics.predictions import Predictions


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit per scan at one threshold probability; treating no one has net benefit 0."""

    threshold: float
    model: float
    treat_all: float


def decision_curve(pred: Predictions, thresholds: Sequence[float]) -> list[NetBenefit]:
    """Net benefit TP/n - FP/n x t/(1-t) of treating scans with p >= t, and of treating all.

    Args:
        pred: Test rows with calibrated probabilities, preferably of an external cohort.
        thresholds: Probabilities t at which one would act, each within 0 < t < 1.

    Raises:
        ValueError: If a threshold is not strictly between 0 and 1.

    References:
        Vickers and Elkin, Decision curve analysis: a novel method for evaluating prediction models, Med Decis Making
        2006;26:565-574.
    """
    prevalence = float(np.mean(pred.y))
    out = []
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold}; it must lie strictly between 0 and 1")
        odds = threshold / (1 - threshold)
        treated = pred.p >= threshold
        hits, false_alarms = float(np.mean(treated & (pred.y == 1))), float(np.mean(treated & (pred.y == 0)))
        out.append(NetBenefit(float(threshold), hits - false_alarms * odds, prevalence - (1 - prevalence) * odds))
    return out
