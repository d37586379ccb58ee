"""Predictions of several models as one: a logistic regression on their log odds, fitted on a fold's tuning part alone.

The tuning part is small, and it chose the epoch and the threshold of each network, so that its log odds flatter them. The
regression is therefore held back twice: weights are never negative, and they are shrunk towards 0 by a penalty that was chosen
beforehand (`STRENGTH`), not from the data. The test part takes no part in it, so what optimism is left costs the stack and
never credits it.

References:
    Wolpert, Stacked generalization, Neural Netw 1992;5:241-259.
    Breiman, Stacked regressions, Mach Learn 1996;24:49-64 (weights that are not negative).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from experiments.statistics.constant import SAME
from experiments.statistics.predictions import FloatArray, IntArray

STRENGTH = 1.0
"""Inverse strength C of the penalty: weights have a normal prior with this variance, in log odds for one SD."""


@dataclass(frozen=True)
class Stack:
    """How the log odds of models become those of a stack.

    Attributes:
        weights: (models,) log odds for one SD of each model's log odds, 0 or more; 0 where a model is constant.
        center: (models,) mean log odds of the tuning part.
        scale: (models,) their SD; 1 where a model is constant.
    """

    weights: FloatArray
    center: FloatArray
    scale: FloatArray

    def probabilities(self, odds: FloatArray, offset: FloatArray | float) -> FloatArray:
        """Probabilities (n,) from log odds (models, n) and an offset (n,) in log odds."""
        scaled = (odds - self.center[:, None]) / self.scale[:, None]
        return np.asarray(expit(offset + self.weights @ scaled), dtype=np.float64)


def fit_stack(y: IntArray, odds: FloatArray, offset: FloatArray | float, strength: float = STRENGTH) -> Stack:
    """Fit the weights of models on the tuning part of a fold.

    Minimised is the log loss in nats, summed over the scans, plus the sum of squared weights over 2 strength, with no weight
    below 0. There is no intercept: the models add to the offset what they know of a scan, and a weight of 0 leaves it as it is.

    Args:
        y: (n,) labels 0 or 1.
        odds: (models, n) log odds.
        offset: (n,) log odds that are taken as they are, or one number.
        strength: Inverse strength of the penalty.
    """
    center, spread = odds.mean(axis=1), odds.std(axis=1)
    varies = spread >= SAME
    scale = np.where(varies, spread, 1.0)
    design = np.where(varies[:, None], (odds - center[:, None]) / scale[:, None], 0.0)
    sign = 2.0 * y - 1

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (offset + weights @ design)
        slope = design @ (-sign * expit(-margin)) + weights / strength
        return float(np.sum(np.logaddexp(0, -margin)) + weights @ weights / (2 * strength)), slope

    start, bounds = np.zeros(len(odds)), [(0.0, None)] * len(odds)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 0, "gtol": 1e-9})
    return Stack(np.asarray(found.x), center, scale)
