"""Tables as people keep them: .tsv and .csv with named columns, read as text, every message with file and line."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.cohort import MISSING, Candidate, CohortError, Score


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a .tsv or .csv file as texts; a byte-order mark, Windows line ends and blank rows are taken care of.

    Each row carries its line number under ``#``. The delimiter is a tab for .tsv, else the commonest of comma and semicolon in
    the first line.

    Raises:
        CohortError: if the file is empty, repeats a column, is not UTF-8, or a row has another number of cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CohortError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise CohortError(f"{path} is empty; its first line must name the columns")
    delimiter = "\t" if path.suffix == ".tsv" else max(",;\t", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter)
    header = [name.strip() for name in next(reader)]
    repeated = [name for name, count in Counter(header).items() if count > 1 and name]
    if repeated:
        raise CohortError(f"{path} names column {repeated[0]!r} twice")
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise CohortError(f"{path} line {reader.line_num}: {len(cells)} cells where the header has {len(header)}")
        rows.append({"#": str(reader.line_num)} | {n: c.strip() for n, c in zip(header, cells, strict=True)})
    return rows


def require_columns(path: Path, rows: Sequence[Mapping[str, str]], needed: Iterable[str]) -> None:
    """Refuse a table that lacks a column, naming the likeliest misspelling.

    Raises:
        CohortError: naming the missing column and those that are there.
    """
    present = [name for name in (rows[0] if rows else {}) if name != "#"]
    for name in needed:
        if name not in present:
            close = difflib.get_close_matches(name, present, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise CohortError(f"{path} has no column {name!r}{hint}; it has: {', '.join(present) or 'no rows'}")


PATH_COLUMNS = ("t1w", "flair", "mask", "labels")
TABLE_COLUMNS = ("patient", "session", "edss", "days", "dialect", *PATH_COLUMNS)


def read_table(path: Path) -> list[Candidate]:
    """Candidates from one plain table.

    Columns: ``patient``, ``t1w``, ``flair``, ``edss``; optional ``session``, ``days`` (from scan to EDSS), ``mask`` (brain mask),
    ``labels`` (label map) with ``dialect``, and any covariates (``age``, ``sex``, ``site``, ...). Paths are relative to the table.

    Raises:
        CohortError: if a column or a patient's name is missing, or if ``days`` is not a whole number.
    """
    rows = read_rows(path)
    require_columns(path, rows, ("patient", "t1w", "flair", "edss"))
    return [_table_candidate(path, row) for row in rows]


def _table_candidate(path: Path, row: Mapping[str, str]) -> Candidate:
    where = f"{path.name} line {row['#']}"
    if row["patient"].lower() in MISSING:
        raise CohortError(f"{path} line {row['#']}: no patient; each row needs one, repeated scans repeat the name")
    files: dict[str, Path | None] = {
        name: None if row.get(name, "").lower() in MISSING else path.parent / row[name] for name in PATH_COLUMNS
    }
    covariates = {n: v for n, v in row.items() if n not in TABLE_COLUMNS and n != "#" and v.lower() not in MISSING}
    return Candidate(
        patient=row["patient"],
        session=row.get("session", ""),
        t1w=files["t1w"],
        flair=files["flair"],
        score=Score(row["edss"], parse_days(row.get("days", ""), where)),
        where=where,
        mask=files["mask"],
        labels=files["labels"],
        dialect=row.get("dialect") or "freesurfer",
        covariates=covariates,
    )


def parse_days(text: str, where: str) -> int | None:
    """A whole number of days, or None where it is missing.

    Raises:
        CohortError: if the text is something else.
    """
    if text.lower() in MISSING:
        return None
    try:
        return int(text)
    except ValueError:
        raise CohortError(f"{where}: days is {text!r}; give a whole number of days from scan to EDSS, or leave it empty") from None
