"""Probabilities at another prevalence than that of the training cohort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from experiments.statistics.calibration import clipped_logit
from experiments.statistics.predictions import FloatArray, PredictionsError


def at_prevalence(p: npt.ArrayLike, before: float, now: float) -> FloatArray:
    """Probabilities of class 1 that hold where class 1 has another prevalence, the scans of each class being alike.

    The odds are multiplied by ``now / (1 - now)`` over ``before / (1 - before)``, so that the order of scans stays.

    Args:
        p: Calibrated probabilities.
        before: Prevalence to which they belong.
        now: Prevalence where they are used.

    Raises:
        PredictionsError: if a prevalence is not between 0 and 1.

    References:
        Saerens, Latinne, Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities, Neural Comput
        2002;14:21-41, doi 10.1162/089976602753284446, equation 2.4.
    """
    for value in (before, now):
        if not 0 < value < 1:
            raise PredictionsError(f"prevalence is {value:g}; give a share between 0 and 1, for example 0.2")
    shift = logit(now) - logit(before)
    return np.asarray(expit(clipped_logit(p) + shift))
