"""Tables as people keep them: .tsv and .csv with named columns, read as text, every message with file and line."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.cohort import MISSING, Candidate, CohortError, Score


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a .tsv or .csv file as texts; a byte-order mark, Windows line ends and blank rows are taken care of.

    Each row carries its line number under ``#``, also where the table has such a column. The delimiter is a tab for .tsv, else
    the commonest of comma, semicolon and tab in the header.

    Raises:
        CohortError: if the file is empty, repeats a column, is not UTF-8 or not well quoted, if a row has another number of
            cells than the header, or if a cell holds a tab, a line break or a quotation mark: no table of a study could.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"{error.reason} at byte {error.start}"
        raise CohortError(f"{path} is not UTF-8 text ({wrong}); save it as UTF-8 .tsv or .csv") from None
    first = next((line for line in text.split("\n") if line.strip(" \t\r,;")), "")
    if not first:
        raise CohortError(f"{path} is empty; its first line must name the columns")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise CohortError(f"{path} line {reader.line_num}: {error}; check the quotation marks") from None
    (_, header), *rows = [(number, cells) for number, cells in lines if any(cells)]
    repeated = [name for name, count in Counter(header).items() if count > 1 and name]
    if repeated:
        raise CohortError(f"{path} names column {repeated[0]!r} twice; rename or remove one")
    return [_row(path, header, number, cells) for number, cells in rows]


def _row(path: Path, header: Sequence[str], number: int, cells: Sequence[str]) -> dict[str, str]:
    where = f"{path} line {number}"
    if len(cells) != len(header):
        raise CohortError(f"{where}: {len(cells)} cells where the header has {len(header)}; give each column one cell")
    for name, cell in zip(header, cells, strict=True):
        if cell and not name:
            raise CohortError(f"{where}: {cell!r} stands in a column without a name; name it in the header")
        if set(cell) & set('\t\n\r"'):
            raise CohortError(f"{where}, column {name!r}: {cell!r} holds a tab, line break or quotation mark; remove it")
    return {name: cell for name, cell in zip(header, cells, strict=True) if name} | {"#": str(number)}


def require_columns(path: Path, rows: Sequence[Mapping[str, str]], needed: Iterable[str]) -> None:
    """Refuse a table that lacks a column, naming the likeliest misspelling.

    Raises:
        CohortError: naming the missing column and those that are there, or if the table has no rows.
    """
    if not rows:
        raise CohortError(f"{path} has no rows below its header")
    present = [name for name in rows[0] if name != "#"]
    for name in needed:
        if name not in present:
            close = difflib.get_close_matches(name, [one.lower() for one in present], n=1)
            alike = next((one for one in present if close and one.lower() == close[0]), None)
            hint = f" (did you mean {alike!r}?)" if alike else ""
            raise CohortError(f"{path} has no column {name!r}{hint}; it has: {', '.join(present)}")


def bids_id(row: Mapping[str, str], column: str, prefix: str) -> str:
    """A participant or session with its prefix (``sub-``, ``ses-``), however it was written; empty where it is missing."""
    text = row.get(column, "")
    return "" if text.lower() in MISSING else prefix + text.removeprefix(prefix)


PATH_COLUMNS = ("t1w", "flair", "mask", "labels")
TABLE_COLUMNS = ("patient", "session", "edss", "days", "label", "dialect", *PATH_COLUMNS)
"""Columns with a meaning of their own; any other is a covariate. ``label`` follows from ``edss`` and is not read."""


def read_table(path: Path) -> list[Candidate]:
    """Candidates from one plain table.

    Columns: ``patient``, ``t1w``, ``flair``, ``edss``; optional ``session``, ``days`` (from scan to EDSS), ``mask`` (brain
    mask), ``labels`` (label map) with ``dialect`` (a name or a .tsv file, see ``regions.labels``), and any covariates (``age``,
    ``sex``, ``site``, ...). Paths are relative to the table.

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
    given = {name: value for name, value in row.items() if value.lower() not in MISSING}
    files = {name: path.parent / given[name] if name in given else None for name in PATH_COLUMNS}
    dialect = given.get("dialect", "freesurfer")
    return Candidate(
        patient=row["patient"],
        session=given.get("session", ""),
        t1w=files["t1w"],
        flair=files["flair"],
        score=Score(row["edss"], parse_days(row.get("days", ""), where)),
        where=where,
        mask=files["mask"],
        labels=files["labels"],
        dialect=str(path.parent / dialect) if dialect.endswith(".tsv") else dialect.lower(),
        covariates={name: value for name, value in given.items() if name not in (*TABLE_COLUMNS, "#")},
    )


def parse_days(text: str, where: str) -> int | None:
    """A whole number of days, also written as 12.0, or None where it is missing.

    Raises:
        CohortError: if the text is something else.
    """
    if text.lower() in MISSING:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,6}(\.0*)?", text):
        raise CohortError(f"{where}: days is {text!r}; give a whole number of days from scan to EDSS, or leave it empty")
    return int(float(text))
