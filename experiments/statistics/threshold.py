"""The decision threshold of a fold, chosen on its tuning rows; the rule of the networks, without torch."""

from __future__ import annotations

import numpy as np

from experiments.statistics.predictions import FloatArray, IntArray


def best_threshold(y: IntArray, p: FloatArray) -> float:
    """The threshold with the highest balanced accuracy on tuning rows; among equals the one nearest to 0.5.

    Candidates are the midpoints between neighbouring values of 0, the probabilities and 1.

    Args:
        y: (n,) labels 0 or 1.
        p: (n,) probabilities in [0, 1].

    Returns:
        A threshold in [0, 1]; 0.5 where the rows hold one class only.
    """
    positives, negatives = int(np.sum(y == 1)), int(np.sum(y == 0))
    if not positives or not negatives:
        return 0.5
    values = np.unique(np.concatenate([[0.0, 1.0], p]))
    candidates = values[:-1] + np.diff(values) / 2
    decided = p[None, :] >= candidates[:, None]
    hits, rejections = (decided & (y == 1)).sum(axis=1), (~decided & (y == 0)).sum(axis=1)
    accuracy = hits * negatives + rejections * positives
    best = candidates[accuracy == accuracy.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
