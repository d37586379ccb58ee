"""Which scans are there, which can be used, and with which label.

A cohort is a BIDS-like folder or one plain table. Rows that cannot be used are excluded with a reason and counted by scan and by
patient; nothing is dropped without a word. Dates: ``days`` counts from the scan to the EDSS assessment, so 0 ... 183 means
assessed within six months after the scan (Coll et al. 2024).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EDSS_SCALE = (0.0, *(half / 2 for half in range(2, 21)))
"""The 20 valid steps of the EDSS: 0, 1.0, 1.5, ... 10 (Kurtzke, Neurology 1983;33:1444)."""

MISSING = {"", "n/a", "na", "nan", "none", "null", "-"}


class CohortError(ValueError):
    """A cohort, a table or a scan that cannot be used as it is."""


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
        return f"{self.patient}/{self.session}" if self.session else self.patient

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
        return f"{self.patient}/{self.session}" if self.session else self.patient


@dataclass(frozen=True)
class Exclusion:
    """A scan that is not used, and why; ``detail`` holds the value at fault."""

    patient: str
    session: str
    reason: str
    detail: str = ""


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
        found = Counter([one.patient for one in self.scans] + [one.patient for one in self.exclusions])
        reasons: dict[str, list[Exclusion]] = {}
        for one in self.exclusions:
            reasons.setdefault(one.reason, []).append(one)
        return {
            "found": {"scans": sum(found.values()), "patients": len(found)},
            "excluded": [
                {
                    "reason": reason,
                    "scans": len(ones),
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


def read_cohort(source: Path, rule: LabelRule) -> Cohort:
    """Read a BIDS-like folder or a plain table.

    Args:
        source: A folder (see ``datamodules.bids``) or a .tsv / .csv file (see ``datamodules.tables``).
        rule: How scores become labels.

    Raises:
        CohortError: if the source is missing, ambiguous or holds contradicting rows, or if nothing usable is left.
    """
    if source.is_dir():
        from datamodules.bids import bids_candidates

        candidates: Sequence[Candidate] = bids_candidates(source, rule)
    elif source.is_file():
        from datamodules.tables import read_table

        candidates = read_table(source)
    else:
        raise CohortError(f"cohort {source} does not exist; give a BIDS folder or a table (.tsv, .csv)")
    return judge(source, candidates, rule)


def judge(source: Path, candidates: Sequence[Candidate], rule: LabelRule) -> Cohort:
    """Turn candidates into scans and exclusions; the order is by patient, then session.

    Raises:
        CohortError: if a patient's session occurs twice, or if no scan is left.
    """
    seen: dict[tuple[str, str], str] = {}
    scans: list[Scan] = []
    exclusions: list[Exclusion] = []
    for candidate in sorted(candidates, key=lambda c: (c.patient, c.session)):
        key = (candidate.patient, candidate.session)
        if key in seen:
            raise CohortError(f"{candidate.name} occurs twice: {seen[key]} and {candidate.where}; keep one of them")
        seen[key] = candidate.where
        verdict = _judge_one(candidate, rule)
        if isinstance(verdict, Scan):
            scans.append(verdict)
        else:
            exclusions.append(verdict)
    if not scans:
        reasons = Counter(one.reason for one in exclusions)
        told = ", ".join(f"{count} x {reason}" for reason, count in reasons.items()) or "no T1w image was found"
        raise CohortError(f"no usable scan in {source}: {told}")
    odd = [scan.name for scan in scans if scan.edss == 0.5]
    remarks = [f"EDSS 0.5 is not on the scale, its class is certain: kept {', '.join(odd)}"] if odd else []
    return Cohort(source, rule, tuple(scans), tuple(exclusions), tuple(remarks))


def _judge_one(candidate: Candidate, rule: LabelRule) -> Scan | Exclusion:
    def excluded(reason: str, detail: str = "") -> Exclusion:
        return Exclusion(candidate.patient, candidate.session, reason, detail or candidate.where)

    for kind, path in (("T1w", candidate.t1w), ("FLAIR", candidate.flair)):
        if path is None:
            return excluded(f"no {kind}")
        if not path.is_file():
            return excluded(f"{kind} file missing", str(path))
    if candidate.score is None or candidate.score.edss.strip().lower() in MISSING:
        return excluded("no EDSS")
    edss = parse_edss(candidate.score.edss)
    if edss is None:
        return excluded("EDSS not on the scale", f"{candidate.score.edss!r}, {candidate.where}")
    days = candidate.score.days
    if days is None and rule.undated == "exclude":
        return excluded("days from scan to EDSS unknown")
    if days is not None and days < rule.min_days:
        return excluded(f"EDSS before day {rule.min_days}", f"{days} days")
    if days is not None and days > rule.max_days:
        return excluded(f"EDSS after day {rule.max_days}", f"{days} days")
    assert candidate.t1w is not None and candidate.flair is not None  # noqa: PT018
    return Scan(
        candidate.patient,
        candidate.session,
        candidate.t1w,
        candidate.flair,
        edss,
        days,
        rule.positive(edss),
        candidate.mask,
        candidate.labels,
        candidate.dialect,
        candidate.covariates,
    )


def parse_edss(text: str) -> float | None:
    """An EDSS score from a text with decimal point or comma; None where it is not on the scale (0.5 passes, see ``judge``)."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and (value in EDSS_SCALE or value == 0.5) else None
