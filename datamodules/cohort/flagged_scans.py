"""Scans flagged by quality control: ``qc.tsv`` lists them, ``qc_accept.tsv`` those that the user has looked at and accepted.

Both stand in the cohort's folder, beside participants.tsv, or beside the cohort's table::

    qc.tsv          patient session verdict reason detail ...     written by ``prepare``, and by ``check --hold``
    qc_accept.tsv   patient session reason                        written by hand

The first is rewritten whenever scans are prepared; the second is kept. ``adopt`` joins both files of all its cohorts, and their
same_person.tsv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.cohort.identity import Key, under_names
from datamodules.cohort.records import Cohort, Exclusion, scan_name
from datamodules.files.atomic import write_text
from datamodules.files.tables import MISSING, CohortError, read_rows, require_columns, tsv_text
from datamodules.quality.limits import Judged, Verdict

VERDICTS = "qc.tsv"
ACCEPTED = "qc_accept.tsv"
SAME_PERSON = "same_person.tsv"
JOINED = {
    VERDICTS: ("patient", "session", "verdict", "reason", "detail"),
    ACCEPTED: ("patient", "session", "reason"),
    SAME_PERSON: ("patient", "same_as", "reason"),
}
"""Columns of the tables beside a cohort that go into a joined one; for the last see ``datamodules.cohort.same_person``."""
HELD = "held back by QC: "


def quality_folder(source: Path) -> Path:
    """Where the two files of a cohort stand: its folder, the BIDS folder above a derivative, or a table's folder."""
    if not source.is_dir():
        return source.parent
    above = (source, *source.resolve().parents[:2])
    return next((folder for folder in above if (folder / "participants.tsv").is_file()), source)


def write_verdicts(folder: Path, keys: Sequence[Key], judged: Sequence[Judged], numbers: Sequence[Mapping[str, float]]) -> Path:
    """Write qc.tsv, atomically.

    Args:
        folder: See ``quality_folder``.
        keys: Patient and session of each scan.
        judged: Their verdicts.
        numbers: Their quality numbers, which become columns.
    """
    names = list(dict.fromkeys(name for row in numbers for name in row))
    rows = []
    for (patient, session), verdict, row in zip(keys, judged, numbers, strict=True):
        cells = [f"{row[name]:.6g}" if row.get(name) == row.get(name) and name in row else "n/a" for name in names]
        rows.append([patient, session, verdict.verdict, verdict.reason, verdict.detail, *cells])
    path = folder / VERDICTS
    write_text(path, tsv_text(["patient", "session", "verdict", "reason", "detail", *names], rows))
    return path


def read_flagged(folder: Path) -> dict[Key, tuple[str, str]]:
    """Reason and detail of every scan that qc.tsv holds back; empty without such a file.

    Raises:
        CohortError: if the file cannot be read.
    """
    return {key: (reason, detail) for key, (verdict, reason, detail) in read_verdicts(folder).items() if verdict == "held"}


def read_verdicts(folder: Path) -> dict[Key, tuple[Verdict, str, str]]:
    """Verdict, reason and detail of every scan of qc.tsv; empty without such a file.

    Raises:
        CohortError: if the file cannot be read, or a verdict is none of the three.
    """
    path = folder / VERDICTS
    if not path.is_file():
        return {}
    rows = read_rows(path)
    require_columns(path, rows, ("patient", "session", "verdict", "reason"))
    return {_key(row): (_verdict(path, row), row["reason"], row.get("detail", "")) for row in rows}


def _verdict(path: Path, row: Mapping[str, str]) -> Verdict:
    known: dict[str, Verdict] = {"held": "held", "look": "look", "ok": "ok"}
    verdict = row["verdict"].lower()
    if verdict not in known:
        raise CohortError(f"{path} line {row['#']}: verdict {row['verdict']!r} is none; it can be held, look or ok")
    return known[verdict]


def read_accepted(folder: Path) -> dict[Key, str]:
    """The user's reason for every scan that qc_accept.tsv accepts; empty without such a file.

    Raises:
        CohortError: if the file cannot be read, or a row gives no reason.
    """
    path = folder / ACCEPTED
    if not path.is_file():
        return {}
    rows = read_rows(path)
    if not rows:
        return {}
    require_columns(path, rows, ("patient", "reason"))
    for row in rows:
        if not row["patient"] or not row["reason"]:
            wanted = "a patient and a reason, for example: looked at, cut outside of the brain"
            raise CohortError(f"{path} line {row['#']}: each row needs {wanted}")
    return {_key(row): row["reason"] for row in rows}


def join_verdicts(sources: Sequence[Path], folder: Path) -> None:
    """Write verdicts, acceptances and same persons of several cohorts as those of one; no file that none of them has.

    Raises:
        CohortError: if a file cannot be read.
    """
    for name, columns in JOINED.items():
        tables = [quality_folder(source) / name for source in sources]
        rows = [row for table in tables if table.is_file() for row in read_rows(table)]
        if rows:
            write_text(folder / name, tsv_text(columns, ([row.get(column, "") for column in columns] for row in rows)))


def excluded_by_qc(cohort: Cohort) -> Cohort:
    """The cohort with flagged scans excluded; accepted scans, and acceptances that have no effect, become remarks.

    Raises:
        CohortError: if a file cannot be read, or no scan is left.
    """
    folder = quality_folder(cohort.source)
    flagged, accepted = read_flagged(folder), read_accepted(folder)
    if not flagged and not accepted:
        return cohort
    scans = {(scan.patient, scan.session): scan for scan in cohort.scans}
    everyone = [*scans, *((exclusion.patient, exclusion.session) for exclusion in cohort.exclusions)]
    flagged = under_names(flagged, everyone)
    accepted = under_names(accepted, [*everyone, *flagged])
    out = [
        Exclusion(*key, f"{HELD}{reason}", detail)
        for key, (reason, detail) in flagged.items()
        if key in scans and key not in accepted
    ]
    left = cohort.without(out) if out else cohort
    if not left.scans:
        raise CohortError(
            f"{left.excluded()}\n{folder / VERDICTS} holds back every usable scan; look at them, then accept them in {ACCEPTED}"
        )
    remarks = []
    if used := sorted(scan_name(*key) for key in flagged if key in accepted):
        remarks.append(f"accepted in {ACCEPTED} although beyond a limit: {', '.join(used)}")
    if unused := sorted(scan_name(*key) for key in accepted if key not in flagged):
        remarks.append(f"{ACCEPTED} names scans that are not held back: {', '.join(unused)}")
    return replace(left, remarks=(*left.remarks, *remarks))


def _key(row: Mapping[str, str]) -> Key:
    session = row.get("session", "")
    return row["patient"], "" if session.lower() in MISSING else session
