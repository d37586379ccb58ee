"""What a training cohort's scans were like, in a few numbers that no scan can be told from, and a new scan against it.

Of every quality number (``datamodules.quality.measure``, and beside it how even the resolution is and where the brain ends)
median and robust spread are kept; limits and verdicts are those of ``datamodules.quality.limits``, so that a new scan is
judged as if it were one more of the cohort. How the cohort differs from its mirror image is kept too
(``datamodules.quality.laterality``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.quality.extent import brain_ends
from datamodules.quality.laterality import SideReference, side_differences, side_reference
from datamodules.quality.limits import LEAST_SCANS, LIMITS, Finding, Judged, Limit, Verdict, judge_numbers, limit_of
from datamodules.quality.measure import measure
from datamodules.quality.resolution import evenness
from regions.catalog import REGIONS
from regions.grid import Grid
from regions.measure import region_volumes

MAD = 1.4826
REFERENCE_LIMITS = (
    *LIMITS,
    Limit("contrast_*", "contrast ", "white and gray matter differ otherwise in {} than in the training cohort", tails="both",
          spread=0.08, reason="another sequence shows tissues otherwise; scanner, age and lesions shift the contrast a little"),
    Limit("even_*", "evenness ", "{} is smoother along one axis, as thick slices are", tails="low", spread=0.02,
          reason="thick slices that were interpolated to thin ones hardly change from one to the next"),
    Limit("end_*", "ends ", "the brain ends early: {}", tails="low", spread=1.5,
          reason="brains that were registered with scaling end within a few mm; 1.5 mm is the rounding of coarse voxels"),
)  # fmt: skip
"""The limits of any cohort, and those that only make sense beside the cohort that networks were trained on."""


@dataclass(frozen=True)
class NumberReference:
    """Median and robust standard deviation of one number, on the logarithmic scale of its limit where it has one."""

    median: float
    spread: float
    scans: int


@dataclass(frozen=True)
class QualityReference:
    """A training cohort's quality numbers, and its sides."""

    numbers: Mapping[str, NumberReference]
    sides: SideReference = SideReference()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> QualityReference:
        """From plain JSON content, as ``dataclasses.asdict`` gives it."""
        numbers = {str(name): NumberReference(**content) for name, content in recorded["numbers"].items()}
        return cls(numbers, SideReference.of(recorded["sides"]))

    def robust_z(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """How many robust standard deviations the numbers of a scan lie from the cohort's median, where that is known."""
        scores = {}
        for name, value in numbers.items():
            limit, known = limit_of(name, REFERENCE_LIMITS), self.numbers.get(name)
            if limit is None or known is None or not limit.tails:
                continue
            spread = max(known.spread, limit.spread)
            scaled = _scaled(np.array([value]), limit)[0]
            if spread > 1e-9 and not np.isnan(scaled):
                scores[name] = float((scaled - known.median) / spread)
        return scores

    def judge(self, scan: MeasuredScan) -> Judged:
        """The verdict of a new scan, as if it were one more of the cohort."""
        judged = judge_numbers(scan.numbers, self.robust_z(scan.numbers), REFERENCE_LIMITS)
        mirrored = self.sides.is_mirrored(scan.differences)
        if not mirrored and not self.sides.is_doubtful(scan.differences):
            return judged
        score = self.sides.score(scan.differences)
        detail = (
            f"score {score:.2f}; the training cohort has {self.sides.median:.2f}, its mirror image {-self.sides.median:.2f}"
        )
        if mirrored:
            found = Finding("sides", score, float("nan"), "held", "left and right look exchanged", detail)
            return replace(judged, verdict="held", findings=(found, *judged.findings))
        doubtful = Finding("sides", score, 0.0, "look", "left and right cannot be told", detail)
        verdict: Verdict = "look" if judged.verdict == "ok" else judged.verdict
        return replace(judged, verdict=verdict, findings=(*judged.findings, doubtful))


@dataclass(frozen=True)
class MeasuredScan:
    """Quality numbers of one scan, and the difference of its sides."""

    numbers: Mapping[str, float]
    differences: NDArray[np.float64]


def measure_scan(
    images: Mapping[str, NDArray[Any]],
    grid: Grid,
    labels: NDArray[np.uint8] | None = None,
    optional: Collection[str] = (),
) -> MeasuredScan:
    """Measure one prepared scan, for a reference or against one.

    Tissues are the template's also where the scan has a label map, so that scans with and without one can be compared; from
    the map come the volumes of regions alone.

    Args:
        images: (I, J, K) each, the contrasts of a scan by name, exactly 0 outside the brain.
        grid: Where the voxels lie, MNI152 space.
        labels: (I, J, K) in the scheme of ``regions.labels``.
        optional: Images that scans of the cohort lack; left and right are told by the others.

    Raises:
        UserError: if the brain is empty.
    """
    brain = next(iter(images.values())) != 0
    numbers = measure(images, brain, grid)
    if labels is not None:
        volumes = region_volumes(labels, grid.voxel_mm3, list(REGIONS.values())[1:])
        numbers |= {f"ml_{name}": volume.ml for name, volume in volumes.items()}
    numbers |= {f"even_{name}": evenness(image, brain) for name, image in images.items()}
    numbers |= {f"end_{side}": reach for side, reach in brain_ends(brain, grid).items()}
    everywhere = [image for name, image in images.items() if name not in optional]
    return MeasuredScan(numbers, side_differences(everywhere, brain, grid))


def quality_reference(scans: Sequence[MeasuredScan]) -> QualityReference:
    """The reference of a training cohort, its scans in the cohort's order."""
    names = list(dict.fromkeys(name for scan in scans for name in scan.numbers))
    numbers: dict[str, NumberReference] = {}
    for name in names:
        limit = limit_of(name, REFERENCE_LIMITS)
        if limit is not None and limit.tails:
            known = _number_reference(np.array([scan.numbers.get(name, np.nan) for scan in scans], dtype=np.float64), limit)
            numbers |= {name: known} if known else {}
    differences = np.array([scan.differences for scan in scans])
    return QualityReference(numbers, side_reference(differences))


def _number_reference(values: NDArray[np.float64], limit: Limit) -> NumberReference | None:
    scaled = _scaled(values, limit)
    known = scaled[np.isfinite(scaled)]
    if known.size < LEAST_SCANS:
        return None
    median = float(np.median(known))
    return NumberReference(median, MAD * float(np.median(np.abs(known - median))), int(known.size))


def _scaled(values: NDArray[np.float64], limit: Limit) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return values if limit.log is None else np.log(values + limit.log)
