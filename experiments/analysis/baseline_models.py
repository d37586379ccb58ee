"""Logistic regression on a few numbers of each scan, fitted exactly as honestly as the networks.

Fitted on the training part alone, imputation and scaling included; the penalty comes from the tuning part, and the
threshold from the study's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from lightning_modules.decision import Decision, choose_threshold

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths C of the ridge penalty; the one with the lowest log loss on the tuning part is taken."""
ALPHAS = (1.0, 10.0, 100.0, 1000.0)
"""Strengths of the ridge penalty where a number is predicted; the one with the lowest tuning error is taken."""
CLIP = 1e-6
Rows = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """What a baseline sees of each scan.

    Attributes:
        names: Features.
        values: (scans, features) float64, NaN where missing.
        classes: Features with two values, whose missing values take the commonest one; others take the median.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    classes: tuple[str, ...] = ()

    def missing(self) -> dict[str, int]:
        """Feature -> scans without it, for features that some scans lack."""
        counts = np.isnan(self.values).sum(axis=0).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}


@dataclass(frozen=True)
class BaselineFit:
    """One fold of one baseline.

    Attributes:
        p: (scans,) probability of label 1 of every scan, also of those it was fitted on.
        threshold: Where the study's rule puts it.
        penalty: Chosen inverse strength C, or None without features.
        tuning_log_loss: Log loss on the tuning part, in nats.
        intercept: Log odds at the training part's means.
        coefficients: Feature -> log odds for one SD of the training part; missing-value indicators included.
    """

    p: npt.NDArray[np.float64]
    threshold: float
    penalty: float | None
    tuning_log_loss: float
    intercept: float
    coefficients: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """As it stands in run.json and baselines.json."""
        return {
            "threshold": self.threshold,
            "C": self.penalty,
            "tuning_log_loss": self.tuning_log_loss,
            "intercept": self.intercept,
            "coefficients": dict(self.coefficients),
        }


def fit_baseline(design: Design, y: npt.NDArray[np.int64], train: Rows, tuning: Rows, decision: Decision) -> BaselineFit:
    """Fit one fold.

    Missing values take the median (classes: the commonest value) of the training part, and a feature with missing values there
    gets an indicator of them. A design without features predicts the prevalence of the training part.

    Args:
        design: What is seen of each scan.
        y: (scans,) labels.
        train: Rows to fit on.
        tuning: Rows that choose the penalty, and the threshold unless that is the prevalence.
        decision: The threshold's rule.
    """
    share = float(np.mean(y[train]))
    if not design.names:
        p = np.full(y.size, share)
        loss, odds = _log_loss(y[tuning], p[tuning]), float(np.log(share / (1 - share)))
        return BaselineFit(p, choose_threshold(decision, y[tuning], p[tuning], share), None, loss, odds, {})
    filled = _filled(design).fit(design.values[train])
    fit, weights = best_ridge([filled.transform(design.values)], PENALTIES, y, train, tuning, decision)
    names = filled.get_feature_names_out(np.array(design.names, dtype=object))
    return replace(fit, coefficients=dict(zip(names.tolist(), weights.tolist(), strict=True)))


def best_ridge(
    views: Sequence[npt.NDArray[np.float64]],
    penalties: Sequence[float],
    y: npt.NDArray[np.int64],
    train: Rows,
    tuning: Rows,
    decision: Decision,
    **options: Any,
) -> tuple[BaselineFit, npt.NDArray[np.float64]]:
    """Logistic ridge regressions on the training part; view and penalty with the lowest log loss on the tuning part.

    Args:
        views: What may be seen of each scan, each (scans, features); scaled already.
        penalties: Inverse strengths C.
        y: (scans,) labels.
        train: Rows to fit on.
        tuning: Rows that choose view and penalty, and the threshold unless that is the prevalence.
        decision: The threshold's rule.
        options: Of scikit-learn's ``LogisticRegression``.

    Returns:
        The fit, without coefficients, and the weights (features of the chosen view,).
    """
    from sklearn.linear_model import LogisticRegression

    fits = []
    for seen in views:
        for penalty in penalties:
            model = LogisticRegression(**{"C": penalty, "max_iter": 1000, **options}).fit(seen[train], y[train])
            p = model.predict_proba(seen)[:, 1]
            fits.append((_log_loss(y[tuning], p[tuning]), penalty, model, p))
    loss, penalty, model, p = min(fits, key=lambda fit: fit[0])
    threshold = choose_threshold(decision, y[tuning], p[tuning], float(np.mean(y[train])))
    return BaselineFit(p, threshold, penalty, loss, float(model.intercept_[0]), {}), model.coef_[0]


@dataclass(frozen=True)
class NumberFit:
    """One fold of one baseline that predicts a number.

    Attributes:
        p: (scans,) predicted value or expected step of every scan, also of those it was fitted on.
        steps: Highest step of an ordinal target; 0 for a value.
        mean: Mean of the training part.
        penalty: Chosen strength, or None without features.
        tuning_mse: Mean squared error on the tuning part.
        coefficients: Feature -> change of the number for one SD of the training part; missing-value indicators included.
        features: Of a linear reader, features that are not constant in the training part.
        components: Of a linear reader, principal components that the tuning part chose.
    """

    p: npt.NDArray[np.float64]
    steps: int
    mean: float
    penalty: float | None
    tuning_mse: float
    coefficients: Mapping[str, float]
    features: int = 0
    components: int = 0

    def facts(self) -> dict[str, Any]:
        """As it stands in run.json and baselines.json."""
        facts = {"scale": {"steps": self.steps, "mean": self.mean}, "alpha": self.penalty, "tuning_mse": self.tuning_mse}
        if self.features:
            return facts | {"features": self.features, "components": self.components}
        return facts | {"coefficients": dict(self.coefficients)}


def fit_number(design: Design, y: npt.NDArray[np.float64], train: Rows, tuning: Rows, steps: int) -> NumberFit:
    """Fit one fold of a ridge regression, filled and scaled as ``fit_baseline`` does; without features it is the mean.

    Args:
        design: What is seen of each scan.
        y: (scans,) values or steps.
        train: Rows to fit on.
        tuning: Rows that choose the penalty.
        steps: Highest step, which no prediction passes; 0 for a value.
    """
    if not design.names:
        p = np.full(y.size, float(np.mean(y[train])))
        return NumberFit(p, steps, float(p[0]), None, float(np.mean((y[tuning] - p[tuning]) ** 2)), {})
    filled = _filled(design).fit(design.values[train])
    fit, weights = best_number_ridge([filled.transform(design.values)], ALPHAS, y, train, tuning, steps)
    names = filled.get_feature_names_out(np.array(design.names, dtype=object))
    return replace(fit, coefficients=dict(zip(names.tolist(), weights.tolist(), strict=True)))


def best_number_ridge(
    views: Sequence[npt.NDArray[np.float64]],
    alphas: Sequence[float],
    y: npt.NDArray[np.float64],
    train: Rows,
    tuning: Rows,
    steps: int,
) -> tuple[NumberFit, npt.NDArray[np.float64]]:
    """Ridge regressions on the training part; view and penalty with the lowest squared error on the tuning part.

    Args:
        views: What may be seen of each scan, each (scans, features); scaled already.
        alphas: Strengths of the penalty.
        y: (scans,) values or steps.
        train: Rows to fit on.
        tuning: Rows that choose view and penalty.
        steps: Highest step, which no prediction passes; 0 for a value.

    Returns:
        The fit, without coefficients, and the weights (features of the chosen view,).
    """
    from sklearn.linear_model import Ridge

    fits = []
    for seen in views:
        for alpha in alphas:
            model = Ridge(alpha=alpha).fit(seen[train], y[train])
            p = model.predict(seen)
            p = np.clip(p, 0, steps) if steps else p
            fits.append((float(np.mean((y[tuning] - p[tuning]) ** 2)), alpha, model, p))
    error, alpha, model, p = min(fits, key=lambda fit: fit[0])
    return NumberFit(p, steps, float(np.mean(y[train])), alpha, error, {}), model.coef_


def _filled(design: Design) -> Any:
    """Imputation, indicators of missing values, and scaling; to be fitted on the training part."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns: dict[bool, list[int]] = {True: [], False: []}
    for column, name in enumerate(design.names):
        columns[name in design.classes].append(column)
    parts = [
        (kind, SimpleImputer(strategy=strategy, add_indicator=True, keep_empty_features=True), columns[two_valued])
        for kind, strategy, two_valued in (("number", "median", False), ("class", "most_frequent", True))
        if columns[two_valued]
    ]
    return make_pipeline(ColumnTransformer(parts, verbose_feature_names_out=False), StandardScaler())


def _log_loss(y: npt.NDArray[np.int64], p: npt.NDArray[np.float64]) -> float:
    held = np.clip(p, CLIP, 1 - CLIP)
    return float(-np.mean(xlogy(y, held) + xlogy(1 - y, 1 - held)))
