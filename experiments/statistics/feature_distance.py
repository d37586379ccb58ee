"""How far the features of a scan lie from those of a training part: Mahalanobis, with a shrunk covariance.

Kept are the mean and a factor of the covariance, and of the distances of scans that the network did not train on no more than
median and spread of their logarithm. A network fits its own training scans, so distances of those would be too small.

References:
    Ledoit, Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J Multivar Anal 2004;88:365-411,
    doi 10.1016/S0047-259X(03)00096-4 (shrinkage).
    Lee, Lee, Lee, Shin, A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018 (the distance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.statistics.predictions import FloatArray, PredictionsError

MOST_FACTORS = 32
"""Directions that are kept one by one; the others have one variance in common, so that a file stays small."""
LEAST_SCANS = 10
"""With fewer scans that are not trained on, median and spread of their distances are too uncertain: no distance is judged."""
MAD = 1.4826


@dataclass(frozen=True)
class FeatureReference:
    """The features of a network's training part, and how far unseen scans of the same cohort lie from them.

    Attributes:
        mean: (F,) mean of the training scans.
        factors: (k, F) eigenvectors of the shrunk covariance, the largest eigenvalues first.
        variances: (k,) their eigenvalues.
        rest: Mean eigenvalue of all other directions; 0 where there are none.
        shrinkage: Share of the common variance in the covariance, 0 ... 1.
        median: Median of the logarithm of the distances of unseen scans; nan with fewer than ``LEAST_SCANS``.
        spread: Their robust standard deviation, 1.4826 x the median absolute deviation.
        scans: How many unseen scans.
    """

    mean: tuple[float, ...]
    factors: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    rest: float
    shrinkage: float
    median: float | None
    spread: float | None
    scans: int

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> FeatureReference:
        """From plain JSON content, as ``dataclasses.asdict`` gives it."""
        factors = tuple(tuple(row) for row in recorded["factors"])
        lists = {"mean": tuple(recorded["mean"]), "factors": factors, "variances": tuple(recorded["variances"])}
        return cls(**{**recorded, **lists})

    def distances(self, features: FloatArray) -> FloatArray:
        """(n,) root mean square distance of features (n, F), in standard deviations of the training part."""
        away = np.asarray(features, dtype=np.float64) - np.asarray(self.mean)
        factors = np.asarray(self.factors).reshape(-1, len(self.mean))
        along = away @ factors.T
        total = (along**2 / np.asarray(self.variances)).sum(axis=1)
        if self.rest:
            total += np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0) / self.rest
        return np.asarray(np.sqrt(total / len(self.mean)))

    def robust_z(self, features: FloatArray) -> FloatArray:
        """(n,) how many robust standard deviations further than unseen scans of the cohort; nan where that is unknown."""
        if self.median is None or not self.spread:
            return np.full(len(features), np.nan)
        with np.errstate(divide="ignore"):
            return np.asarray((np.log(self.distances(features)) - self.median) / self.spread)


def feature_reference(training: FloatArray, unseen: FloatArray) -> FeatureReference:
    """Fit the reference of one network.

    Args:
        training: (n, F) features of the scans that it trained on.
        unseen: (m, F) of scans of the same cohort that it did not train on: its tuning and internal test part.

    Raises:
        PredictionsError: if there are fewer than two training scans, or a feature is not finite.
    """
    training, unseen = np.asarray(training, dtype=np.float64), np.asarray(unseen, dtype=np.float64)
    if len(training) < 2 or not np.isfinite(training).all() or not np.isfinite(unseen).all():
        raise PredictionsError(f"features of {len(training)} training scans; two or more with finite features are needed")
    covariance, shrinkage = shrunk_covariance(training)
    values, vectors = np.linalg.eigh(covariance)
    kept = slice(None, -MOST_FACTORS - 1, -1)
    others = values[: max(len(values) - MOST_FACTORS, 0)]
    rest = float(others.mean()) if others.size else 0.0
    mean, factors = training.mean(axis=0), vectors.T[kept]
    bare = FeatureReference(tuple(mean.tolist()), tuple(map(tuple, factors.tolist())), tuple(values[kept].tolist()),
                            rest, shrinkage, None, None, len(unseen))  # fmt: skip
    if len(unseen) < LEAST_SCANS:
        return bare
    logs = np.log(np.maximum(bare.distances(unseen), np.finfo(float).tiny))
    median = float(np.median(logs))
    spread = MAD * float(np.median(np.abs(logs - median)))
    return FeatureReference(bare.mean, bare.factors, bare.variances, rest, shrinkage, median, spread, len(unseen))


def shrunk_covariance(rows: FloatArray) -> tuple[FloatArray, float]:
    """Covariance of (n, F) rows drawn towards equal variances without correlation, and the share of that; Ledoit and Wolf 2004.

    Where all rows are alike the variance is 1, so that the matrix can be inverted.
    """
    n, size = rows.shape
    away = rows - rows.mean(axis=0)
    sample = away.T @ away / n
    common = float(np.trace(sample)) / size
    if common <= 0:
        return np.eye(size), 1.0
    apart = float(((sample - common * np.eye(size)) ** 2).sum())
    noise = float(((away**2).sum(axis=1) ** 2).sum() / n - (sample**2).sum()) / n
    shrinkage = 1.0 if apart <= 0 else float(np.clip(noise / apart, 0, 1))
    least = 1e-3 * common
    return (1 - shrinkage) * sample + (shrinkage * common + least) * np.eye(size), shrinkage
