"""Which scans are there, which can be used, and with which label.

A cohort is a BIDS-like folder or one plain table. Scans that cannot be used are excluded with a reason and counted by scan and
by patient (``datamodules.cohort.eligibility``).
Dates: ``days`` counts from the scan to the assessment, so 0 ... 183 means assessed within six months after the scan
(Coll et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datamodules.cohort.covariates import text_of
from datamodules.cohort.target import Target

NO_SCAN = "no T1w in MNI152 space"
"""Reason for a patient without a scan, the study's first image in the place of the T1w; counted as a patient, not as a scan."""
UNDATED = "days from scan to {name} unknown"
"""Reason for a scan whose time to the assessment is unknown, with the name of the target."""
SHOWN_REASONS = 5
WAYS_OUT = {
    UNDATED: "--label.undated keep takes them without dates; dates stand in days, or scan_date and {column}_date (a table), or "
    "in acq_time of sub-*_sessions.tsv with {column}_date or days_since_scan of phenotype/{column}.tsv (BIDS)"
}
"""What a user can do about a reason, where that is not in the reason itself."""


def scan_name(patient: str, session: str) -> str:
    """``patient`` or ``patient/session``."""
    return f"{patient}/{session}" if session else patient


@dataclass(frozen=True)
class Score:
    """One assessment of a patient, as it is written; ``days`` counts from the scan, None where a date is missing.

    ``source`` says who gave it (clinician, patient, ...), ``since_relapse`` counts days from the last known onset of a relapse.
    """

    value: str
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
    """The images of one patient at one session by name, the study's first one first, with their label.

    ``asked`` names all images of the study where the scan lacks some, which it may.
    """

    images: Mapping[str, Path]
    value: float
    days: int | None
    label: int
    mask: Path | None = None
    labels: Path | None = None
    dialect: str = "freesurfer"
    covariates: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The images of the study, also those that this scan lacks."""
        return self.asked or tuple(self.images)

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
    rule: Target
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
        if not self.exclusions:
            return ""
        return f"{len(self.exclusions)} of {rows} excluded: {counted_reasons(self.exclusions, self.rule)}"

    def flow(self) -> dict[str, object]:
        """Counts by scan, patient and positive scan (those with a valid score): found, excluded for each reason, used."""
        return {
            "found": _counts([*self.scans, *self.exclusions], self.rule),
            "excluded": [
                {
                    "reason": reason,
                    **_counts(exclusions, self.rule),
                    "who": [{"patient": e.patient, "session": e.session, "detail": e.detail} for e in exclusions],
                }
                for reason, exclusions in by_reason(self.exclusions).items()
            ],
            "used": _counts(self.scans, self.rule),
            "remarks": list(self.remarks),
        }


def by_reason(exclusions: Iterable[Exclusion]) -> dict[str, list[Exclusion]]:
    """Exclusions by reason, the commonest reason first."""
    groups: dict[str, list[Exclusion]] = {}
    for exclusion in exclusions:
        groups.setdefault(exclusion.reason, []).append(exclusion)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def counted_reasons(exclusions: Sequence[Exclusion], target: Target) -> str:
    """Why scans are excluded, the commonest reason first, each with count and a case, and what can be done about them."""
    groups = by_reason(exclusions)
    counted = [f"{len(of)} x {reason} (as {of[0].name}: {of[0].detail})" for reason, of in groups.items()]
    more = [f"and {len(counted) - SHOWN_REASONS} further reasons"] if len(counted) > SHOWN_REASONS else []
    known = {reason.format(name=target.name): way.format(column=target.column) for reason, way in WAYS_OUT.items()}
    ways = [f"; {known[reason]}" for reason in groups if reason in known]
    return ", ".join([*counted[:SHOWN_REASONS], *more]) + "".join(ways)


def _counts(entries: Sequence[Scan | Exclusion], target: Target) -> dict[str, int]:
    """Scans, patients and, of two classes, positive scans; a patient without a scan counts as a patient only."""
    counts = {
        "scans": sum(
            not (isinstance(entry, Exclusion) and entry.reason.endswith(NO_SCAN.partition("T1w")[2])) for entry in entries
        ),
        "patients": len({entry.patient for entry in entries}),
        "positive_scans": sum(entry.label == 1 for entry in entries),
    }
    if target.is_number:
        del counts["positive_scans"]
    return counts
