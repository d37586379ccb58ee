"""What a study of this size can show, computed before anything is trained.

Normal approximation for balanced accuracy, widened for repeated scans of a patient. It ignores variation from
training, so the true precision is somewhat lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm


@dataclass(frozen=True)
class StudySize:
    """Expected cohort and performance.

    Attributes:
        positives: Scans of the positive class.
        negatives: Scans of the negative class.
        patients: Patients.
        sensitivity: Expected sensitivity.
        specificity: Expected specificity.
        scan_correlation: Intraclass correlation of correct decisions between scans of a patient.
        model_correlation: Correlation of correct decisions between two inputs on the same scan.

    Raises:
        ValueError: If a number is out of range.
    """

    positives: int
    negatives: int
    patients: int
    sensitivity: float = 0.8
    specificity: float = 0.8
    scan_correlation: float = 0.8
    model_correlation: float = 0.5

    def __post_init__(self) -> None:
        if min(self.positives, self.negatives) < 1:
            raise ValueError(f"{self.positives} positive and {self.negatives} negative scans; each class needs one")
        if not 1 <= self.patients <= self.positives + self.negatives:
            raise ValueError(f"{self.patients} patients with {self.positives + self.negatives} scans is not possible")
        for name in ("sensitivity", "specificity", "scan_correlation", "model_correlation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie within 0 ... 1")


@dataclass(frozen=True)
class Precision:
    """Expected precision; all but the design effect are shares, so 0.05 is 5 points of balanced accuracy.

    Attributes:
        design_effect: Factor on the variance from repeated scans, 1 + (scans per patient - 1) x correlation.
        half_width: Expected half width of the interval of one input.
        difference_half_width: Expected half width of the interval of a paired difference.
        detectable: Smallest true difference detected with the given power in a single test.
        detectable_adjusted: The same at the strictest step of Holm's procedure.
    """

    design_effect: float
    half_width: float
    difference_half_width: float
    detectable: float
    detectable_adjusted: float


def expected_precision(size: StudySize, comparisons: int = 5, level: float = 0.95, power: float = 0.8) -> Precision:
    """Half widths and smallest detectable paired difference of balanced accuracy.

    Args:
        size: Expected cohort and performance.
        comparisons: Tests in the family; Holm's first step divides alpha by it.
        level: Level of the intervals; alpha is 1 - level.
        power: Chance of finding a true difference of the size named.

    Raises:
        ValueError: If `comparisons` is below 1, or `level` or `power` is not between 0 and 1.
    """
    if comparisons < 1 or not 0 < level < 1 or not 0 < power < 1:
        raise ValueError(f"need comparisons >= 1, 0 < level < 1, 0 < power < 1, got {comparisons}, {level}, {power}")
    scans = size.positives + size.negatives
    effect = 1 + (scans / size.patients - 1) * size.scan_correlation
    spread = size.sensitivity * (1 - size.sensitivity) / size.positives
    spread += size.specificity * (1 - size.specificity) / size.negatives
    error = 0.5 * float(np.sqrt(spread * effect))
    paired = error * float(np.sqrt(2 * (1 - size.model_correlation)))
    alpha = 1 - level
    z_single, z_strict, z_power = (float(norm.isf(x)) for x in (alpha / 2, alpha / 2 / comparisons, 1 - power))
    return Precision(effect, z_single * error, z_single * paired, (z_single + z_power) * paired, (z_strict + z_power) * paired)
