"""Which scans are there, which can be used, and with which label.

A cohort is a BIDS-like folder or one plain table. Scans that cannot be used are excluded with a reason and counted by scan and
by patient (``datamodules.judgement``); nothing is dropped without a word. Dates: ``days`` counts from the scan to the EDSS
assessment, so 0 ... 183 means assessed within six months after the scan (Coll et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MISSING = {"", "n/a", "na", "#n/a", "nan", "none", "null", "-"}

NO_SCAN = "no T1w in MNI152 space"
"""Reason for a patient of whom no scan was found; counted as a patient, not as a scan."""


class CohortError(ValueError):
    """A cohort, a table or a scan that cannot be used as it is."""


def scan_name(patient: str, session: str) -> str:
    """``patient`` or ``patient/session``."""
    return f"{patient}/{session}" if session else patient


@dataclass(frozen=True)
class LabelRule:
    """How an EDSS score becomes a class."""

    threshold: float = 3.0
    """A scan is positive when its EDSS is at least this."""
    min_days: int = 0
    """Earliest assessment, in days after the scan; negative allows one before the scan."""
    max_days: int = 183
    """Latest assessment, in days after the scan."""
    undated: Literal["exclude", "keep"] = "exclude"
    """What happens to a scan whose time to the assessment is unknown."""

    def __post_init__(self) -> None:
        if self.undated not in ("exclude", "keep"):
            raise CohortError(f"label.undated is {self.undated!r}; it can be 'exclude' or 'keep'")
        if not 0 < self.threshold <= 10:
            raise CohortError(f"label.threshold is {self.threshold}; an EDSS threshold lies in (0, 10], for example 3.0")
        if self.min_days > self.max_days:
            raise CohortError(f"label.min_days {self.min_days} is later than label.max_days {self.max_days}")

    def positive(self, edss: float) -> int:
        """1 where the score is at or above the threshold, else 0."""
        return int(edss >= self.threshold)


@dataclass(frozen=True)
class Score:
    """One EDSS assessment of a patient; ``days`` counts from the scan, None where a date is missing."""

    edss: str
    days: int | None


@dataclass(frozen=True)
class Scan:
    """One T1w + FLAIR pair of one patient at one session, with its label."""

    patient: str
    session: str
    t1w: Path
    flair: Path
    edss: float
    days: int | None
    label: int
    mask: Path | None = None
    labels: Path | None = None
    dialect: str = "freesurfer"
    covariates: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)

    @property
    def site(self) -> str:
        """The site, or an empty text where it is unknown."""
        return self.covariates.get("site", "")


@dataclass(frozen=True)
class Candidate:
    """A scan as it was found, before its files and its score are judged. ``where`` names file and row for messages."""

    patient: str
    session: str
    t1w: Path | None
    flair: Path | None
    score: Score | None
    where: str
    mask: Path | None = None
    labels: Path | None = None
    dialect: str = "freesurfer"
    covariates: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)


@dataclass(frozen=True)
class Exclusion:
    """A scan that is not used, and why; ``detail`` holds the value at fault."""

    patient: str
    session: str
    reason: str
    detail: str = ""

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)


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
        broken = tuple(broken)
        gone = {(one.patient, one.session) for one in broken}
        kept = tuple(scan for scan in self.scans if (scan.patient, scan.session) not in gone)
        return Cohort(self.source, self.rule, kept, (*self.exclusions, *broken), self.remarks)

    def flow(self) -> dict[str, object]:
        """Counts by scan, patient and positive scan: found, excluded for each reason, used."""
        seen: tuple[Scan | Exclusion, ...] = (*self.scans, *self.exclusions)
        reasons: dict[str, list[Exclusion]] = {}
        for one in self.exclusions:
            reasons.setdefault(one.reason, []).append(one)
        return {
            "found": {"scans": sum(not _scanless(one) for one in seen), "patients": len({one.patient for one in seen})},
            "excluded": [
                {
                    "reason": reason,
                    "scans": sum(not _scanless(one) for one in ones),
                    "patients": len({one.patient for one in ones}),
                    "who": [{"patient": o.patient, "session": o.session, "detail": o.detail} for o in ones],
                }
                for reason, ones in reasons.items()
            ],
            "used": {
                "scans": len(self.scans),
                "patients": len(self.patients),
                "positive_scans": sum(scan.label for scan in self.scans),
            },
        }


def _scanless(one: Scan | Exclusion) -> bool:
    return isinstance(one, Exclusion) and one.reason == NO_SCAN


def read_cohort(source: Path, rule: LabelRule) -> Cohort:
    """Read a BIDS-like folder or a plain table.

    Args:
        source: A folder (see ``datamodules.bids``) or a .tsv / .csv file (see ``datamodules.tables``).
        rule: How scores become labels.

    Raises:
        CohortError: if the source is missing, ambiguous or holds contradicting rows, or if nothing usable is left.
    """
    from datamodules.judgement import judge

    if source.is_dir():
        from datamodules.bids import bids_candidates

        candidates: Sequence[Candidate] = bids_candidates(source, rule)
    elif source.is_file():
        from datamodules.tables import read_table

        candidates = read_table(source)
    else:
        wrong = "is neither a folder nor a file" if source.exists() else "does not exist"
        raise CohortError(f"cohort {source} {wrong}; give a BIDS folder or a table (.tsv, .csv)")
    return judge(source, candidates, rule)
