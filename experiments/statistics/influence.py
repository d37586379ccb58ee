"""The influence-curve interval of the cross-validated AUC, a check on the bootstrap without drawing."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from experiments.statistics.concordance import concordance
from experiments.statistics.predictions import Predictions, PredictionsError
from experiments.statistics.significance import Estimate


def cv_auc_interval(pred: Predictions, level: float = 0.95) -> tuple[Estimate, float]:
    """Cross-validated AUC (plain mean of the fold areas) with the influence-curve interval for clustered rows.

    Scan i of a fold contributes (share of the other class it is ordered rightly against - area of the fold), divided
    by the share of its own class in the whole table. Contributions are summed per patient. The variance is the mean of
    the folds' mean squared contributions, over the number of patients. Ties count 1/2, in the area and in the
    contributions, so that these sum to zero within a class. Without ties the R function `cvAUC::ci.pooled.cvAUC` gives
    the same to 1e-12; with ties it halves them in the area alone.

    Returns:
        The estimate (interval cut at 0 and 1) and its standard error.

    Raises:
        PredictionsError: If a fold holds one class only; its area is undefined and cannot enter the mean.

    References:
        LeDell, Petersen and van der Laan, Computationally efficient confidence intervals for cross-validated area under
        the ROC curve estimates, Electron J Stat 2015;9:1583-1607.
    """
    patients = pred.patients.size
    share = float(np.mean(pred.y))
    areas, variances = [], []
    for fold in np.unique(pred.fold):
        _, wins, pairs = concordance(pred, int(fold))
        total = float(pairs.sum())
        if total == 0:
            raise PredictionsError(f"fold {fold} holds one class only; its area is undefined, use fold_stratified_auc")
        rows = pred.fold == fold
        positives, negatives = float(np.sum(pred.y[rows])), float(np.sum(1 - pred.y[rows]))
        area = float(wins.sum()) / total
        own_positives, own_negatives = pairs.sum(axis=1) / negatives, pairs.sum(axis=0) / positives
        curve = (wins.sum(axis=1) / negatives - area * own_positives) / share
        curve += (wins.sum(axis=0) / positives - area * own_negatives) / (1 - share)
        curve *= patients / pred.y.size
        areas.append(area)
        variances.append(float(np.mean(curve**2)))
    value, error = float(np.mean(areas)), float(np.sqrt(np.mean(variances) / patients))
    reach = float(norm.ppf((1 + level) / 2)) * error
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach)), error
