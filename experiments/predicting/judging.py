"""Is a new scan one that the networks can be asked about? Its quality, its training cohort, and what an input needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from datamodules.cohort.images import title
from datamodules.cohort.records import Scan
from datamodules.quality.limits import LIMITS, limit_of
from datamodules.quality.reference import MeasuredScan, QualityReference
from datamodules.store.prepared import PreparedCohort
from datamodules.store.reference import measure_stored
from datamodules.store.signatures import KnownScans
from experiments.bundles.bundle import Bundle
from experiments.checking.quality import numbers_of_prepare
from experiments.predicting.errors import PredictError
from experiments.predicting.records import Reason, ScanOutcome


class Judge:
    """What a training cohort was like, read once from a bundle, and new scans against it."""

    def __init__(self, bundle: Bundle) -> None:
        self.optional = bundle.optional
        self.quality = QualityReference.of(bundle.quality)
        self.known = KnownScans.of(bundle.training_scans)

    @property
    def sides_told(self) -> bool:
        """Whether a mirrored scan can be told."""
        return self.quality.sides.can_tell

    def outcome(self, scan: Scan, prepared: PreparedCohort, row: int, remarks: Sequence[Reason] = ()) -> ScanOutcome:
        """What is to be said of a scan before any network sees it.

        Args:
            scan: The scan.
            prepared: Volumes on the scan's own voxels.
            row: Its row there.
            remarks: What is known of it already.
        """
        measured = measure_stored(prepared, row, self.optional)
        more = {
            name: value
            for name, value in numbers_of_prepare(scan.reference, scan.images).items()
            if name not in measured.numbers
        }
        measured = MeasuredScan(
            {**measured.numbers, **{n: v for n, v in more.items() if limit_of(n, LIMITS)}}, measured.differences
        )
        judged = self.quality.judge(measured)
        reasons = [
            Reason("refused" if finding.verdict == "held" else "look", finding.message, finding.detail)
            for finding in judged.findings
        ]
        match = self.known.match(prepared.contrasts(row), prepared.grid)
        if match is not None:
            detail = match.how if match.correlation >= 1 else f"{match.how}, correlation about {match.correlation:.2f}"
            reasons.insert(0, Reason("refused", "a scan of the training cohort", detail))
        numbers, z = ({n: float(v) for n, v in table.items() if np.isfinite(v)} for table in (measured.numbers, judged.z))
        return ScanOutcome(scan.patient, scan.session, (*reasons, *remarks), (), numbers, z)


def refuse_missing_covariates(bundles: Sequence[Bundle], scans: Sequence[Scan]) -> None:
    """Refuse scans none of which has a covariate that networks are given.

    Raises:
        PredictError: naming the column.
    """
    for bundle in bundles:
        for covariate in bundle.models[0].covariates:
            if scans and np.isnan(covariate.values(scans)).all():
                raise PredictError(
                    f"the networks of {bundle.input} are given {covariate.name}, which no scan has; add a column "
                    f"{covariate.name!r} to participants.tsv or to the table"
                )


def input_reasons(bundle: Bundle, scan: Scan) -> tuple[Reason, ...]:
    """What an input needs and a scan lacks: an image, its own label map, or a covariate."""
    absent = [title(name) for name in bundle.shown_images if name not in scan.images]
    reasons = [Reason("look", f"no {name}", "the networks were shown zeros in its place") for name in absent]
    if bundle.region.mask.mode == "subject" and bundle.region.labels and scan.labels is None:
        reasons.append(Reason("refused", "no label map, from which this input is cut"))
    for covariate in bundle.models[0].covariates:
        if np.isnan(covariate.values([scan])[0]):
            taken = f"the training part's {covariate.given} is taken"
            reasons.append(Reason("look", f"{covariate.name} is missing or new", taken))
    return tuple(reasons)


def counts(outcomes: Sequence[ScanOutcome]) -> Mapping[str, int]:
    """How many scans have each verdict."""
    return {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("ok", "look", "refused")}
