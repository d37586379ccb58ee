"""From the outputs of a bundle's networks to what is said of each scan; arrays in, records out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from datamodules.quality.limits import HOLD_Z, LOOK_Z
from experiments.bundles.bundle import Bundle
from experiments.bundles.running import primary
from experiments.externals.freeze import calibrated
from experiments.predicting.records import ClassPrediction, NumberPrediction, Reason
from experiments.statistics.calibration import clipped_logit
from experiments.statistics.conformal import ConformalScores, calibrated_p, prediction_sets, set_name
from experiments.statistics.conformal_numbers import NumberScores, number_intervals
from experiments.statistics.predictions import FloatArray
from experiments.statistics.prior_shift import at_prevalence


@dataclass(frozen=True)
class Wanted:
    """How the answer is given: the level of sets and intervals, and the prevalence where the scans come from."""

    level: float = 0.9
    prevalence: float | None = None


def class_predictions(bundle: Bundle, raw: FloatArray, wanted: Wanted) -> list[ClassPrediction]:
    """What a bundle's networks say of scans.

    Args:
        bundle: Whose temperatures, threshold and conformal scores.
        raw: (scans, folds) probabilities as the networks give them.
        wanted: Level and prevalence.
    """
    folds = np.stack([calibrated(raw[:, k], model.temperature) for k, model in enumerate(bundle.models)], axis=1)
    means, log_means = primary(bundle, raw), expit(clipped_logit(folds).mean(axis=1))
    kept = ConformalScores.of(bundle.conformal)
    p, sets = calibrated_p(kept, raw), prediction_sets(kept, raw, wanted.level)
    now = wanted.prevalence
    shifted = [None] * len(raw) if now is None else at_prevalence(means, bundle.prevalence, now).tolist()
    return [
        ClassPrediction(
            probability=float(means[row]),
            probability_log_odds=float(log_means[row]),
            folds=tuple(folds[row].tolist()),
            sd=_sd(folds[row]),
            threshold=bundle.threshold,
            decision="positive" if means[row] >= bundle.threshold else "negative",
            label_set=set_name(sets[row]),
            p_negative=float(p[row, 0]),
            p_positive=float(p[row, 1]),
            at_prevalence=shifted[row],
        )
        for row in range(len(raw))
    ]


def number_predictions(bundle: Bundle, raw: FloatArray, wanted: Wanted) -> list[NumberPrediction]:
    """The same where a number is predicted; ``raw`` (scans, folds) numbers."""
    ends = number_intervals(NumberScores.of(bundle.conformal), raw, wanted.level)
    return [
        NumberPrediction(float(value), tuple(row.tolist()), _sd(row), float(low), float(high))
        for value, row, (low, high) in zip(primary(bundle, raw), raw, ends, strict=True)
    ]


def predictions(bundle: Bundle, raw: FloatArray, wanted: Wanted) -> list[Any]:
    """What a bundle says of scans, classes or numbers."""
    return (number_predictions if bundle.target.is_number else class_predictions)(bundle, raw, wanted)


def _sd(values: FloatArray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


def feature_reasons(z: float) -> tuple[Reason, ...]:
    """What a distance of features means; the limits are those of quality numbers."""
    if not z > LOOK_Z:
        return ()
    detail = f"features {z:.1f} robust SDs further out than the training cohort's unseen scans"
    return (Reason("refused" if z > HOLD_Z else "look", "the networks see a scan unlike those of the training cohort", detail),)
