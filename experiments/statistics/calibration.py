"""Are the probabilities right? Temperature, Brier score, log loss, calibration line and reliability curve.

Probabilities of several folds may be pooled here: unlike ranks they claim to share a scale, and this file tests that
claim. Repeated scans of a patient widen the standard errors (sandwich estimator, clusters are patients).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, xlogy
from scipy.stats import norm

from experiments.statistics.predictions import FloatArray, IntArray, Predictions, PredictionsError
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import Estimate, mean_interval

CLIP = 1e-6
"""Probabilities are held this far from 0 and 1 before a logarithm is taken, so that one scan cannot decide alone."""
TEMPERATURE_RANGE = (0.01, 100.0)


@dataclass(frozen=True)
class Coefficient:
    """A regression coefficient, its patient-cluster standard error and Wald interval."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationLine:
    """Logistic recalibration of the reference label on logit(p).

    Attributes:
        in_the_large: Intercept with the slope held at 1; 0 is right, below 0 means probabilities too high on average.
        intercept: Intercept when the slope is fitted as well.
        slope: 1 is right, below 1 means probabilities too extreme.
    """

    in_the_large: Coefficient
    intercept: Coefficient
    slope: Coefficient


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of the reliability curve: mean probability, observed share of label 1, scans and patients."""

    mean_p: float
    observed: float
    scans: int
    patients: int


def clipped_logit(p: npt.ArrayLike) -> FloatArray:
    """Log odds of probabilities, held within `CLIP` of 0 and 1."""
    return np.asarray(logit(np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)))


def brier_losses(pred: Predictions) -> FloatArray:
    """(n,) squared errors of the probabilities; their mean is the Brier score."""
    return np.asarray((pred.p - pred.y) ** 2)


def log_losses(pred: Predictions) -> FloatArray:
    """(n,) negative log likelihoods, in nats, of the probabilities held within `CLIP` of 0 and 1."""
    p = np.clip(pred.p, CLIP, 1 - CLIP)
    return np.asarray(-(xlogy(pred.y, p) + xlogy(1 - pred.y, 1 - p)))


def calibration_scores(pred: Predictions, weights: WeightArray, level: float = 0.95) -> dict[str, Estimate]:
    """Brier score ("brier") and log loss ("log_loss") with patient-cluster bootstrap intervals; lower is better."""
    losses = {"brier": brier_losses(pred), "log_loss": log_losses(pred)}
    return {name: mean_interval(pred, values, weights, level) for name, values in losses.items()}


def fit_temperature(y: npt.ArrayLike, p: npt.ArrayLike, soft: bool = True) -> float:
    """Temperature T that minimises the log loss of expit(logit(p) / T) on the tuning rows of one fold.

    Args:
        y: (n,) labels 0 or 1 of tuning rows.
        p: (n,) their probabilities.
        soft: Aim at (P + 1) / (P + 2) for the P positive rows and at 1 / (N + 2) for the N negative ones, in place of 1 and
            0. A tuning part is small: where it happens to be separated perfectly, hard targets ask for certainty.

    Returns:
        T within `TEMPERATURE_RANGE`; above 1 softens. The upper end means that the scores point the wrong way; the lower
        end, only met with hard targets, that the rows are separated perfectly.

    Raises:
        PredictionsError: If the rows hold one class only or an unusable probability.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017. The targets are those of Platt, Probabilistic
        outputs for support vector machines, Advances in Large Margin Classifiers 1999.
    """
    labels, odds = np.asarray(y, dtype=np.float64), clipped_logit(p)
    if labels.shape != odds.shape or not np.all(np.isfinite(odds)):
        raise PredictionsError(f"{labels.size} labels and {odds.size} probabilities; give one finite p for each label")
    if not np.all((labels == 0) | (labels == 1)) or np.unique(labels).size < 2:
        raise PredictionsError("the temperature needs tuning rows of both classes, labelled 0 and 1")
    positives, negatives = np.sum(labels), np.sum(1 - labels)
    aims = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2)) if soft else labels
    low, high = np.log(TEMPERATURE_RANGE)
    optimum = minimize_scalar(
        lambda scale: float(np.mean(np.logaddexp(0, odds * np.exp(-scale)) - aims * odds * np.exp(-scale))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(optimum.x))


def apply_temperature(pred: Predictions, temperatures: Mapping[int, float]) -> Predictions:
    """The same table with every probability softened by the temperature of its fold; decisions stay.

    Args:
        pred: Test rows.
        temperatures: Fold -> temperature from that fold's tuning rows.

    Raises:
        PredictionsError: If a fold has no temperature or one that is not positive.
    """
    for fold in np.unique(pred.fold):
        if not temperatures.get(int(fold), 0.0) > 0:
            raise PredictionsError(f"fold {fold} has temperature {temperatures.get(int(fold))}; give a positive number")
    scale = np.array([temperatures[int(fold)] for fold in pred.fold])
    return replace(pred, p=expit(clipped_logit(pred.p) / scale))


def calibration_line(pred: Predictions, level: float = 0.95) -> CalibrationLine:
    """Intercept and slope of the reference label on logit(p), with patient-cluster standard errors.

    Raises:
        PredictionsError: If all probabilities are equal, or separate the classes so that no finite line exists.

    References:
        Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Med 2019;17:230.
    """
    odds = clipped_logit(pred.p)
    if np.ptp(odds) == 0:
        raise PredictionsError(f"all probabilities are {pred.p[0]}; the calibration slope is undefined")
    ones = np.ones((odds.size, 1))
    large, large_error = cluster_logistic(ones, pred.y, pred.patient, offset=odds)
    both, errors = cluster_logistic(np.column_stack([ones, odds]), pred.y, pred.patient)
    reach = float(norm.ppf((1 + level) / 2))
    values = [(float(v), float(e)) for v, e in ((large[0], large_error[0]), *zip(both, errors, strict=True))]
    return CalibrationLine(*(Coefficient(v, e, v - reach * e, v + reach * e) for v, e in values))


def cluster_logistic(
    design: FloatArray, y: IntArray, clusters: npt.NDArray[Any], offset: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Logistic regression by Newton steps, with the cluster sandwich estimate of the standard errors.

    The sandwich carries the usual small-sample factor G/(G-1) x (n-1)/(n-k) for G clusters, n rows and k coefficients.

    Args:
        design: (n, k) columns, with a column of ones where an intercept is wanted.
        y: (n,) labels 0 or 1.
        clusters: (n,) cluster of each row.
        offset: (n,) added to the linear predictor, or None.

    Returns:
        Coefficients (k,) and standard errors (k,).

    Raises:
        PredictionsError: If the steps do not settle, as with perfectly separated classes.

    References:
        Liang and Zeger, Longitudinal data analysis using generalized linear models, Biometrika 1986;73:13-22.
    """
    base = np.zeros(y.size) if offset is None else offset
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        fitted = expit(base + design @ beta)
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        if not np.linalg.cond(information) < 1e12:
            break
        step = np.linalg.solve(information, design.T @ (y - fitted))
        beta = beta + step
        if np.max(np.abs(step)) < 1e-10:
            bread = np.asarray(np.linalg.inv(information), dtype=np.float64)
            return beta, _sandwich(design, y - fitted, bread, clusters)
    raise PredictionsError("the calibration line does not exist: the probabilities separate the classes perfectly")


def _sandwich(design: FloatArray, residual: FloatArray, bread: FloatArray, clusters: npt.NDArray[Any]) -> FloatArray:
    names, index = np.unique(clusters, return_inverse=True)
    if names.size < 2:
        raise PredictionsError("standard errors need scans of at least two patients")
    scores = np.zeros((names.size, design.shape[1]))
    np.add.at(scores, index, design * residual[:, None])
    rows, columns = design.shape
    factor = names.size / (names.size - 1) * (rows - 1) / (rows - columns)
    return np.asarray(np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * factor))


def reliability_curve(pred: Predictions, bins: int = 10) -> list[ReliabilityBin]:
    """Observed share of label 1 against the mean probability, in bins of nearly equal numbers of scans.

    Equal probabilities always share a bin, so heavy ties make fewer bins. With few scans a bin is noise: ten bins of
    380 scans have 38 each and a standard error of about 8 points.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is needed")
    edges = np.unique(np.quantile(pred.p, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, pred.p, side="left")
    out = []
    for number in np.unique(bin_of):
        rows = bin_of == number
        patients = int(np.unique(pred.patient[rows]).size)
        out.append(ReliabilityBin(float(pred.p[rows].mean()), float(pred.y[rows].mean()), int(rows.sum()), patients))
    return out


def expected_calibration_error(curve: list[ReliabilityBin]) -> float:
    """Mean gap between probability and observed share over the bins, weighted by scans; depends on the binning."""
    return sum(part.scans * abs(part.mean_p - part.observed) for part in curve) / sum(part.scans for part in curve)
