"""Predicted numbers: the table of a number or an ordinal step for each scan, its scores, and their values under draws.

Both kinds predict one real number: the value itself, or the expected step (the number of cuts that the value reaches). All
scores are pooled over folds with each scan counted once, but those that rank scans, which compare scans of one fold only:
models of different folds have scales of their own. Spearman's correlation is the mean of the folds', weighted by their scans,
as the area within folds is that of the folds' areas; a fold of equal predictions counts as 0, one of equal values not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.statistics.constant import LEAST_PATIENTS
from experiments.statistics.predictions import FloatArray, IntArray, PatientTable, Predictions, PredictionsError
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import CHUNK, bootstrap_values

METRICS = ("mae", "rmse", "r2", "spearman", "intercept", "slope")
"""Scores of every predicted number; an ordinal target has ``kappa`` and ``auc_1`` ... beside them."""
IN_UNITS = ("mae", "rmse", "intercept")
"""Those in the unit of the values; the others have none."""
TITLES = {
    "mae": "MAE", "rmse": "RMSE", "r2": "R2", "spearman": "Spearman", "intercept": "calibration intercept",
    "slope": "calibration slope", "kappa": "quadratic kappa",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Numbers(PatientTable):
    """Test rows of one input and one seed, all folds below each other, where a number is predicted.

    Attributes:
        patient: (n,) codes or names. All scans of a patient share one.
        fold: (n,) int. The fold whose model scored the scan; zeros for an external cohort and one ensemble.
        y: (n,) float64 values, or steps 0 ... steps.
        p: (n,) float64 predicted value, or expected step.
        mean: (n,) float64 mean of y in the training part of the scan's fold: what R2 compares with.
        session: (n,) names, or None. Only used to check that two tables list the same scans.
        steps: Highest step of an ordinal target; 0 for a number.

    Raises:
        PredictionsError: If the arrays differ in length, are empty, hold values that are not finite or steps that do not
            exist, hold one value of y only, or put a patient in two folds.
    """

    patient: npt.NDArray[Any]
    fold: IntArray
    y: FloatArray
    p: FloatArray
    mean: FloatArray
    session: npt.NDArray[Any] | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        numbers = {name: np.array(getattr(self, name), dtype=np.float64) for name in ("y", "p", "mean")}
        session = None if self.session is None else np.array(self.session)
        fold = np.array(self.fold, dtype=np.int64)
        self._set_columns({"patient": np.array(self.patient), "fold": fold, **numbers, "session": session})
        for name, values in numbers.items():
            if not np.isfinite(values).all():
                raise PredictionsError(f"column {name} holds {values[~np.isfinite(values)][0]}; numbers must be finite")
        y = numbers["y"]
        if self.steps and (np.any(y != np.round(y)) or y.min() < 0 or y.max() > self.steps):
            raise PredictionsError(f"column y holds other values than the steps 0 to {self.steps}")
        if np.ptp(y) == 0:
            raise PredictionsError(f"all {y.size} scans have the value {y[0]:g}; scoring needs different ones")

    @property
    def unit(self) -> float:
        """The range of the values, whose scale is the user's."""
        return float(np.ptp(self.y))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores."""
        return METRICS if not self.steps else (*METRICS, "kappa", *(f"auc_{step}" for step in range(1, self.steps + 1)))

    @property
    def rounded(self) -> FloatArray:
        """(n,) the predicted step, rounded."""
        return np.clip(np.floor(self.p + 0.5), 0, self.steps)

    def at(self, step: int) -> Predictions | None:
        """Whether each scan reaches a step, and the prediction as a score of it; None where all or none do."""
        reached = (self.y >= step).astype(np.int64)
        if np.ptp(reached) == 0:
            return None
        p = np.clip(self.p / self.steps, 0, 1)
        return Predictions(self.patient, self.fold, reached, p, (self.p >= step - 0.5).astype(np.int64), self.session)

    def part(self, rows: npt.NDArray[Any]) -> Numbers:
        """Some of the rows."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("patient", "fold", "y", "p", "mean")}
        return Numbers(**columns, session=None if self.session is None else self.session[rows], steps=self.steps)


def title_of(metric: str) -> str:
    """What a table calls a score."""
    return TITLES.get(metric) or f"AUC, step {metric.removeprefix('auc_')} or more"


def decimals(size: float) -> int:
    """Digits after the point that a number of such a size is shown with: 2, and more where two of its figures need more."""
    return max(2, 1 - floor(log10(size))) if size > 0 else 2


def shown_digits(errors: Iterable[float | None]) -> dict[str, int]:
    """Metric -> digits after the point, of those in the unit of the values; from the mean absolute errors shown together."""
    return dict.fromkeys(IN_UNITS, decimals(min((error for error in errors if error), default=1.0)))


def has_few(table: Numbers) -> bool:
    """Whether there are too few patients for a verdict: as many as two classes need."""
    return table.patients.size < 2 * LEAST_PATIENTS


def point_scores(table: Numbers) -> dict[str, float | None]:
    """Metric -> value, None where it is undefined."""
    values = drawn_scores(table, np.ones((1, table.patients.size)))
    return {metric: None if np.isnan(column[0]) else float(column[0]) for metric, column in values.items()}


def fold_scores(tables: Sequence[Numbers]) -> dict[str, dict[int, float | None]]:
    """Metric -> fold -> value, the mean over seeds; None where it is undefined in one."""
    out: dict[str, dict[int, float | None]] = {metric: {} for metric in tables[0].metrics}
    for fold in np.unique(tables[0].fold).tolist():
        parts = [_point_or_none(table, table.fold == fold) for table in tables]
        for metric, by_fold in out.items():
            values = [part[metric] for part in parts]
            defined = [value for value in values if value is not None]
            by_fold[fold] = float(np.mean(defined)) if len(defined) == len(values) else None
    return out


def _point_or_none(table: Numbers, rows: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    if np.ptp(table.y[rows]) == 0:
        return dict.fromkeys(table.metrics)
    return point_scores(table.part(rows))


def drawn_scores(table: Numbers, weights: WeightArray) -> dict[str, FloatArray]:
    """Every score under each row of weights.

    Args:
        table: Predictions of one input.
        weights: (draws, patients) from `draw_patient_weights`.

    Returns:
        Metric -> (draws,) float64; NaN where a draw leaves it undefined.

    Raises:
        ValueError: If the weights do not have one column per patient.
    """
    if weights.ndim != 2 or weights.shape[1] != table.patients.size:
        raise ValueError(f"weights have shape {weights.shape}, expected (draws, {table.patients.size} patients)")
    with np.errstate(invalid="ignore", divide="ignore"):
        out = _moment_scores(table, weights)
        out["spearman"] = np.concatenate(
            [_spearman(table, weights[start : start + CHUNK]) for start in range(0, len(weights), CHUNK)]
        )
    for step in range(1, table.steps + 1):
        at = table.at(step)
        out[f"auc_{step}"] = np.full(len(weights), np.nan) if at is None else bootstrap_values(at, weights)["auc"]
    return {metric: out[metric] for metric in table.metrics}


def _moment_scores(table: Numbers, weights: WeightArray) -> dict[str, FloatArray]:
    """Scores that are functions of sums over scans."""
    centre = float(table.y.mean())
    y, p, step = table.y - centre, table.p - centre, table.rounded - centre
    error = p - y
    columns = [np.ones_like(y), np.abs(error), error**2, (table.y - table.mean) ** 2, y, p, p * p, y * p, y * y, step]
    columns += [step * step, (step - y) ** 2]
    sums = weights @ np.stack([table.per_patient(column) for column in columns], axis=1)
    n, absolute, square, around, sy, sp, spp, syp, syy, ss, sss, off = sums.T
    spread = n * spp - sp**2
    slope = np.where(spread > 1e-12 * n * spp, (n * syp - sy * sp) / spread, np.nan)
    out = {
        "mae": absolute / n,
        "rmse": np.sqrt(square / n),
        "r2": 1 - square / around,
        "slope": slope,
        "intercept": (sy - slope * sp) / n + centre * (1 - slope),
    }
    if table.steps:
        # by chance: mean square of the difference of a true and a rounded step that are drawn apart
        out["kappa"] = 1 - (off / n) / (syy / n + sss / n - 2 * sy * ss / n**2)
    return out


def _spearman(table: Numbers, weights: WeightArray) -> FloatArray:
    """(draws,) correlation of weighted midranks within each fold, the mean weighted by scans."""
    total, scans = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(table.fold):
        rows = table.fold == fold
        w = weights[:, table.patient_index[rows]]
        n = w.sum(axis=1)
        a, b = (_ranks(column[rows], w) for column in (table.y, table.p))
        vary, varp, cov = ((w * pair).sum(axis=1) for pair in (a * a, b * b, a * b))
        known = vary > 0
        total += np.where(known & (varp > 0), cov / np.sqrt(vary * varp), 0.0) * n * known
        scans += n * known
    return np.asarray(total / scans)


def _ranks(values: FloatArray, w: FloatArray) -> FloatArray:
    """(draws, n) midranks of scans that count w times, minus their mean; exactly 0 where all are equal."""
    below = (values[:, None] < values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    centred = below - 0.5
    return np.asarray(w @ centred)
