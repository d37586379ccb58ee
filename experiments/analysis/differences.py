"""Standardised differences between two groups: how unlike they are, in standard deviations, whatever their size.

Unlike a p value the number does not shrink with fewer patients. Above 0.1 is the usual mark of imbalance (Austin 2009).

References:
    Austin 2009, Stat Med 28:3083-3107, doi 10.1002/sim.3697 (numbers, two classes).
    Yang, Dalton 2012, SAS Global Forum, paper 335-2012 (more than two classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def difference_of_numbers(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Difference of means over the root of the mean variance; nan when a group has fewer than two values or both no spread.

    Args:
        first: (n,) values, nan where missing.
        second: (m,) values, nan where missing.
    """
    left, right = first[np.isfinite(first)], second[np.isfinite(second)]
    if min(left.size, right.size) < 2:
        return float("nan")
    spread = float(np.sqrt((left.var(ddof=1) + right.var(ddof=1)) / 2))
    gap = float(left.mean() - right.mean())
    if spread == 0:
        return 0.0 if gap == 0 else float("nan")
    return gap / spread


def difference_of_classes(first: Sequence[str], second: Sequence[str]) -> float:
    """Distance of two groups' shares of each class, 0 or more; a missing value (an empty text) counts in neither.

    For two classes it is the absolute difference of the shares over the root of the mean of p (1 - p). For more it is the
    Mahalanobis distance between the vectors of shares without the last class, with the mean of the two multinomial covariances.

    Args:
        first: One class for each member of a group.
        second: The same for the other group.

    Returns:
        nan when a group has no value, 0 when there is only one class, infinity when the groups share no class.
    """
    left, right = ([value for value in values if value] for values in (first, second))
    levels = sorted({*left, *right})
    if not left or not right:
        return float("nan")
    shares = np.array([[values.count(level) / len(values) for level in levels[:-1]] for values in (left, right)])
    if len(levels) == 1:
        return 0.0
    if not set(left) & set(right):
        return float("inf")
    covariance = sum(np.diag(p) - np.outer(p, p) for p in shares) / 2
    gap = shares[0] - shares[1]
    return float(np.sqrt(max(gap @ np.linalg.pinv(covariance) @ gap, 0.0)))
