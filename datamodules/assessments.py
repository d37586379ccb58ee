"""Which EDSS assessment belongs to which scan.

A score belongs to a scan by date, not by session name: the assessment nearest to the scan among those in the label window wins,
the earlier of two equally near. Only where there are no dates does the session's name decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from datamodules.cohort import MISSING, CohortError, LabelRule, Score, scan_name
from datamodules.tables import bids_id, parse_days, read_rows, require_columns

Row = Mapping[str, str]


def read_scores(root: Path) -> dict[str, list[Row]]:
    """Rows of phenotype/edss.tsv by patient, with ``session_id`` as ses-Y or empty, and ``where`` for messages.

    Raises:
        CohortError: if the table is missing, lacks a column, or a row lacks its patient.
    """
    path = root / "phenotype" / "edss.tsv"
    if not path.is_file():
        raise CohortError(f"{path} is missing; it needs participant_id, edss and edss_date or days_since_scan")
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id", "edss"))
    scores: dict[str, list[Row]] = {}
    for row in rows:
        patient, where = bids_id(row, "participant_id", "sub-"), f"{path.name} line {row['#']}"
        if not patient:
            raise CohortError(f"{where}: no participant_id; give one or remove the row")
        scores.setdefault(patient, []).append(row | {"where": where, "session_id": bids_id(row, "session_id", "ses-")})
    return scores


def scan_date(root: Path, patient: str, session: str) -> date | None:
    """The day of a scan from sub-X_sessions.tsv, None where it is not told.

    Raises:
        CohortError: if the session has two rows, or a text that is no date.
    """
    path = root / patient / f"{patient}_sessions.tsv"
    if not session or not path.is_file():
        return None
    rows = read_rows(path)
    require_columns(path, rows, ("session_id",))
    own = [row for row in rows if bids_id(row, "session_id", "ses-") == session]
    if len(own) > 1:
        raise CohortError(
            f"{path} lines {own[0]['#']} and {own[1]['#']}: {session} occurs twice; keep one row for each session"
        )
    return parse_date(own[0].get("acq_time", ""), f"{path.name} line {own[0]['#']}") if own else None


def parse_date(text: str, where: str) -> date | None:
    """A date from ISO 8601 text, or None where it is missing.

    Raises:
        CohortError: if the text is something else.
    """
    if text.lower() in MISSING:
        return None
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise CohortError(f"{where}: {text!r} is not a date; write YYYY-MM-DD") from None


def assigned_score(
    rows: Sequence[Row], patient: str, session: str, scanned: date | None, single: bool, rule: LabelRule
) -> tuple[Score | None, str]:
    """The assessment that belongs to a scan, and where it stands: in the window before outside of it, then the nearest.

    Args:
        rows: The patient's rows from ``read_scores``.
        patient: For messages.
        session: The scan's session, empty where it has none.
        scanned: Day of the scan.
        single: Whether this is the patient's only scan; ``days_since_scan`` then needs no session.
        rule: The label window.

    Raises:
        CohortError: if the rows leave open which score it is.
    """
    rows = [row for row in rows if row["edss"].lower() not in MISSING]
    days_of = [_days(row, session, scanned, single) for row in rows]
    dated = [(days, row) for days, row in zip(days_of, rows, strict=True) if days is not None]
    if dated:
        best = min(_distance(days, rule) for days, _ in dated)
        nearest = [(days, row) for days, row in dated if _distance(days, rule) == best]
        _refuse_contradiction([row for _, row in nearest], scan_name(patient, session), "on the same day")
        days, row = nearest[0]
        return Score(row["edss"], days), row["where"]
    same = [row for row in rows if row["session_id"] in (session, "")]
    _refuse_contradiction(same, scan_name(patient, session), "and no dates to choose by; add acq_time and edss_date")
    return (Score(same[0]["edss"], None), same[0]["where"]) if same else (None, "")


def _distance(days: int, rule: LabelRule) -> tuple[bool, int, int]:
    return not rule.min_days <= days <= rule.max_days, abs(days), days


def _days(row: Row, session: str, scanned: date | None, single: bool) -> int | None:
    """Days from this scan to an assessment, None where they cannot be told."""
    days = parse_days(row.get("days_since_scan", ""), row["where"])
    assessed = parse_date(row.get("edss_date", ""), row["where"])
    if days is not None and not row["session_id"] and not single:
        raise CohortError(f"{row['where']}: days_since_scan, but the patient has several scans; add session_id")
    if days is not None and (row["session_id"] == session or not row["session_id"]):
        return days
    return None if assessed is None or scanned is None else (assessed - scanned).days


def _refuse_contradiction(rows: Sequence[Row], name: str, how: str) -> None:
    if len({row["edss"] for row in rows}) > 1:
        both = f"{rows[0]['where']} (EDSS {rows[0]['edss']}) and {rows[1]['where']} (EDSS {rows[1]['edss']})"
        raise CohortError(f"{name} has two scores {how}: {both}; keep one")
