"""Logistic ridge regression on all voxels of an input, or on a network's features, through inner products of scans.

A ridge regression on a million voxels of a few hundred scans has its weights in the span of the training scans. It is therefore
fitted on the principal components of the standardised training scans, which the (scans, scans) matrix of their inner products
gives; with all components that is the regression on the voxels themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.analysis.baseline_models import (
    BaselineFit,
    Design,
    NumberFit,
    Rows,
    best_number_ridge,
    best_ridge,
    fit_baseline,
    fit_number,
)
from lightning_modules.decision import Decision

STRENGTHS = tuple(10.0**power for power in range(-3, 5))
"""Inverse strengths C times the number of features; of 1,000 voxels C is 1e-6 ... 10."""
COMPONENTS = (50, 20)
"""First principal components that are tried beside all of them."""
CONSTANT = 1e-12
"""Variance over squared mean up to which a feature is constant; one step of float16 in one of 1,000 scans is above it."""
ZERO = 1e-6
"""Share of the largest eigenvalue up to which one is rounding."""

Chunk = tuple[Sequence[str], npt.NDArray[np.float32]]
"""Inputs that show some features, and these features (scans, features)."""


@dataclass(frozen=True)
class Gram:
    """Scans standardised by the training part of one fold.

    Attributes:
        products: (scans, scans) inner products.
        features: Features that are not constant in the training part; the others have no weight.
    """

    products: npt.NDArray[np.float64]
    features: int


@dataclass(frozen=True)
class ReaderFit(BaselineFit):
    """One fold of a linear reader; `penalty` is the C of the regression on the standardised features.

    Attributes:
        features: Features that are not constant in the training part.
        components: Principal components that the tuning part chose.
    """

    features: int = 0
    components: int = 0

    def facts(self) -> dict[str, Any]:
        """As it stands in run.json and baselines.json; a million weights are not."""
        facts = super().facts() | {"features": self.features, "components": self.components}
        return {name: value for name, value in facts.items() if name != "coefficients"}


def gram_matrices(chunks: Iterable[Chunk], trains: Sequence[Rows], scans: int) -> dict[str, list[Gram]]:
    """Inner products of the scans for each input and fold, in one pass over the features.

    Args:
        chunks: All features of all inputs, some at a time.
        trains: Rows of each fold's training part; nothing else decides means and SDs.
        scans: Number of scans.

    Returns:
        Input -> one matrix for each fold.
    """
    share = np.zeros((len(trains), scans))
    for fold, rows in enumerate(trains):
        share[fold, rows] = 1 / len(rows)
    sums: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]] = {}
    for names, values in chunks:
        double = values.astype(np.float64)
        means = share @ double
        variances = share @ np.square(double, out=double) - means**2
        for name in names:
            sums.setdefault(name, (np.zeros((len(trains), scans, scans)), np.zeros(len(trains), dtype=np.int64)))
        for fold, (mean, variance) in enumerate(zip(means, variances, strict=True)):
            varies = variance > CONSTANT * mean**2
            scale = 1 / np.sqrt(variance[varies])
            standard = (values[:, varies] - mean[varies].astype(np.float32)) * scale.astype(np.float32)
            products = standard @ standard.T
            for name in names:
                sums[name][0][fold] += products
                sums[name][1][fold] += scale.size
    return {name: [Gram(p, int(n)) for p, n in zip(*parts, strict=True)] for name, parts in sums.items()}


def fit_reader(gram: Gram, y: npt.NDArray[np.int64], train: Rows, tuning: Rows, decision: Decision) -> ReaderFit:
    """Fit one fold; without a feature that varies it predicts the prevalence of the training part.

    Args:
        gram: The scans, standardised by this training part.
        y: (scans,) labels.
        train: Rows to fit on.
        tuning: Rows that choose penalty and components, and the threshold unless that is the prevalence.
        decision: The threshold's rule.
    """
    scores = component_scores(gram, train)
    if not scores.size:
        return ReaderFit(**vars(fit_baseline(Design((), np.empty((y.size, 0))), y, train, tuning, decision)))
    views = [scores, *(scores[:, :count] for count in COMPONENTS if count < scores.shape[1])]
    fit, weights = best_ridge(views, STRENGTHS, y, train, tuning, decision, solver="newton-cholesky", tol=1e-6)
    assert fit.penalty is not None
    found = replace(fit, penalty=fit.penalty / gram.features)
    return ReaderFit(**vars(found), features=gram.features, components=weights.size)


def fit_number_reader(gram: Gram, y: npt.NDArray[np.float64], train: Rows, tuning: Rows, steps: int) -> NumberFit:
    """As ``fit_reader``, where a number is predicted: a ridge regression, or the training part's mean.

    Args:
        gram: The scans, standardised by this training part.
        y: (scans,) values or steps.
        train: Rows to fit on.
        tuning: Rows that choose penalty and components.
        steps: Highest step; 0 for a value.
    """
    scores = component_scores(gram, train)
    if not scores.size:
        return fit_number(Design((), np.empty((y.size, 0))), y, train, tuning, steps)
    views = [scores, *(scores[:, :count] for count in COMPONENTS if count < scores.shape[1])]
    fit, weights = best_number_ridge(views, [1 / strength for strength in STRENGTHS], y, train, tuning, steps)
    assert fit.penalty is not None
    return replace(fit, penalty=fit.penalty * gram.features, features=gram.features, components=weights.size)


def component_scores(gram: Gram, train: Rows) -> npt.NDArray[np.float64]:
    """(scans, components) of every scan on the training part's components, over the square root of the features' number."""
    products = gram.products[:, train] / max(gram.features, 1)
    values, vectors = np.linalg.eigh(products[train])
    kept = np.flatnonzero(values > ZERO * max(values[-1], 0))[::-1]
    return np.asarray(products @ vectors[:, kept] / np.sqrt(values[kept]))
