"""Which scans are there, which can be used, and with which label.

A cohort is a BIDS-like folder or one plain table. Scans that cannot be used are excluded with a reason and counted by scan and
by patient (``datamodules.cohort.eligibility``).
Dates: ``days`` counts from the scan to the EDSS assessment, so 0 ... 183 means assessed within six months after the scan
(Coll et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from datamodules.cohort.covariates import text_of
from datamodules.files.tables import CohortError

NO_SCAN = "no T1w in MNI152 space"
"""Reason for a patient without a scan, the study's first image in the place of the T1w; counted as a patient, not as a scan."""
UNDATED = "days from scan to EDSS unknown"
SHOWN_REASONS = 5
WAYS_OUT = {
    UNDATED: "--label.undated keep takes them without dates; dates stand in days, or scan_date and edss_date (a table), or in "
    "acq_time of sub-*_sessions.tsv with edss_date or days_since_scan of phenotype/edss.tsv (BIDS)"
}
"""What a user can do about a reason, where that is not in the reason itself."""


def scan_name(patient: str, session: str) -> str:
    """``patient`` or ``patient/session``."""
    return f"{patient}/{session}" if session else patient


@dataclass(frozen=True)
class LabelRule:
    """How an EDSS score becomes a class, and a probability a decision for one."""

    threshold: float = 3.0
    """A scan is positive when its EDSS is at least this."""
    min_days: int = 0
    """Earliest assessment, in days after the scan; negative allows one before the scan."""
    max_days: int = 183
    """Latest assessment, in days after the scan."""
    undated: Literal["exclude", "keep"] = "exclude"
    """What happens to a scan whose time to the assessment is unknown."""
    source: str = ""
    """Which edss_source counts, for example clinician; 'any' allows several in one study, empty refuses a mixture."""
    relapse_days: int = 0
    """An EDSS within so many days after the onset of a relapse does not count; 0: relapses are not looked at."""
    decision: Literal["midpoint", "balanced_accuracy", "prior"] = "midpoint"
    """Where a fold's threshold lies: midpoint of the classes' mean log odds or highest balanced accuracy on the tuning part; or
    the training part's share of positive scans."""

    def __post_init__(self) -> None:
        if self.undated not in ("exclude", "keep"):
            raise CohortError(f"label.undated is {self.undated!r}; it can be 'exclude' or 'keep'")
        if self.decision not in ("midpoint", "balanced_accuracy", "prior"):
            raise CohortError(f"label.decision is {self.decision!r}; it can be 'midpoint', 'balanced_accuracy' or 'prior'")
        if not 0 < self.threshold <= 10:
            raise CohortError(f"label.threshold is {self.threshold}; an EDSS threshold lies in (0, 10], for example 3.0")
        if self.min_days > self.max_days:
            raise CohortError(f"label.min_days {self.min_days} is later than label.max_days {self.max_days}")
        if self.relapse_days < 0:
            raise CohortError(f"label.relapse_days is {self.relapse_days}; give a number of days, or 0 for no such rule")
        object.__setattr__(self, "source", self.source.strip().casefold())

    def positive(self, edss: float) -> int:
        """1 where the score is at or above the threshold, else 0."""
        return int(edss >= self.threshold)

    def takes_source(self, source: str) -> bool:
        """Whether an assessment of this source can count."""
        return self.source in ("", "any", source)

    def after_relapse(self, since: int | None) -> bool:
        """Whether an assessment so many days after the onset of a relapse is too close to it; an unknown time is not."""
        return self.relapse_days > 0 and since is not None and 0 <= since <= self.relapse_days


@dataclass(frozen=True)
class Score:
    """One EDSS assessment of a patient; ``days`` counts from the scan, None where a date is missing.

    ``source`` says who gave it (clinician, patient, ...), ``since_relapse`` counts days from the last known onset of a relapse.
    """

    edss: str
    days: int | None
    source: str = ""
    since_relapse: int | None = None


@dataclass(frozen=True)
class SessionRecord:
    """What belongs to one patient and one session; the session is empty where the dataset has none."""

    patient: str
    session: str

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)


@dataclass(frozen=True)
class Scan(SessionRecord):
    """The images of one patient at one session by name, the study's first one first, with their label."""

    images: Mapping[str, Path]
    edss: float
    days: int | None
    label: int
    mask: Path | None = None
    labels: Path | None = None
    dialect: str = "freesurfer"
    covariates: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> Path:
        """The image whose header says where the scan's voxels lie: the first."""
        return next(iter(self.images.values()))

    @property
    def site(self) -> str:
        """The site, or an empty text where it is unknown."""
        return text_of(self.covariates, "site")


@dataclass(frozen=True)
class Candidate(SessionRecord):
    """A scan of a source before its files and its score are checked.

    ``images`` holds those that the source names; ``where`` names file and row for messages.
    """

    images: Mapping[str, Path]
    score: Score | None
    where: str
    mask: Path | None = None
    labels: Path | None = None
    dialect: str = "freesurfer"
    covariates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exclusion(SessionRecord):
    """A scan that is not used, and why; ``detail`` holds the value at fault, ``label`` the class where it is known."""

    reason: str
    detail: str = ""
    label: int | None = None


@dataclass(frozen=True)
class Cohort:
    """The scans that are used, those that are not, and remarks that a user should read."""

    source: Path
    rule: LabelRule
    scans: tuple[Scan, ...]
    exclusions: tuple[Exclusion, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        """Names of the patients with a usable scan, sorted."""
        return tuple(sorted({scan.patient for scan in self.scans}))

    def without(self, broken: Iterable[Exclusion]) -> Cohort:
        """The cohort with further scans excluded."""
        labels = {(scan.patient, scan.session): scan.label for scan in self.scans}
        broken = tuple(
            replace(exclusion, label=labels.get((exclusion.patient, exclusion.session), exclusion.label))
            for exclusion in broken
        )
        gone = {(exclusion.patient, exclusion.session) for exclusion in broken}
        kept = tuple(scan for scan in self.scans if (scan.patient, scan.session) not in gone)
        return replace(self, scans=kept, exclusions=(*self.exclusions, *broken))

    def excluded(self) -> str:
        """How many scans are not used, the commonest reason first and what can be done about it; empty where all are used."""
        rows = len(self.scans) + len(self.exclusions)
        return f"{len(self.exclusions)} of {rows} excluded: {counted_reasons(self.exclusions)}" if self.exclusions else ""

    def flow(self) -> dict[str, object]:
        """Counts by scan, patient and positive scan (those with a valid score): found, excluded for each reason, used."""
        return {
            "found": _counts([*self.scans, *self.exclusions]),
            "excluded": [
                {
                    "reason": reason,
                    **_counts(exclusions),
                    "who": [{"patient": e.patient, "session": e.session, "detail": e.detail} for e in exclusions],
                }
                for reason, exclusions in by_reason(self.exclusions).items()
            ],
            "used": _counts(self.scans),
            "remarks": list(self.remarks),
        }


def by_reason(exclusions: Iterable[Exclusion]) -> dict[str, list[Exclusion]]:
    """Exclusions by reason, the commonest reason first."""
    groups: dict[str, list[Exclusion]] = {}
    for exclusion in exclusions:
        groups.setdefault(exclusion.reason, []).append(exclusion)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def counted_reasons(exclusions: Sequence[Exclusion]) -> str:
    """Why scans are excluded, the commonest reason first, each with count and a case, and what can be done about them."""
    groups = by_reason(exclusions)
    counted = [f"{len(of)} x {reason} (as {of[0].name}: {of[0].detail})" for reason, of in groups.items()]
    more = [f"and {len(counted) - SHOWN_REASONS} further reasons"] if len(counted) > SHOWN_REASONS else []
    ways = [f"; {WAYS_OUT[reason]}" for reason in groups if reason in WAYS_OUT]
    return ", ".join([*counted[:SHOWN_REASONS], *more]) + "".join(ways)


def _counts(entries: Sequence[Scan | Exclusion]) -> dict[str, int]:
    """Scans, patients and positive scans; a patient without a scan counts as a patient only."""
    return {
        "scans": sum(
            not (isinstance(entry, Exclusion) and entry.reason.endswith(NO_SCAN.partition("T1w")[2])) for entry in entries
        ),
        "patients": len({entry.patient for entry in entries}),
        "positive_scans": sum(entry.label == 1 for entry in entries),
    }
