"""ROC curves of a cross-validation: the average over folds, with a patient-cluster band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.pooling import Pooled
from experiments.statistics.predictions import FloatArray, Predictions
from experiments.statistics.resampling import WeightArray, draw_patient_weights

POINTS = 101
DRAWS = 1000


@dataclass(frozen=True)
class RocBand:
    """Sensitivity at rising false positive rates: of all scans, and the band of the bootstrap draws.

    The first point is (0, 0); the next stands at false positive rate 0 again, so that the curve may rise there.
    """

    false_positive_rate: FloatArray
    sensitivity: FloatArray
    low: FloatArray
    high: FloatArray


def roc_bands(tables: Mapping[str, Sequence[Pooled]]) -> dict[str, RocBand]:
    """The band of every input, from the same draws of patients; the mean curve where there are several seeds."""
    first = next(iter(tables.values()))[0].test
    weights = draw_patient_weights(first, DRAWS, np.random.default_rng(0))
    return {name: roc_band([seed_table.test for seed_table in seed_tables], weights) for name, seed_tables in tables.items()}


def roc_band(tests: Sequence[Predictions], weights: WeightArray, points: int = POINTS, level: float = 0.95) -> RocBand:
    """Vertical average of the folds' ROC curves, each weighted by its number of positive-negative pairs.

    The weights are those of the fold-stratified AUC, so the area below this curve is that AUC. Scores of different folds
    are never ranked against each other. The band is pointwise.

    Args:
        tests: Internal test rows of one input, one table for each seed.
        weights: (draws, patients) from `draw_patient_weights`.
        points: Number of false positive rates from 0 to 1.
        level: Level of the band.

    References:
        Fawcett, An introduction to ROC analysis, Pattern Recognit Lett 2006;27:861-874 (vertical averaging).
    """
    grid = np.linspace(0, 1, points)
    every = np.ones((1, weights.shape[1]))
    whole = np.mean([_average(pred, every, grid)[0] for pred in tests], axis=0)
    draws = np.mean([_average(pred, weights.astype(np.float64), grid) for pred in tests], axis=0)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return RocBand(*(np.concatenate([[0.0], part]) for part in (grid, whole, low, high)))


def _average(pred: Predictions, weights: FloatArray, grid: FloatArray) -> FloatArray:
    """(draws, points) sensitivities; NaN in draws where no fold holds both classes."""
    total, pairs = np.zeros((weights.shape[0], grid.size)), np.zeros(weights.shape[0])
    for fold in np.unique(pred.fold):
        curves, fold_pairs = _fold(pred, int(fold), weights, grid)
        total += curves * fold_pairs[:, None]
        pairs += fold_pairs
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / pairs[:, None])


def _fold(pred: Predictions, fold: int, weights: FloatArray, grid: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Curves (draws, points) of one fold and its weight (draws,); equal scores are passed in one step."""
    rows = np.flatnonzero(pred.fold == fold)
    rows = rows[np.argsort(-pred.p[rows], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(pred.p[rows])), rows.size - 1)
    scan_weights = weights[:, pred.patient_index[rows]]
    hits, alarms = (np.cumsum(scan_weights * side, axis=1)[:, ends] for side in (pred.y[rows], 1 - pred.y[rows]))
    start = np.zeros((weights.shape[0], 1))
    hits, alarms = np.hstack([start, hits]), np.hstack([start, alarms])
    pairs = hits[:, -1] * alarms[:, -1]
    curves = np.zeros((weights.shape[0], grid.size))
    for draw in np.flatnonzero(pairs > 0):
        curves[draw] = np.interp(grid, alarms[draw] / alarms[draw, -1], hits[draw] / hits[draw, -1])
    return curves, pairs
