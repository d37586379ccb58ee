"""A smooth calibration curve without bins, and the integrated calibration index."""

from __future__ import annotations

import numpy as np

from experiments.statistics.predictions import FloatArray, Predictions

SPAN = 0.75
EXACT = 2_000
"""Rows up to which the index takes the curve at each of them; beyond, at a quarter as many quantiles, and lines between."""


def local_line(x: FloatArray, y: FloatArray, at: FloatArray, span: float = SPAN) -> FloatArray:
    """Local linear regression with tricube weights over the nearest rows (lowess without robustness steps).

    Args:
        x: (n,) predictor.
        y: (n,) response.
        at: (k,) where the curve is wanted.
        span: Share of the rows that a local line is fitted to, within (0, 1].

    Returns:
        (k,) values; the local mean where all neighbours share one x.

    Raises:
        ValueError: If the span holds fewer than two rows.

    References:
        Cleveland, Robust locally weighted regression and smoothing scatterplots, J Am Stat Assoc 1979;74:829-836.
    """
    near = int(span * x.size + 1e-10)
    if not 2 <= near <= x.size:
        raise ValueError(f"span {span:g} of {x.size} rows holds {near}; a local line needs at least 2 and at most all")
    gap = np.abs(at[:, None] - x[None, :])
    reach = np.partition(gap, near - 1, axis=1)[:, near - 1 : near]
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(reach > 0, gap / reach, np.where(gap > 0, 1.0, 0.0))
    weight = np.where(scaled < 1, (1 - np.minimum(scaled, 1) ** 3) ** 3, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    center = weight @ x
    offset = x[None, :] - center[:, None]
    spread = np.sum(weight * offset**2, axis=1)
    mean = weight @ y
    flat = spread <= 1e-12 * np.ptp(x) ** 2
    slope = np.sum(weight * offset * y[None, :], axis=1) / np.where(flat, 1.0, spread)
    return np.asarray(mean + np.where(flat, 0.0, slope * (at - center)))


def smooth_calibration(pred: Predictions, at: FloatArray, span: float = SPAN) -> FloatArray:
    """(k,) observed share of label 1 at given probabilities, held within 0 ... 1."""
    return np.clip(local_line(pred.p, pred.y.astype(np.float64), at, span), 0.0, 1.0)


def integrated_calibration_index(pred: Predictions, span: float = SPAN) -> float:
    """Mean distance between the probabilities and the smooth curve at them; 0 is perfect calibration.

    The reference method smooths by loess of degree 2; this is the local line of lowess. Work grows with the rows, not their
    square.

    References:
        Austin and Steyerberg, The Integrated Calibration Index (ICI) and related metrics for quantifying the calibration of
        logistic regression models, Stat Med 2019;38:4051-4065.
    """
    if pred.p.size <= EXACT:
        return float(np.mean(np.abs(smooth_calibration(pred, pred.p, span) - pred.p)))
    at = np.unique(np.quantile(pred.p, np.linspace(0, 1, EXACT // 4)))
    curve = np.concatenate([smooth_calibration(pred, part, span) for part in np.array_split(at, EXACT // 100)])
    return float(np.mean(np.abs(np.interp(pred.p, at, curve) - pred.p)))
