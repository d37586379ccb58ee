"""Bootstrap draws of patients, made once for a study and used for every input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.statistics.predictions import IntArray, PatientTable

WeightArray = npt.NDArray[np.float64]


def draw_patient_weights(
    pred: PatientTable,
    draws: int,
    rng: np.random.Generator,
    strata: npt.NDArray[Any] | None = None,
    rescale: bool = True,
) -> WeightArray:
    """Draw patients with replacement inside each fold and patient label; all scans of a patient go together.

    A patient's label is positive when at least half of the scans are. A stratum of one patient could not vary, so it
    joins the other label of its fold. Where a number is predicted, the folds alone are strata.

    With `rescale`, n - 1 of the n patients of a stratum are drawn and weighted n / (n - 1). Plain draws of n
    understate the variance by the factor (n - 1) / n, a quarter for strata of four patients, as small cohorts in seven
    folds have them.

    Args:
        pred: Predictions of any input; only patients, folds and labels are used.
        draws: Number of bootstrap draws; 2,000 for a draft, 10,000 for a final table.
        rng: Source of randomness. The same seed gives the same weights.
        strata: (n,) values that replace the fold, for example the site of each scan of an external cohort.
        rescale: False for plain multiplicities 0, 1, 2 ...

    Returns:
        (draws, patients) float64; columns in the order of `pred.patients`.

    Raises:
        ValueError: If `draws` is below 1 or `strata` does not fit or divides a patient.

    References:
        Rao and Wu, Resampling inference with complex survey data, J Am Stat Assoc 1988;83:231-241.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least 1 is needed")
    weights = np.zeros((draws, pred.patients.size), dtype=np.float64)
    for members in _patient_strata(pred, strata):
        size = members.size
        drawn = size - 1 if rescale and size > 1 else size
        shares = np.full(size, 1 / size)
        weights[:, members] = rng.multinomial(drawn, shares, size=draws) * (size / drawn)
    return weights


def _patient_strata(pred: PatientTable, strata: npt.NDArray[Any] | None) -> Iterator[IntArray]:
    label = pred.is_positive
    block = pred.patient_fold
    if strata is not None:
        codes = np.unique(np.asarray(strata), return_inverse=True)[1]
        if codes.shape != pred.y.shape:
            raise ValueError(f"strata has shape {codes.shape}, expected one value for each of the {pred.y.size} scans")
        block = np.zeros(pred.patients.size, dtype=np.int64)
        block[pred.patient_index] = codes
        if np.any(block[pred.patient_index] != codes):
            raise ValueError("a patient's scans lie in two strata; strata must not divide a patient")
    for value in np.unique(block):
        parts = [np.flatnonzero((block == value) & (label == sign)) for sign in (False, True)]
        if min(part.size for part in parts) == 1:
            yield np.sort(np.concatenate(parts))
        else:
            yield from (part for part in parts if part.size)
