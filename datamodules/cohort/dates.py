"""Dates as people write them, and the day of a scan.

The day of a scan is read from the first of these, the most exact one first::

    sub-X/[ses-Y/]sub-X[_ses-Y]_scans.tsv     filename, acq_time
    sub-X/sub-X_sessions.tsv                  session_id, acq_time
    sessions.tsv                              participant_id, session_id, acq_time
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from datamodules.cohort.images import title
from datamodules.cohort.records import scan_name
from datamodules.files.tables import MISSING, CohortError, bids_id, read_rows, require_columns

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip


def parse_date(text: str, where: str) -> date | None:
    """A date, or None where it is missing.

    Read are ISO 8601 (2020-03-14, also with a time), 14.03.2020, 14-Mar-2020, 2020/03/14, and 14/03/2020 or 03/14/2020 where
    only one of the two readings is a date.

    Args:
        text: What stands there.
        where: File, row and column, for the message.

    Raises:
        CohortError: if the text is not a date, or can be two.
    """
    if text.lower() in MISSING:
        return None
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        pass
    day = re.split(r"[T ](?=[0-9]{1,2}:)", text)[0]
    readings = _readings(day)
    if len(readings) > 1:
        both = " or ".join(reading.isoformat() for reading in readings)
        raise CohortError(f"{where}: {text!r} can be {both}; write YYYY-MM-DD")
    if not readings:
        hint = ", a spreadsheet's day number" if re.fullmatch(r"[0-9]{5}(\.0*)?", text) else ""
        raise CohortError(f"{where}: {text!r} is not a date{hint}; write YYYY-MM-DD")
    return readings[0]


def _readings(text: str) -> list[date]:
    """Every date that a text can mean, sorted."""
    if match := re.fullmatch(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})", text):
        wanted = [(int(match[1]), int(match[2]), int(match[3]))]
    elif match := re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})", text):
        wanted = [(int(match[3]), int(match[2]), int(match[1]))]
    elif match := re.fullmatch(r"([0-9]{1,2})[/-]([0-9]{1,2})[/-]([0-9]{4})", text):
        year, first, second = int(match[3]), int(match[1]), int(match[2])
        wanted = [(year, first, second), (year, second, first)]
    elif match := re.fullmatch(r"([0-9]{1,2})[ .-]+([A-Za-z]{3,9})[ .,-]+([0-9]{4})", text):
        months = [number for number, name in enumerate(MONTHS, start=1) if name.startswith(match[2].lower())]
        wanted = [(int(match[3]), month, int(match[1])) for month in months]
    else:
        return []
    dates = set()
    for year, month, day in wanted:
        try:
            dates.add(date(year, month, day))
        except ValueError:
            continue
    return sorted(dates)


class ScanDates:
    """The day of every scan of a BIDS dataset; the table of all sessions is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / "sessions.tsv"
        self.all_sessions: list[dict[str, str]] = []
        if path.is_file():
            self.all_sessions = read_rows(path)
            require_columns(path, self.all_sessions, ("participant_id", "session_id"))

    def of(self, patient: str, session: str, image: Path | None = None, kind: str = "t1w") -> date | None:
        """The day of a scan, None if no table gives it.

        Args:
            patient: ``sub-X``.
            session: ``ses-Y``, or empty.
            image: The file, where the row of another one of its kind in scans.tsv would do harm.
            kind: The image whose day counts, by name; that of the T1w where scans.tsv has no such image.

        Raises:
            CohortError: if a session has two rows, a text is not a date, or two tables differ by more than a day.
        """
        day_of = {
            "scans.tsv": self._from_scans(patient, session, image, kind),
            "sessions.tsv": self._from_sessions(patient, session),
        }
        days = {name: day for name, day in day_of.items() if day is not None}
        if len(days) > 1 and abs((days["scans.tsv"] - days["sessions.tsv"]).days) > 1:
            both = " and ".join(f"{day} in its {name}" for name, day in days.items())
            raise CohortError(f"{scan_name(patient, session)} was scanned on {both}; fix the wrong date")
        return next(iter(days.values()), None)

    def _from_sessions(self, patient: str, session: str) -> date | None:
        path = self.root / patient / f"{patient}_sessions.tsv"
        if session and path.is_file():
            rows = read_rows(path)
            require_columns(path, rows, ("session_id",))
        else:
            path = self.root / "sessions.tsv"
            rows = [row for row in self.all_sessions if bids_id(row, "participant_id", "sub-") == patient]
        matches = [row for row in rows if bids_id(row, "session_id", "ses-") == session]
        if len(matches) > 1 and len({row.get("acq_time", "") for row in matches}) > 1:
            lines = f"lines {matches[0]['#']} and {matches[1]['#']}"
            raise CohortError(f"{path} {lines}: {session or patient} occurs twice; keep one row for each session")
        return _acquired(matches[0], path) if matches else None

    def _from_scans(self, patient: str, session: str, image: Path | None, kind: str) -> date | None:
        stem = f"{patient}_{session}" if session else patient
        path = self.root / patient / session / f"{stem}_scans.tsv"
        if not path.is_file():
            return None
        rows = read_rows(path)
        require_columns(path, rows, ("filename",))
        suffix = kind.rpartition("_")[2]
        kind, images = next(((name, of) for name in (suffix, "t1w") if (of := _of_kind(rows, name))), (suffix, []))
        matches = [row for row in images if image is not None and Path(row["filename"]).name == image.name] or images
        days = {day for row in matches if (day := _acquired(row, path)) is not None}
        if len(days) > 1:
            raise CohortError(
                f"{path} gives the {title(kind)} of {stem} {len(days)} dates ({', '.join(map(str, sorted(days)))}); keep one"
            )
        return next(iter(days), None)


def _of_kind(rows: Sequence[Mapping[str, str]], suffix: str) -> list[Mapping[str, str]]:
    return [row for row in rows if re.search(rf"_{suffix}\.nii(\.gz)?$", row["filename"], re.IGNORECASE)]


def _acquired(row: Mapping[str, str], path: Path) -> date | None:
    return parse_date(row.get("acq_time", ""), f"{path.name} line {row['#']}, column 'acq_time'")
