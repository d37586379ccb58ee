"""Which quality numbers are too far out, and why: fixed limits, and limits from the cohort itself.

A fixed limit is set where a value is bad whatever the other scans are. A limit from the cohort asks how far a scan lies from
the median in robust standard deviations (1.4826 x median absolute deviation), and needs ``LEAST_SCANS`` of them: beyond
``LOOK_Z`` a scan is worth a look (Iglewicz and Hoaglin's 3.5), beyond ``HOLD_Z`` it is held back. Of 400 sound scans with 20
normally distributed numbers, 3.5 marks about 4 and 6 none.

References:
    Iglewicz, Hoaglin 1993, How to Detect and Handle Outliers, ASQC, section 3.3 (modified z-scores, limit 3.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LOOK_Z = 3.5
HOLD_Z = 6.0
LEAST_SCANS = 10
"""Below this many scans a median and its spread are too uncertain; only the fixed limits count."""

Verdict = Literal["ok", "look", "held"]


@dataclass(frozen=True)
class Limit:
    """The accepted range of one quality number.

    Attributes:
        name: As in ``datamodules.quality.measure``; ``*`` at the end stands for every region.
        title: Column heading.
        message: What is wrong with a scan beyond the limit, as it is printed; ``{}`` stands for the region.
        low: Least value, below which a scan is held back.
        high: Largest value, above which a scan is held back.
        tails: In which direction a scan can lie too far from the cohort: "low", "high", "both" or "" for neither.
        log: What is added before the cohort is compared on a logarithmic scale, as volumes and noise need; None: no such scale.
            Volumes get 5 ml, so that small ventricles on coarse voxels are not outliers.
        spread: Least robust standard deviation, so that a very even cohort does not condemn its last scan.
        reason: Why these values.
    """

    name: str
    title: str
    message: str
    low: float = -np.inf
    high: float = np.inf
    tails: str = ""
    log: float | None = None
    spread: float = 0.0
    reason: str = ""


LIMITS = (
    Limit("template_dice", "overlap", "brain and template overlap too little", low=0.85, tails="low", spread=0.01,
          reason="affine registration of a whole brain gives 0.9 or more, a brain that was moved but not scaled 0.7 to 0.8"),
    Limit("template_nmi", "NMI template", "T1w resembles the template less than the others do", tails="low", spread=0.005,
          reason="depends on voxel size, noise and scanner, so only the cohort can tell"),
    Limit("pair_nmi", "NMI T1w-FLAIR", "T1w and FLAIR do not agree", low=1.02, tails="low", spread=0.005,
          reason="real pairs 1.05 and more, 1.017 at most with FLAIR 5 mm beside T1w; else it depends on voxel size and noise"),
    Limit("pair_correlation", "r T1w-FLAIR", "FLAIR is a copy of the T1w, or another T1w", high=0.95,
          reason="0.4 to 0.75 in real pairs; a T1w that was interpolated again still has 0.97 with itself"),
    Limit("fluid_flair", "fluid in FLAIR", "FLAIR is not dark where the T1w shows fluid", low=1.2,
          reason="real pairs and phantoms 2.1 and more; at most 1.06 with FLAIR 5 mm beside T1w, 0 when it lies anywhere"),
    Limit("cover_*", "cover ", "{} does not cover the brain", low=0.9, tails="",
          reason="a tenth of the brain without signal is a different input than the other scans'"),
    Limit("contrast_order", "T1w-FLAIR contrast", "T1w and FLAIR look swapped", low=0.0, tails="low", spread=0.1,
          reason="white matter is brighter than gray in T1w, and not in FLAIR; a swapped pair has the opposite sign"),
    Limit("brain_ml", "brain, ml", "the brain mask's volume is implausible", low=700, high=2500, tails="both", log=0.0,
          spread=0.02, reason="after scaling to the template's 1857 ml; less is a mask that lost brain, more one with skull"),
    Limit("determinant", "scaling", "registration scaled the head implausibly", low=0.6, high=2.2, tails="both", log=0.0,
          reason="intracranial volumes of adults, about 1000 to 2000 ml, to the template's 1857 ml: 0.9 to 1.9, and a margin"),
    Limit("cut_*", "cut: ", "{} is partly outside the field of view", high=0.1,
          reason="a tenth of a region missing shows in its volume and shape"),
    Limit("ml_*", "ml: ", "volume of {} is far from the others'", tails="both", log=5.0,
          reason="segmentation that failed; atrophy and wide ventricles stay within the limit on a logarithmic scale"),
    Limit("noise_t1w", "noise T1w", "T1w is noisier than the others", tails="high", log=0.0,
          reason="depends on scanner and interpolation, so only the cohort can tell"),
    Limit("noise_flair", "noise FLAIR", "FLAIR is noisier than the others", tails="high", log=0.0,
          reason="depends on scanner and interpolation, so only the cohort can tell"),
    Limit("noise_*", "noise ", "{} is noisier than the others", tails="high", log=0.0,
          reason="depends on scanner and interpolation, so only the cohort can tell"),
    Limit("left_right_known", "left-right", "the raw header does not tell left from right", low=1.0,
          reason="a mirrored brain cannot be distinguished from a normal one"),
    Limit("left_right_contradiction", "L-R contradiction", "the raw header contradicts itself on left and right", high=0.0,
          reason="programs differ in which of the two they believe"),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One number of one scan beyond a limit; ``z`` is nan for a fixed limit, ``detail`` holds value and limit in words."""

    name: str
    value: float
    z: float
    verdict: Verdict
    message: str
    detail: str


@dataclass(frozen=True)
class Judged:
    """A scan's verdict, the findings behind it, the worst first, and the robust z of every number compared."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    z: Mapping[str, float]

    @property
    def worst(self) -> float:
        """For sorting: 1000 for a fixed limit, else the largest robust z."""
        fixed = any(np.isnan(finding.z) for finding in self.findings)
        return 1000.0 if fixed else max((abs(value) for value in self.z.values() if np.isfinite(value)), default=0.0)

    @property
    def reason(self) -> str:
        """The worst finding in words, without its value."""
        return self.findings[0].message if self.findings else ""

    @property
    def detail(self) -> str:
        """The worst finding's value and limit."""
        return self.findings[0].detail if self.findings else ""


def limit_of(name: str, limits: Sequence[Limit] = LIMITS) -> Limit | None:
    """The limit of a number, if it has one."""
    for limit in limits:
        stem = limit.name.removesuffix("*")
        if name == limit.name or (limit.name.endswith("*") and name.startswith(stem)):
            return limit
    return None


def judge_scans(scans: Sequence[Mapping[str, float]]) -> list[Judged]:
    """Compare every scan with the fixed limits, and with the others.

    Args:
        scans: Numbers by name, one mapping per scan; nan or a missing name means not known.

    Returns:
        One verdict per scan, in order.
    """
    names = list(dict.fromkeys(name for numbers in scans for name in numbers))
    table = {name: np.array([float(numbers.get(name, np.nan)) for numbers in scans]) for name in names}
    scores = {
        name: robust_z(values, limit.log, limit.spread)
        for name, values in table.items()
        if (limit := limit_of(name)) and limit.tails
    }
    return [
        judge_numbers({name: float(values[row]) for name, values in table.items()},
                      {name: float(values[row]) for name, values in scores.items()})
        for row in range(len(scans))
    ]  # fmt: skip


def judge_numbers(numbers: Mapping[str, float], scores: Mapping[str, float], limits: Sequence[Limit] = LIMITS) -> Judged:
    """The verdict of one scan.

    Args:
        numbers: Its numbers by name; nan means not known.
        scores: How many robust standard deviations those that are compared lie from a cohort's median.
        limits: What is accepted.
    """
    findings = [f for name, value in numbers.items() if (f := _finding(name, value, scores.get(name, 0.0), limits))]
    findings.sort(key=lambda finding: (finding.verdict != "held", -1000.0 if np.isnan(finding.z) else -abs(finding.z)))
    return Judged(findings[0].verdict if findings else "ok", tuple(findings), dict(scores))


def robust_z(values: NDArray[np.float64], log: float | None = None, least: float = 0.0) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations; nan with fewer than ``LEAST_SCANS`` values or no spread.

    Args:
        values: (scans,) float64, nan where unknown.
        log: Compare logarithms of the values plus this number; what is not positive then becomes -inf.
        least: Least robust standard deviation.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = values if log is None else np.log(values + log)
    known = scaled[np.isfinite(scaled)]
    if known.size < LEAST_SCANS:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    spread = max(1.4826 * float(np.median(np.abs(known - median))), least)
    return (scaled - median) / spread if spread > 1e-9 else np.full(values.shape, np.nan)


def _finding(name: str, value: float, z: float, limits: Sequence[Limit]) -> Finding | None:
    limit = limit_of(name, limits)
    if limit is None or np.isnan(value):
        return None
    region = name.removeprefix(limit.name.removesuffix("*")).replace("_", " ") if limit.name.endswith("*") else ""
    message = limit.message.format(region)
    if not limit.low <= value <= limit.high:
        allowed = f"at least {limit.low:g}" if value < limit.low else f"at most {limit.high:g}"
        return Finding(name, value, float("nan"), "held", message, f"{_digits(value, limit)}, {allowed} is allowed")
    beyond = {"low": -z, "high": z, "both": abs(z)}.get(limit.tails, 0.0)
    if not beyond > LOOK_Z:
        return None
    verdict: Verdict = "held" if beyond > HOLD_Z else "look"
    return Finding(name, value, z, verdict, message, f"{_digits(value, limit)}, robust z {z:+.1f}")


def _digits(value: float, limit: Limit) -> str:
    """A value with three digits, or as many as tell it from its limits; never with an exponent."""
    texts = [np.format_float_positional(value, digits, unique=False, fractional=False, trim="-") for digits in range(3, 18)]
    return next((text for text in texts if float(text) not in (limit.low, limit.high)), texts[0])
