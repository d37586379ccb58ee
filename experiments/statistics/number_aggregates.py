"""Sums over one site's predicted numbers from which the scores of all sites together follow, without a row of any patient.

MAE, RMSE, R2 against the training mean and the calibration line are functions of sums over scans
(``experiments.statistics.numeric``), so they add up exactly. Rank correlations do not, and are left out. Of fewer than
``least`` patients nothing is told but a number that their scans do not exceed; pooled scores are then those of the other sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.statistics.aggregates import LEAST_PATIENTS
from experiments.statistics.predictions import FloatArray

SUMS = ("absolute", "squared", "y", "p", "yy", "pp", "py")
"""Of |p - y|, (p - y)^2, and of y and p from the training mean on and their products."""
NUMBER_SCORES = ("mae", "rmse", "r2", "intercept", "slope")


@dataclass(frozen=True)
class NumberAggregate:
    """What a site tells of its predicted numbers.

    Attributes:
        least: Patients of whom something is told, at least.
        centre: From where y and p are counted: the training mean.
        scans: None where withheld.
        patients: None where withheld.
        most: What the number of scans does not exceed.
        sums: Of ``SUMS``; empty where withheld.
    """

    least: int
    centre: float
    scans: int | None
    patients: int | None
    most: int
    sums: Mapping[str, float]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> NumberAggregate:
        """From plain JSON content, as ``dataclasses.asdict`` gives it.

        Raises:
            ValueError: if the numbers contradict each other.
        """
        sums = {str(name): float(value) for name, value in recorded["sums"].items()}
        told = cls(**{**recorded, "centre": float(recorded["centre"]), "sums": sums})
        wanted = set(SUMS) if told.scans else set()
        if set(sums) != wanted or not all(map(isfinite, (told.centre, *sums.values()))):
            raise ValueError(f"{told.scans} scans with sums of {', '.join(sums) or 'nothing'}")
        if told.scans is not None and told.scans != told.most:
            raise ValueError(f"{told.scans} scans, {told.most} at most")
        return told


def aggregate_numbers(
    patient: npt.NDArray[Any], y: FloatArray, p: FloatArray, centre: float, least: int = LEAST_PATIENTS
) -> NumberAggregate:
    """What a site tells.

    Args:
        patient: (n,) of each scan.
        y: (n,) true numbers.
        p: (n,) predicted numbers.
        centre: The training mean.
        least: Patients of whom something is told, at least.
    """
    people, scans = int(np.unique(patient).size), int(y.size)
    if people < least:
        return NumberAggregate(least, centre, None, None, ceil(scans / least) * least, {})
    v, q = np.asarray(y, dtype=np.float64) - centre, np.asarray(p, dtype=np.float64) - centre
    columns = (np.abs(q - v), (q - v) ** 2, v, q, v * v, q * q, q * v)
    return NumberAggregate(
        least, centre, scans, people, scans, {name: float(c.sum()) for name, c in zip(SUMS, columns, strict=True)}
    )


def pooled_numbers(sites: Sequence[NumberAggregate]) -> dict[str, float | None]:
    """The scores of all scans of the sites that tell theirs; None where they are not defined."""
    n = sum(site.scans or 0 for site in sites)
    if not n:
        return dict.fromkeys(NUMBER_SCORES)
    total = {name: sum(site.sums.get(name, 0.0) for site in sites) for name in SUMS}
    spread = n * total["pp"] - total["p"] ** 2
    slope = (n * total["py"] - total["y"] * total["p"]) / spread if spread > 1e-12 * n * total["pp"] else None
    centre = sites[0].centre
    intercept = None if slope is None else (total["y"] - slope * total["p"]) / n + centre * (1 - slope)
    return {
        "mae": total["absolute"] / n,
        "rmse": sqrt(total["squared"] / n),
        "r2": 1 - total["squared"] / total["yy"] if total["yy"] > 0 else None,
        "intercept": intercept,
        "slope": slope,
    }
