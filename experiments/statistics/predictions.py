"""The table of test predictions that every statistic of this package starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from regions.errors import UserError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class PredictionsError(UserError):
    """A table of predictions that cannot be scored, or tables that cannot be compared."""


class PatientTable:
    """Test rows of one input and one seed, whatever is predicted: who was scanned, which fold's model, truth, prediction."""

    patient: npt.NDArray[Any]
    fold: IntArray
    y: npt.NDArray[Any]
    p: FloatArray
    session: npt.NDArray[Any] | None

    def _set_columns(self, columns: Mapping[str, npt.NDArray[Any] | None]) -> None:
        """Keep columns of one length, and refuse a patient in two folds."""
        y = np.asarray(columns["y"])
        for name, values in columns.items():
            if values is not None:
                if values.shape != y.shape or values.ndim != 1 or values.size == 0:
                    raise PredictionsError(f"column {name} has shape {values.shape}, column y has {y.size} scans")
                values.setflags(write=False)
            object.__setattr__(self, name, values)
        pairs = np.unique(np.stack([self.patient_index, self.fold]), axis=1)
        twice = np.flatnonzero(np.bincount(pairs[0]) > 1)
        if twice.size:
            name, folds = self.patients[twice[0]], pairs[1][pairs[0] == twice[0]].tolist()
            raise PredictionsError(f"patient {name} is in folds {folds}; a patient must be tested in one fold only")

    @cached_property
    def _patients(self) -> tuple[npt.NDArray[Any], IntArray]:
        names, index = np.unique(self.patient, return_inverse=True)
        return names, index.astype(np.int64)

    @property
    def patients(self) -> npt.NDArray[Any]:
        """(patients,) sorted names; the column order of every weight matrix."""
        return self._patients[0]

    @property
    def patient_index(self) -> IntArray:
        """(n,) position of each scan's patient in `patients`."""
        return self._patients[1]

    @cached_property
    def patient_fold(self) -> IntArray:
        """(patients,) fold of each patient."""
        fold = np.empty(self.patients.size, dtype=np.int64)
        fold[self.patient_index] = self.fold
        return fold

    def per_patient(self, values: npt.NDArray[Any]) -> FloatArray:
        """Sum a (n,) column over the scans of each patient: (patients,) float64."""
        return np.bincount(self.patient_index, weights=values, minlength=self.patients.size).astype(np.float64)

    @property
    def unit(self) -> float:
        """What is large among differences of predictions: 1, as probabilities have it."""
        return 1.0

    @property
    def is_positive(self) -> npt.NDArray[np.bool_]:
        """(patients,) by which draws are stratified within a fold; False for all where there are no classes."""
        return np.zeros(self.patients.size, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Predictions(PatientTable):
    """Test rows of one input and one seed: one row per scan, all folds below each other.

    Attributes:
        patient: (n,) codes or names. All scans of a patient share one.
        fold: (n,) int. The fold whose model scored the scan; zeros for an external cohort and one ensemble.
        y: (n,) reference label, 0 or 1.
        p: (n,) float64 probability of label 1, in [0, 1].
        decision: (n,) 0 or 1, taken at the fold's threshold.
        session: (n,) names, or None. Only used to check that two tables list the same scans.

    Raises:
        PredictionsError: If the arrays differ in length, are empty, hold other values than named above, hold one class
            only, or put a patient in two folds.
    """

    patient: npt.NDArray[Any]
    fold: IntArray
    y: IntArray
    p: FloatArray
    decision: IntArray
    session: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        y, fold, decision = (_whole(name, getattr(self, name)) for name in ("y", "fold", "decision"))
        p = np.array(self.p, dtype=np.float64)
        patient = np.array(self.patient)
        session = None if self.session is None else np.array(self.session)
        columns = {"patient": patient, "fold": fold, "y": y, "p": p, "decision": decision, "session": session}
        self._set_columns(columns)
        _check_values(y, p, decision)

    @property
    def is_positive(self) -> npt.NDArray[np.bool_]:
        """(patients,) whether at least half of a patient's scans are positive."""
        return self.per_patient(2 * self.y - 1) >= 0


def _whole(name: str, values: npt.ArrayLike) -> IntArray:
    raw = np.array(values)
    if raw.dtype == bool:
        return raw.astype(np.int64)
    if raw.dtype.kind not in "iuf" or not np.all(np.isfinite(raw)) or np.any(raw != np.round(raw)):
        raise PredictionsError(f"column {name} must hold whole numbers")
    return raw.astype(np.int64)


def _check_values(y: IntArray, p: FloatArray, decision: IntArray) -> None:
    for name, values in (("y", y), ("decision", decision)):
        wrong = values[(values != 0) & (values != 1)]
        if wrong.size:
            raise PredictionsError(f"column {name} holds {wrong[0]}; only 0 and 1 are allowed")
    wrong_p = p[~((p >= 0) & (p <= 1))]
    if wrong_p.size:
        raise PredictionsError(f"column p holds {wrong_p[0]}; probabilities must be finite and within 0 ... 1")
    if np.all(y == y[0]):
        raise PredictionsError(f"all {y.size} scans have label {y[0]}; scoring needs both classes")


def check_same_scans(inputs: Mapping[str, PatientTable]) -> None:
    """Refuse inputs that do not list the same scans in the same order, with the same folds and labels.

    Raises:
        PredictionsError: Naming the first input that differs, the column and the row.
    """
    names = list(inputs)
    for name in names[1:]:
        first, other = inputs[names[0]], inputs[name]
        if first.y.size != other.y.size:
            raise PredictionsError(f"{name} has {other.y.size} scans, {names[0]} has {first.y.size}")
        for column in ("patient", "session", "fold", "y"):
            a, b = getattr(first, column), getattr(other, column)
            if (a is None) != (b is None):
                raise PredictionsError(f"only one of {names[0]} and {name} has a {column} column; give it to both")
            differs = np.flatnonzero(a != b) if a is not None else np.empty(0, dtype=np.int64)
            if differs.size:
                row = differs[0]
                raise PredictionsError(f"row {row}: {column} is {a[row]} in {names[0]}, {b[row]} in {name}; sort both alike")
