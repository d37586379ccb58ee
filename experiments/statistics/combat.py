"""ComBat: sites brought to a common location and scale by empirical Bayes; fitted on some scans, used on all.

After Johnson, Li and Rabinovic (Biostatistics 2007;8:118) as Fortin et al. (NeuroImage 2018;167:104) use it for imaging:
value = grand mean + covariates + location of the site + scale of the site x error; locations and scales of a site are shrunk
towards their means over the features. The label never enters.

A site that was not in the fit has no such parameters. Its own location and scale are then estimated in the same way from its
own scans, without labels, against the grand mean, covariates and variance of the fit; so its scans lend one another a zero
point. Sites with fewer than ``LEAST_SCANS`` scans, in the fit or later, and scans without a site keep location 0 and scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Sites = npt.NDArray[np.str_]

LEAST_SCANS = 5
"""Scans of a site from which its location and scale are estimated."""
CLOSE = 1e-4
"""Relative change at which the iteration for a site ends, as in neuroCombat."""


@dataclass(frozen=True)
class Combat:
    """A fit.

    Attributes:
        mean: (features,) grand mean.
        spread: (features,) pooled standard deviation of what site and covariates leave; 0 for a constant feature.
        slopes: (covariates, features).
        sites: Site -> (features,) location and scale in units of ``spread``.
    """

    mean: FloatArray
    spread: FloatArray
    slopes: FloatArray
    sites: Mapping[str, tuple[FloatArray, FloatArray]]

    def expected(self, covariates: FloatArray) -> FloatArray:
        """(scans, features) what is expected of each scan at the common location."""
        return self.mean + covariates @ self.slopes

    def apply(self, values: FloatArray, site: Sites, covariates: FloatArray) -> FloatArray:
        """(scans, features) values without what belongs to their site; constant features stay as they are.

        Args:
            values: (scans, features), finite.
            site: (scans,) names, empty where unknown.
            covariates: (scans, covariates), finite.
        """
        expected, out = self.expected(covariates), values.copy()
        varies = self.spread > 0
        errors = np.divide(values - expected, self.spread, out=np.zeros_like(values), where=varies)
        for name in np.unique(site):
            rows = np.flatnonzero(site == name)
            location, scale = self.sites.get(str(name)) or _estimated(errors[rows][:, varies], bool(name), varies)
            level = (errors[rows] - location) / scale * self.spread + expected[rows]
            out[np.ix_(rows, varies)] = level[:, varies]
        return out


def fit_combat(values: FloatArray, site: Sites, covariates: FloatArray) -> Combat:
    """Fit on scans of one or more sites.

    Args:
        values: (scans, features), finite.
        site: (scans,) names, empty where unknown; scans of no or a small site count as of one common site.
        covariates: (scans, covariates), finite; what is to be kept, such as age and sex, never the label.
    """
    names, of_scan, counts = np.unique(site, return_inverse=True, return_counts=True)
    known = (names != "") & (counts >= LEAST_SCANS)
    codes = np.where(known[of_scan], of_scan, -1)
    batches = [codes == code for code in np.unique(codes)]
    sites = np.stack(batches, axis=1).astype(np.float64)
    coefficients = np.linalg.lstsq(np.concatenate([sites, covariates], axis=1), values, rcond=None)[0]
    levels, slopes = coefficients[: len(batches)], coefficients[len(batches) :]
    mean = sites.mean(axis=0) @ levels
    left = values - sites @ levels - covariates @ slopes
    spread = np.sqrt(np.mean(np.square(left), axis=0))
    spread[spread <= 1e-9 * (np.abs(mean) + np.ptp(values, axis=0))] = 0.0
    fit, varies = Combat(mean, spread, slopes, {}), spread > 0
    errors = (values - fit.expected(covariates))[:, varies] / spread[varies]
    of_site = {str(name): _estimated(errors[of_scan == row], bool(name), varies) for row, name in enumerate(names) if name}
    return Combat(mean, spread, slopes, of_site)


def _estimated(errors: FloatArray, named: bool, varies: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """(all features,) location and scale of a site from its standardised errors (scans, features that vary)."""
    location, scale = np.zeros(varies.size), np.ones(varies.size)
    if named and len(errors) >= LEAST_SCANS and varies.any():
        location[varies], variance = shrunk(errors)
        scale[varies] = np.sqrt(variance)
    return location, scale


def shrunk(errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(features,) location and variance of a site, shrunk towards their means over the features; one feature is not shrunk."""
    count, means, variances = len(errors), errors.mean(axis=0), errors.var(axis=0, ddof=1)
    if means.size < 2 or np.ptp(variances) == 0 or np.ptp(means) == 0 or variances.min() == 0:
        return means, np.where(variances > 0, variances, 1.0)
    centre, width = means.mean(), means.var(ddof=1)
    level, spread = variances.mean(), variances.var(ddof=1)
    shape, rate = (2 * spread + level**2) / spread, (level * spread + level**3) / spread
    location, variance, change = means, variances, np.inf
    while change > CLOSE:
        new = (count * width * means + variance * centre) / (count * width + variance)
        squares = np.sum(np.square(errors - new), axis=0)
        newer = (0.5 * squares + rate) / (count / 2 + shape - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.abs([(new - location) / location, (newer - variance) / variance])
        change = float(np.nan_to_num(moved, nan=0.0).max())
        location, variance = new, newer
    return location, variance
