"""Tables as people keep them, .tsv, .csv and .xlsx with named columns, and their JSON sidecars; errors name file and line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from regions.errors import UserError, did_you_mean

_FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)
_GUARDED = re.compile(r"'+[=+\-@].")
_NUMBER = re.compile(r"[+-]?(\d[\d.,]*(e[+-]?\d+)?|inf|nan)( ?%)?( (\[[\d.,+\- ]*\]|\([\d.,+\- ]*\)|to [+-]?[\d.,]+))?")
MISSING = {"", "n/a", "na", "#n/a", "nan", "none", "null", "-"}

_DELIMITER_LINE = re.compile(r"""["']?sep=([^\w\s"']|\t)["']?[,;\t ]*(?:\n|\Z)""", re.IGNORECASE)


class CohortError(UserError):
    """A cohort, a table or a scan that cannot be used as it is."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a .tsv, .csv or .xlsx file as texts; a byte-order mark, Windows line ends and blank rows are taken care of.

    Each row carries its line number under ``#``, also where the table has such a column. The delimiter is the one that a first
    line ``sep=;`` names, as spreadsheet programs write it, else a tab for .tsv, else the commonest of comma, semicolon and tab
    in the header.

    Raises:
        CohortError: if the file is empty, repeats a column, is not UTF-8 or not well quoted, if a row has another number of
            cells than the header, or if a cell holds a tab, a line break or a quotation mark: no table of a study could.
    """
    header, rows = read_cells(path)
    return [_row(path, header, number, cells) for number, cells in rows]


def read_cells(path: Path, header_row: int = 1) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table, and line number and cells of every row below that is not blank.

    Args:
        path: A .tsv, .csv or .xlsx file; of the latter the first sheet.
        header_row: Which of the rows that are not blank names the columns.

    Raises:
        CohortError: see ``read_rows``.
    """
    lines = _sheet(path) if path.suffix.lower() in (".xlsx", ".xlsm") else _text_lines(path)
    filled = [(number, cells) for number, cells in lines if any(cells)]
    if len(filled) < header_row:
        raise CohortError(f"{path} is empty; its first line must name the columns")
    header = filled[header_row - 1][1]
    repeated = [name for name, count in Counter(header).items() if count > 1 and name]
    if repeated:
        raise CohortError(f"{path} names column {repeated[0]!r} twice; rename or remove one")
    return header, filled[header_row:]


def _text_lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"{error.reason} at byte {error.start}"
        raise CohortError(f"{path} is not UTF-8 text ({wrong}); save it as UTF-8 .tsv or .csv") from None
    declared = _DELIMITER_LINE.match(text)
    first = next((line for line in text.split("\n") if line.strip(" \t\r,;")), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    if declared:
        text, delimiter = "\n" + text[declared.end() :], declared[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise CohortError(f"{path} line {reader.line_num}: {error}; check the quotation marks") from None


def _sheet(path: Path) -> list[tuple[int, list[str]]]:
    """Rows of the first sheet of a spreadsheet, as texts; formulas count with their last value."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise CohortError(
            f"{path} needs the package openpyxl (pip install 'regionwise[prepare]'), or save it as .csv"
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
        book.close()
    except (BadZipFile, KeyError, ValueError, IndexError, EOFError) as error:
        raise CohortError(f"{path} is not a readable spreadsheet ({error}); save it as .csv") from None
    width = max((len(row) for row in rows), default=0)
    return [(n, [_cell(value) for value in row] + [""] * (width - len(row))) for n, row in enumerate(rows, start=1)]


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split()) if value is not None else ""


def _row(path: Path, header: Sequence[str], number: int, cells: Sequence[str]) -> dict[str, str]:
    where = f"{path} line {number}"
    if len(cells) != len(header):
        raise CohortError(f"{where}: {len(cells)} cells where the header has {len(header)}; give each column one cell")
    for name, cell in zip(header, cells, strict=True):
        if cell and not name:
            raise CohortError(f"{where}: {cell!r} is in a column without a name; name it in the header")
        if set(cell) & set('\t\n\r"'):
            raise CohortError(f"{where}, column {name!r}: {cell!r} holds a tab, line break or quotation mark; remove it")
    texts = (cell[1:] if _GUARDED.match(cell) else cell for cell in cells)
    return {name: text for name, text in zip(header, texts, strict=True) if name} | {"#": str(number)}


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
            hint = did_you_mean(name, present)
            raise CohortError(f"{path} has no column {name!r}{hint}; it has: {', '.join(present)}")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object (sidecar, data dictionary); a byte-order mark is skipped.

    Raises:
        CohortError: if the file is not JSON or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CohortError(f"{path} is not JSON ({error}); fix or remove it") from None
    if not isinstance(content, dict):
        raise CohortError(f"{path} does not hold a JSON object; fix or remove it")
    return content


def tsv_text(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A tab-separated table as text, one line per row below the column names; None is an empty cell.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, which ``read_rows`` takes off again.
    """
    return "".join("\t".join(map(_guarded, row)) + "\n" for row in (columns, *rows))


def _guarded(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def bids_id(row: Mapping[str, str], column: str, prefix: str) -> str:
    """A participant or session with its prefix (``sub-``, ``ses-``), however it was written; empty where it is missing."""
    text = row.get(column, "")
    bare = text[len(prefix) :] if text.lower().startswith(prefix) else text
    return "" if text.lower() in MISSING else prefix + bare


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
