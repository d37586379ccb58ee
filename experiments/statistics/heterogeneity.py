"""Do sites differ by more than chance? A random-effects summary of one score in several sites.

AUCs are summarised as log odds with the standard error se / (AUC (1 - AUC)) (Snell, Ensor, Debray, Moons and Riley,
Stat Methods Med Res 2018;27:3505), the variance between sites is that of DerSimonian and Laird (Control Clin Trials
1986;7:177), I2 that of Higgins and Thompson (Stat Med 2002;21:1539). The mean's interval is that of Hartung and Knapp (Stat Med
2001;20:3875), t with k - 1 degrees of freedom and a scale of at least 1; the prediction interval, in which the true score of a
further site would lie, that of Higgins, Thompson and Spiegelhalter (J R Stat Soc A 2009;172:137), t with k - 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import chi2, t

LEAST_SITES = 3
"""Sites from which on a prediction interval exists."""


@dataclass(frozen=True)
class Heterogeneity:
    """A score over sites.

    Attributes:
        sites: Sites with a value and a standard error.
        mean: Random-effects mean.
        low: End of its 95 % interval.
        high: The other.
        tau2: Variance between sites.
        i2: Share of the variation between the values that is not chance, 0 to 1.
        q: Cochran's Q.
        p: Of Q, against equal sites.
        predicted_low: End of the 95 % prediction interval; None with fewer than ``LEAST_SITES`` sites.
        predicted_high: The other.
    """

    sites: int
    mean: float
    low: float
    high: float
    tau2: float
    i2: float
    q: float
    p: float
    predicted_low: float | None
    predicted_high: float | None


def heterogeneity(values: Sequence[float], errors: Sequence[float]) -> Heterogeneity:
    """Summarise values of sites on their own scale.

    Args:
        values: (k,) one for each site.
        errors: (k,) their standard errors, above 0.

    Raises:
        ValueError: with fewer than two sites, or an error that is not above 0.
    """
    y, variance = np.asarray(values, dtype=np.float64), np.square(np.asarray(errors, dtype=np.float64))
    k = y.size
    if k < 2 or not np.all(variance > 0):
        raise ValueError(f"{k} sites with errors {list(errors)}; two or more sites with errors above 0 are needed")
    fixed = 1 / variance
    q = float(np.sum(fixed * np.square(y - np.average(y, weights=fixed))))
    tau2 = max(0.0, (q - (k - 1)) / float(fixed.sum() - np.square(fixed).sum() / fixed.sum()))
    weights = 1 / (variance + tau2)
    mean, error = float(np.average(y, weights=weights)), float(weights.sum() ** -0.5)
    scatter = max(1.0, float(np.sum(weights * np.square(y - mean))) / (k - 1))
    reach = float(t.ppf(0.975, k - 1)) * error * scatter**0.5
    spread = float(t.ppf(0.975, k - 2)) * (tau2 + error**2) ** 0.5 if k >= LEAST_SITES else None
    return Heterogeneity(
        sites=k,
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        tau2=tau2,
        i2=max(0.0, (q - (k - 1)) / q) if q else 0.0,
        q=q,
        p=float(chi2.sf(q, k - 1)),
        predicted_low=None if spread is None else mean - spread,
        predicted_high=None if spread is None else mean + spread,
    )


def of_areas(areas: Sequence[float], errors: Sequence[float]) -> Heterogeneity:
    """The same of AUCs within (0, 1), summarised as log odds; mean and intervals are AUCs again, ``tau2`` is of log odds."""
    areas_, errors_ = np.asarray(areas, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    odds = heterogeneity(logit(areas_).tolist(), (errors_ / (areas_ * (1 - areas_))).tolist())
    ends = ("mean", "low", "high", "predicted_low", "predicted_high")
    back = {name: None if getattr(odds, name) is None else float(expit(getattr(odds, name))) for name in ends}
    return Heterogeneity(**{**odds.__dict__, **back})
