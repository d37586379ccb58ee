"""Measurements of a baseline, harmonised over the sites by ComBat, which is fitted in the training part of a fold alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from experiments.analysis.baseline_models import Design
from experiments.statistics.combat import fit_combat
from experiments.statistics.constant import LEAST_PATIENTS
from experiments.study.scan_table import ScanTable

PERSON = ("age", "male")
"""Features that ComBat keeps and does not change; the label is none of them."""


def several_sites(scans: ScanTable) -> bool:
    """Whether two or more sites have enough patients."""
    site = scans.text("site")
    patients = [np.unique(scans.patient[site == name]).size for name in set(site.tolist()) if name]
    return sum(count >= LEAST_PATIENTS for count in patients) > 1


def harmonised(design: Design, scans: ScanTable, train: npt.NDArray[np.int64]) -> Design:
    """The design with its measurements harmonised; a missing value stays missing.

    Age and sex are kept, also where the design does not hold them. What is missing is, for the fit, the training part's median.

    Args:
        design: What a baseline sees.
        scans: The study's scans, with their sites.
        train: Rows to fit on.
    """
    sex = scans.text("sex")
    person = np.stack([scans.number("age"), np.where(sex == "", np.nan, (sex == "M").astype(np.float64))], axis=1)
    kept = _filled(person, train)
    kept = kept[:, np.ptp(kept[train], axis=0) > 0]
    columns = [column for column, name in enumerate(design.names) if name not in PERSON]
    measured = design.values[:, columns]
    filled, site = _filled(measured, train), scans.text("site")
    changed = fit_combat(filled[train], site[train], kept[train]).apply(filled, site, kept)
    values = design.values.copy()
    values[:, columns] = np.where(np.isnan(measured), np.nan, changed)
    return replace(design, values=values)


def _filled(values: npt.NDArray[np.float64], train: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    known = [column[~np.isnan(column)] for column in values[train].T]
    middle = np.array([np.median(column) if column.size else 0.0 for column in known])
    return np.where(np.isnan(values), middle, values)
