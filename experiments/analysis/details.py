"""What a comparison says beyond its headline: pooled AUC, thresholds, calibration, utility, seeds.

Every part is a plain mapping that goes into comparison.json as it is. Several seeds enter as their mean (scores) or with their
rows below each other (calibration, utility; the patient stays the cluster).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.analysis.pooling import Pooled, Tables
from experiments.statistics.calibration import (
    apply_temperature,
    calibration_line,
    calibration_scores,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
)
from experiments.statistics.chance import against_chance, widened
from experiments.statistics.constant import has_few_patients, is_silent
from experiments.statistics.influence import cv_auc_interval
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import corrected_t
from experiments.statistics.predictions import FloatArray, Predictions, PredictionsError
from experiments.statistics.resampling import WeightArray
from experiments.statistics.scores import fold_stratified_auc, fold_summary, mean_or_none, point_values, pooled_auc
from experiments.statistics.seeds import seed_report
from experiments.statistics.significance import METRICS, Estimate, family_values, summarise
from experiments.statistics.smooth import integrated_calibration_index, smooth_calibration
from experiments.statistics.utility import decision_curve

ACTS = np.round(np.arange(0.05, 0.951, 0.05), 2)
"""Threshold probabilities of the decision curve."""
SMOOTH_AT = 41


def details(
    tables: Tables,
    weights: WeightArray,
    paired: Sequence[Paired],
    ratio: float,
    estimates: Mapping[str, Mapping[str, Estimate]],
) -> dict[str, Any]:
    """All parts for all inputs and baselines.

    Args:
        tables: Input or baseline -> one table for each seed.
        weights: (draws, patients), those of the headline.
        paired: The primary family, whose pairs get the corrected t test.
        ratio: Size of a test part over that of the training parts.
        estimates: Input or baseline -> metric -> estimate of the headline.
    """
    return {
        "chance": {name: chance_details(metrics["auc"], tables[name]) for name, metrics in estimates.items()},
        "fold_values": {name: _fold_values([pooled.test for pooled in by_seed]) for name, by_seed in tables.items()},
        "auc": {name: auc_details([pooled.test for pooled in by_seed]) for name, by_seed in tables.items()},
        "thresholds": threshold_details(tables, weights),
        "corrected_t": [row for pair in paired if (row := corrected_row(tables, pair, ratio)) is not None],
        "calibration": {name: calibration_details(by_seed, weights) for name, by_seed in tables.items()},
        "utility": utility_details(tables),
        "seeds": seed_details(tables),
    }


def _fold_values(tests: Sequence[Predictions]) -> dict[str, list[float | None]]:
    return {metric: list(summary.values.values()) for metric, summary in fold_summary(*tests).items()}


def chance_details(auc: Estimate, by_seed: Sequence[Pooled]) -> dict[str, Any]:
    """The AUC's interval widened for overlapping training parts, and what it says of chance."""
    wide, tests = widened(auc), [pooled.test for pooled in by_seed]
    return {
        "auc_low": wide.low,
        "auc_high": wide.high,
        "words": against_chance(auc, is_silent(tests, "auc"), has_few_patients(tests)),
    }


def auc_details(tests: Sequence[Predictions]) -> dict[str, float | None]:
    """Fold-stratified and pooled AUC, their gap, and the influence-curve interval of the mean fold AUC as a check.

    With several seeds all values are means; the mean of the standard errors is an upper bound of the mean's own.
    """
    within = mean_or_none([fold_stratified_auc(test) for test in tests])
    pooled = mean_or_none([pooled_auc(test) for test in tests])
    out = {
        "auc": within,
        "pooled_auc": pooled,
        "gap": None if within is None or pooled is None else pooled - within,
        **dict.fromkeys(("cv_auc", "cv_auc_low", "cv_auc_high", "cv_auc_error")),
    }
    if any(len(set(tests[0].y[tests[0].fold == fold])) < 2 for fold in np.unique(tests[0].fold)):
        return out
    checks = [cv_auc_interval(test) for test in tests]
    value, error = (float(np.mean(part)) for part in zip(*((interval.value, error) for interval, error in checks), strict=True))
    if error == 0:  # every positive scan above every negative one, or nothing but ties
        return out | {"cv_auc": value}
    low, high = max(0.0, value - 1.959963984540054 * error), min(1.0, value + 1.959963984540054 * error)
    return out | {"cv_auc": value, "cv_auc_low": low, "cv_auc_high": high, "cv_auc_error": error}


def threshold_details(tables: Tables, weights: WeightArray) -> dict[str, Any]:
    """For each input: thresholds of the folds and their spread, and what deciding at 0.5 gives."""
    halves = {name: [pooled.at_half() for pooled in by_seed] for name, by_seed in tables.items()}
    drawn = family_values(halves, weights)
    return {
        name: _spread(by_seed) | {"at_half": _rates(summarise(halves[name], weights, values=drawn[name]))}
        for name, by_seed in tables.items()
    }


def _rates(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {metric: asdict(estimates[metric]) for metric in METRICS if metric != "auc"}


def _spread(by_seed: Sequence[Pooled]) -> dict[str, Any]:
    values = np.array([list(pooled.thresholds.values()) for pooled in by_seed])
    return {
        "values": {str(fold): values[:, column].tolist() for column, fold in enumerate(by_seed[0].thresholds)},
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if values.size > 1 else None,
        "lowest": float(values.min()),
        "highest": float(values.max()),
    }


def corrected_row(tables: Tables, pair: Paired, ratio: float) -> dict[str, Any] | None:
    """The corrected t test of a pair on its fold differences, or None where it is undefined."""
    a, b = (fold_summary(*(pooled.test for pooled in tables[name]))[pair.metric].values for name in (pair.first, pair.second))
    gaps = [x - y for x, y in zip(a.values(), b.values(), strict=True) if x is not None and y is not None]
    if len(gaps) < 2 or np.ptp(gaps) == 0:
        return None
    corrected = corrected_t(gaps, ratio)
    return {"first": pair.first, "second": pair.second, "metric": pair.metric, **asdict(corrected)}


def temperatures(pooled: Pooled) -> dict[int, float | None]:
    """Fold -> temperature from its tuning rows; None where these hold one class only."""
    return {fold: fit_temperature(y, p) if np.unique(y).size == 2 else None for fold, (y, p) in pooled.tuning.items()}


def calibrated(pooled: Pooled, temperature_of: Mapping[int, float | None]) -> Predictions:
    """The test rows with each fold's temperature; a fold without one stays as it is."""
    return apply_temperature(pooled.test, {fold: value or 1.0 for fold, value in temperature_of.items()})


def calibration_details(by_seed: Sequence[Pooled], weights: WeightArray) -> dict[str, Any]:
    """Temperatures, and the calibration of the test probabilities before and after them."""
    fitted = [temperatures(pooled) for pooled in by_seed]
    after = [calibrated(pooled, values) for pooled, values in zip(by_seed, fitted, strict=True)]
    return {
        "temperatures": {str(fold): [values[fold] for values in fitted] for fold in fitted[0]},
        "before": _calibration(stacked([pooled.test for pooled in by_seed]), weights),
        "after": _calibration(stacked(after), weights),
    }


def stacked(tests: Sequence[Predictions]) -> Predictions:
    """Rows of several seeds below each other."""
    if len(tests) == 1:
        return tests[0]
    names = ("patient", "fold", "y", "p", "decision")
    return Predictions(**{name: np.concatenate([getattr(test, name) for test in tests]) for name in names})


def _calibration(pred: Predictions, weights: WeightArray) -> dict[str, Any]:
    curve = reliability_curve(pred)
    scores = calibration_scores(pred, weights)
    line, why = _line(pred)
    varied = np.ptp(pred.p) > 0
    at: FloatArray = np.asarray(np.quantile(pred.p, np.linspace(0, 1, SMOOTH_AT)), dtype=np.float64)
    return {
        "brier": asdict(scores["brier"]),
        "log_loss": asdict(scores["log_loss"]),
        "line": line,
        "line_undefined": why,
        "ece": expected_calibration_error(curve),
        "ici": integrated_calibration_index(pred) if varied else None,
        "reliability": [asdict(point) for point in curve],
        "smooth": {"p": at.tolist(), "observed": smooth_calibration(pred, at).tolist()} if varied else None,
    }


def _line(pred: Predictions) -> tuple[dict[str, Any] | None, str]:
    try:
        return asdict(calibration_line(pred)), ""
    except PredictionsError as error:  # a constant or perfectly separating score has no line, which is a result
        return None, str(error)


def utility_details(tables: Tables) -> dict[str, Any]:
    """Net benefit of acting on the calibrated probabilities."""
    thresholds = [float(value) for value in ACTS]
    curves = {
        name: decision_curve(stacked([calibrated(pooled, temperatures(pooled)) for pooled in by_seed]), thresholds)
        for name, by_seed in tables.items()
    }
    treat_all = [point.treat_all for point in next(iter(curves.values()))]
    inputs = {name: [point.model for point in curve] for name, curve in curves.items()}
    return {"thresholds": thresholds, "treat_all": treat_all, "treat_none": [0.0] * len(thresholds), "inputs": inputs}


def seed_details(tables: Tables) -> dict[str, Any] | None:
    """Spread and rank order over seeds of the networks; None with one seed. Baselines have no seed and stay out."""
    several = {name: tests for name, tests in tables.items() if len(tests) > 1}
    if not several:
        return None
    out: dict[str, Any] = {}
    for metric in ("balanced_accuracy", "auc"):
        values = {name: [point_values(pooled.test)[metric] for pooled in tests] for name, tests in several.items()}
        defined = {name: [value for value in row if value is not None] for name, row in values.items()}
        if all(len(row) == len(values[name]) for name, row in defined.items()):
            out[metric] = asdict(seed_report(defined)) | {"values": values}
    return out
