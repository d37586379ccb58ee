"""Intervals that hold the true number with a chosen frequency, from the tuning parts of all folds.

A new scan's interval at level 1 - a reaches from the a (n + 1)-th smallest of ``prediction of fold k's network - residual`` to
the (1 - a)(n + 1)-th smallest of ``prediction + residual``, over the tuning scans of all folds, each with its own fold's
network; a patient counts once, its scans weighing 1 / n each. For exchangeable patients at least 1 - 2 a are held, and near
1 - a wherever it was measured.

References:
    Barber, Candes, Ramdas, Tibshirani, Predictive inference with the jackknife+, Ann Stat 2021;49:486-507 (CV+).
    Lee, Barber, Willett, Distribution-free inference with hierarchical data, 2023, arXiv 2306.06342 (weights 1 / n).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.statistics.conformal import LEVELS, ROUNDING, Part, patient_weights
from experiments.statistics.predictions import FloatArray


@dataclass(frozen=True)
class Residuals:
    """Absolute residuals of a fold's tuning scans, ascending, and the weight of each."""

    fold: int
    patients: int
    residuals: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class NumberCoverage:
    """How often intervals of internal test scans held the true number, each from the tuning part of its own fold alone."""

    level: float
    patients: int
    covered: float


@dataclass(frozen=True)
class NumberScores:
    """All that is kept to make intervals of new scans; ``steps`` as in ``Target.steps``."""

    folds: tuple[Residuals, ...]
    coverage: tuple[NumberCoverage, ...] = ()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> NumberScores:
        """From plain JSON content, as ``dataclasses.asdict`` gives it."""
        folds = (Residuals(**{**item, "residuals": tuple(item["residuals"]), "weights": tuple(item["weights"])})
                 for item in recorded["folds"])  # fmt: skip
        return cls(tuple(folds), tuple(NumberCoverage(**item) for item in recorded["coverage"]))


def number_scores(tuning: Mapping[int, Part], test: Mapping[int, Part] | None = None) -> NumberScores:
    """Residuals of the tuning parts, and the coverage of the internal test parts.

    Args:
        tuning: Fold -> its tuning scans, ``y`` the true number, ``p`` that of the fold's own network.
        test: Fold -> its internal test scans, the same.
    """
    folds = tuple(_residuals(fold, part) for fold, part in sorted(tuning.items()))
    return NumberScores(folds, _measured(folds, test) if test else ())


def _residuals(fold: int, part: Part) -> Residuals:
    residuals, weights = np.abs(np.asarray(part.y) - part.p), patient_weights(np.asarray(part.patient))
    order = np.argsort(residuals, kind="stable")
    return Residuals(fold, len(set(part.patient)), tuple(residuals[order].tolist()), tuple(weights[order].tolist()))


def number_intervals(kept: NumberScores, p: FloatArray, level: float) -> FloatArray:
    """(scans, 2) lower and upper end, infinite where there are too few patients; ``p`` (scans, folds) as ``kept.folds``."""
    weights = np.concatenate([np.asarray(fold.weights) for fold in kept.folds])
    need = level * (sum(fold.patients for fold in kept.folds) + 1)
    ends = [[
        np.concatenate([sign * row[column] + np.asarray(fold.residuals) for column, fold in enumerate(kept.folds)])
        for sign in (-1.0, 1.0)
    ] for row in p]  # fmt: skip
    return np.array([[-_quantile(low, weights, need), _quantile(high, weights, need)] for low, high in ends]).reshape(-1, 2)


def _quantile(values: FloatArray, weights: FloatArray, need: float) -> float:
    """The smallest value up to which the weights reach what is needed; infinite where they do not."""
    order = np.argsort(values, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= need - ROUNDING)
    return float(values[order][reached[0]]) if reached.size else float("inf")


def _measured(folds: tuple[Residuals, ...], test: Mapping[int, Part]) -> tuple[NumberCoverage, ...]:
    coverage = []
    for level in LEVELS:
        inside, weights = [], []
        for kept in folds:
            part = test[kept.fold]
            ends = number_intervals(NumberScores((kept,)), np.asarray(part.p)[:, None], level)
            inside.append((ends[:, 0] <= part.y) & (part.y <= ends[:, 1]))
            weights.append(patient_weights(np.asarray(part.patient)))
        weight = np.concatenate(weights)
        coverage.append(
            NumberCoverage(level, round(float(weight.sum())), float(weight @ np.concatenate(inside) / weight.sum()))
        )
    return tuple(coverage)
