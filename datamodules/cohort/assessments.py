"""Which assessment belongs to which scan: of the EDSS, or of any other column that a target names.

A score belongs to a scan by date, not by session name: the assessment nearest to the scan among those in the label window
wins, the earlier of two equally near. Only where there are no dates does the session's name decide; without a window it is
enough that those of this session have none. Assessments stand in the first of

::

    phenotype/edss.tsv          participant_id, edss; edss_date or days_since_scan; session_id, edss_source, relapse_date
    phenotype/*.tsv             the same, where one such table has the column
    sub-X/sub-X_sessions.tsv    session_id, edss; the others as above
    sessions.tsv                participant_id, session_id, edss; the others as above
    participants.tsv            participant_id, edss; the others as above, for one scan each

with another column in the place of ``edss`` in all of these names where the target is another one; onsets of relapses in
``phenotype/relapses.tsv`` or ``relapses.tsv`` (participant_id, relapse_date).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from datamodules.cohort.dates import parse_date
from datamodules.cohort.records import Score, scan_name
from datamodules.cohort.target import EDSS, RESERVED, Target, folded
from datamodules.files.listing import list_folder
from datamodules.files.tables import (
    MISSING,
    CohortError,
    bids_id,
    parse_days,
    read_cells,
    read_object,
    read_rows,
    require_columns,
)
from regions.errors import did_you_mean

RELAPSE_TABLES = ("phenotype/relapses.tsv", "relapses.tsv")


@dataclass(frozen=True)
class Assessment:
    """One row that gives a score; ``days`` counts from the scan it belongs to, ``relapses`` are onsets known of the patient."""

    patient: str
    session: str
    value: str
    assessed: date | None
    days: int | None
    source: str
    where: str
    relapses: tuple[date, ...] = ()


@dataclass(frozen=True)
class Assessments:
    """All rows of a dataset that give a score, by patient, in the order of the table."""

    by_patient: Mapping[str, Sequence[Assessment]]
    remarks: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        """Number of assessments that have a score."""
        return sum(len(rows) for rows in self.by_patient.values())


def read_assessments(root: Path, target: Target = Target()) -> Assessments:
    """Every score of a target in a dataset; rows without one are left out.

    Raises:
        CohortError: if no table gives scores, one lacks a column, a row lacks its patient, or a cell cannot be understood.
    """
    path, rows = _score_rows(root, target.column)
    rows = target.pointed(rows, [row["where"] for row in rows])
    relapses = _read_relapses(root)
    by_patient: dict[str, list[Assessment]] = {}
    repeated: list[str] = []
    for row in rows:
        assessment = _assessment(row, target, relapses)
        if assessment.value.lower() in MISSING:
            continue
        twins = [other for other in by_patient.get(assessment.patient, []) if _alike(other, assessment, target)]
        repeated += [f"{twins[0].where} and {assessment.where}"] if twins else []
        if not twins:
            by_patient.setdefault(assessment.patient, []).append(assessment)
    remarks = [f"the same assessment twice, counted once: {', '.join(repeated)}"] if repeated else []
    also = _also_scored(root, path, target.column)
    remarks += [f"{also} has {target.name} too; those of {path.name} are taken"] if also else []
    return Assessments(by_patient, tuple(remarks))


def _score_rows(root: Path, column: str) -> tuple[Path, list[dict[str, str]]]:
    """The rows of the first table that gives scores, with ``participant_id`` and ``where`` set."""
    path = _phenotype(root, column)
    if path is not None:
        rows = read_rows(path)
        require_columns(path, rows, ("participant_id", column))
        if path.with_suffix(".json").is_file():
            read_object(path.with_suffix(".json"))
        return path, _located(path, rows)
    session_rows: list[dict[str, str]] = []
    for sessions in list_folder(root, "sub-*/sub-*_sessions.tsv"):
        rows = read_rows(sessions)
        if rows and column in rows[0]:
            require_columns(sessions, rows, ("session_id",))
            session_rows += [row | {"participant_id": sessions.parent.name} for row in _located(sessions, rows)]
    if session_rows:
        return root / "sub-*_sessions.tsv", session_rows
    for path in (root / "sessions.tsv", root / "participants.tsv"):
        rows = read_rows(path) if path.is_file() else []
        if rows and column in rows[0]:
            require_columns(path, rows, ("participant_id",))
            whole = {"session_id": ""} if path.name == "participants.tsv" else {}
            return path, [row | whole for row in _located(path, rows)]
    known = _known_columns(root)
    if column != EDSS and known:
        hint = did_you_mean(column, known)
        raise CohortError(f"no table of {root} has a column {column!r}{hint}; columns are {', '.join(known)}")
    path = root / "phenotype" / f"{column}.tsv"
    raise CohortError(f"{path} is missing; it needs participant_id, {column} and {column}_date or days_since_scan")


def _known_columns(root: Path) -> list[str]:
    """Every column of a dataset's tables that a target can be."""
    tables = [*list_folder(root, "phenotype/*.tsv"), *list_folder(root, "sub-*/sub-*_sessions.tsv")]
    tables += [path for name in ("sessions.tsv", "participants.tsv") if (path := root / name).is_file()]
    columns = dict.fromkeys(name for path in tables for name in read_cells(path)[0])
    return [name for name in columns if name.lower() not in RESERVED]


def _located(path: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{**row, "where": f"{path.name} line {row['#']}"} for row in rows]


def _phenotype(root: Path, column: str) -> Path | None:
    """The phenotype table that gives scores: the one that is called after the column, or the only one that has it."""
    own = root / "phenotype" / f"{column}.tsv"
    if own.is_file():
        return own
    having = [path for path in list_folder(root, "phenotype/*.tsv") if column in read_cells(path)[0]]
    if len(having) > 1:
        names = ", ".join(path.name for path in having)
        raise CohortError(f"{root / 'phenotype'} has column {column!r} in several tables ({names}); keep it in one")
    return having[0] if having else None


def _also_scored(root: Path, taken: Path, column: str) -> str:
    """Name of a table with scores that was not read because another table takes precedence."""
    people = root / "participants.tsv"
    rows = read_rows(people) if taken != people and people.is_file() else []
    return people.name if rows and column in rows[0] else ""


def _assessment(row: Mapping[str, str], target: Target, relapses: Mapping[str, Sequence[date]]) -> Assessment:
    patient, where = bids_id(row, "participant_id", "sub-"), row["where"]
    if not patient:
        raise CohortError(f"{where}: no participant_id; give one or remove the row")
    onset = parse_date(row.get("relapse_date", ""), f"{where}, column 'relapse_date'")
    source = row.get(target.source_column, "").casefold()
    return Assessment(
        patient,
        bids_id(row, "session_id", "ses-"),
        row[target.column],
        parse_date(row.get(target.date_column, ""), f"{where}, column {target.date_column!r}"),
        parse_days(row.get("days_since_scan", ""), where),
        "" if source in MISSING else source,
        where,
        (*relapses.get(patient, ()), *([onset] if onset else [])),
    )


def _alike(first: Assessment, second: Assessment, target: Target) -> bool:
    def content(row: Assessment) -> tuple[object, ...]:
        return row.session, _value(row, target), row.assessed, row.days, row.source

    return content(first) == content(second) and (first.assessed is not None or first.days is not None)


def _read_relapses(root: Path) -> dict[str, list[date]]:
    """Onsets of relapses by patient; rows without a date are skipped."""
    onsets: dict[str, list[date]] = {}
    for path in (root / name for name in RELAPSE_TABLES if (root / name).is_file()):
        rows = read_rows(path)
        require_columns(path, rows, ("participant_id", "relapse_date"))
        for row in rows:
            onset = parse_date(row["relapse_date"], f"{path.name} line {row['#']}, column 'relapse_date'")
            if onset is not None:
                onsets.setdefault(bids_id(row, "participant_id", "sub-"), []).append(onset)
    return onsets


def assigned_score(
    rows: Sequence[Assessment], name: tuple[str, str], scanned: date | None, single: bool, rule: Target
) -> tuple[Score | None, str]:
    """The assessment that belongs to a scan, and where it stands.

    One of the wanted source goes before others, then one in the window, then one without a relapse before it, then the nearest.
    Where no window is asked, none of another session goes before those of the scan's own, where these have no date.

    Args:
        rows: The patient's assessments.
        name: Patient and session of the scan; the session is empty where it has none.
        scanned: Day of the scan.
        single: Whether this is the patient's only scan; ``days_since_scan`` then needs no session.
        rule: The label rule.

    Raises:
        CohortError: if the rows leave open which score it is.
    """
    session, scan = name[1], scan_name(*name)
    rows = _of_its_session(rows, session, scanned, single, rule) or rows
    dated = [(days, row) for row in rows if (days := _days(row, session, scanned, single)) is not None]
    if dated:
        scored = [(Score(row.value, days, row.source, _since_relapse(row, days, scanned)), row) for days, row in dated]
        best = min(_distance(score, rule) for score, _ in scored)
        nearest = [(score, row) for score, row in scored if _distance(score, rule) == best]
        _refuse_contradiction([row for _, row in nearest], rule, scan, "on the same day")
        return nearest[0][0], nearest[0][1].where
    same = [row for row in rows if row.session in (session, "")]
    same = [row for row in same if row.source == rule.source] or same
    _refuse_contradiction(same, rule, scan, f"and no dates to choose by; add acq_time and {rule.date_column}")
    return (Score(same[0].value, None, same[0].source), same[0].where) if same else (None, "")


def _of_its_session(
    rows: Sequence[Assessment], session: str, scanned: date | None, single: bool, rule: Target
) -> list[Assessment]:
    """The assessments of the scan's own session where they have no date and no window asks for one; else none."""
    own = [row for row in rows if session and row.session == session]
    undated = all(_days(row, session, scanned, single) is None for row in own)
    return own if undated and not rule.has_window else []


def _distance(score: Score, rule: Target) -> tuple[bool, bool, bool, int, int]:
    assert score.days is not None
    return (
        not rule.takes_source(score.source),
        not rule.in_window(score.days),
        rule.after_relapse(score.since_relapse),
        abs(score.days),
        score.days,
    )


def _days(row: Assessment, session: str, scanned: date | None, single: bool) -> int | None:
    """Days from this scan to an assessment, None if unknown."""
    if row.days is not None and not row.session and not single:
        raise CohortError(f"{row.where}: days_since_scan, but the patient has several scans; add session_id")
    if row.days is not None and row.session in (session, ""):
        return row.days
    return None if row.assessed is None or scanned is None else (row.assessed - scanned).days


def _since_relapse(row: Assessment, days: int, scanned: date | None) -> int | None:
    """Days from the last known onset of a relapse to the assessment, None without a known onset or date."""
    assessed = row.assessed or (scanned + timedelta(days) if scanned else None)
    before = [(assessed - onset).days for onset in row.relapses if onset <= assessed] if assessed else []
    return min(before, default=None)


def _refuse_contradiction(rows: Sequence[Assessment], target: Target, name: str, how: str) -> None:
    other = next((row for row in rows if _value(row, target) != _value(rows[0], target)), None)
    if other is not None:
        both = " and ".join(f"{row.where} ({target.name} {row.value})" for row in (rows[0], other))
        raise CohortError(f"{name} has two scores {how}: {both}; keep one")


def _value(row: Assessment, target: Target) -> float | str:
    value = None if target.is_named else target.value_of(row.value)
    return folded(row.value) if value is None else value
