"""Covariates of patients as people write them: names of columns, decimal commas, ages, sexes, field strengths.

The one place that knows under which names and spellings a covariate is found. Ambiguous values are refused by row and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from datamodules.files.tables import MISSING, CohortError

OLDEST = 120
"""Years; an age above this, or below 0, is taken as a typing error."""
_YEARS = r"([0-9]{1,3}(?:\.[0-9]*)?)"
_CAPPED = re.compile(rf"(?:>=|=>|[>≥≧]|over)\s*{_YEARS}|{_YEARS}\s*(?:\+|(?:and|or) (?:over|older|above))", re.IGNORECASE)
"""Ages that were capped so that nobody is known by a great age: 89+, >89, ≥ 90."""
_SCANNERS = ("scanner", "model", "scanner_model", "manufacturers_model_name", "manufacturersmodelname")
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "age": ("age", "age_years", "age_at_scan"),
        "sex": ("sex", "gender"),
        "field_strength": ("field_strength", "magnetic_field_strength", "magneticfieldstrength", "fieldstrength"),
        "model": _SCANNERS,
        "scanner": _SCANNERS,
        "vendor": ("vendor", "manufacturer"),
        "site": ("site", "center", "centre", "hospital"),
    }
)
"""Covariate -> names of its column, the first with a value counts; upper and lower case are the same."""
SEXES: Mapping[str, str] = MappingProxyType(
    {"f": "F", "female": "F", "w": "F", "woman": "F", "weiblich": "F", "m": "M", "male": "M", "man": "M", "männlich": "M"}
)
NAMED = 10
"""Faults that one message lists."""

Row = Mapping[str, str]
Cells = TypeVar("Cells")


def columns_of(columns: Mapping[str, Cells], covariate: str) -> list[Cells]:
    """What a table holds of a covariate, under each of its names that the table has, the usual name first."""
    by_name = {name.lower(): cells for name, cells in columns.items()}
    return [by_name[name] for name in COLUMNS.get(covariate, (covariate.lower(),)) if name in by_name]


def usual_spelling(covariate: str, text: str) -> str:
    """A value as the analysis spells it: sexes F and M, field strengths ``3.0``; empty where it is unknown."""
    text = text.strip()
    if text.lower() in MISSING:
        return ""
    if covariate == "sex":
        return SEXES.get(text.lower(), "")
    if covariate == "field_strength" and not math.isnan(tesla := number_of(text)):
        return f"{tesla}"
    return text


def text_of(covariates: Row, covariate: str) -> str:
    """The value of a covariate of one scan in its usual spelling, empty where it is unknown."""
    texts = (usual_spelling(covariate, text) for text in columns_of(covariates, covariate))
    return next((text for text in texts if text), "")


def number_of(text: str) -> float:
    """The finite number at the start of a text such as ``3.0``, ``3,0`` or ``3 Tesla``; NaN where there is none."""
    match = re.match(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?", text)
    value = float(match[0].replace(",", ".")) if match else math.nan
    return value if math.isfinite(value) else math.nan


def clean_covariates(path: Path, rows: Sequence[Row], names: Sequence[str]) -> list[dict[str, str]]:
    """The covariates of each row, with decimal points, plausible ages, and sexes as F and M; missing cells are left out.

    A capped age is written ``89+``, until ``split_capped_ages``.

    Args:
        path: The table, for messages.
        rows: Rows from ``read_rows``.
        names: Columns that are covariates.

    Raises:
        CohortError: naming rows and columns of all implausible ages, and of numbers that a comma makes ambiguous; two columns
            whose names differ in case alone.
    """
    spelled: dict[str, str] = {}
    for name in names:
        if spelled.setdefault(name.lower(), name) != name:
            raise CohortError(f"{path} has the columns {spelled[name.lower()]!r} and {name!r}; rename or remove one")
    columns = {name: decimal_points([row.get(name, "") for row in rows], _locations(path, rows, name)) for name in names}
    ages = [name for name in names if name.lower() in COLUMNS["age"]]
    columns |= {name: [_usual_age(cell) for cell in columns[name]] for name in ages}
    faults = [fault for name in ages for fault in _odd_ages(columns[name], _locations(path, rows, name))]
    if faults:
        more = f"\n  and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise CohortError("\n  ".join(faults[:NAMED]) + more)
    sexes = {
        name: [SEXES.get(cell.lower(), cell) for cell in columns[name]] for name in names if name.lower() in COLUMNS["sex"]
    }
    columns |= sexes
    return [{name: columns[name][at] for name in names if columns[name][at].lower() not in MISSING} for at in range(len(rows))]


def _locations(path: Path, rows: Sequence[Row], name: str) -> list[str]:
    return [f"{path.name} line {row['#']}, column {name!r}" for row in rows]


def decimal_points(cells: list[str], where: Sequence[str]) -> list[str]:
    """Decimal commas as points; three digits after a comma may also be thousands, which other cells of the column decide.

    Args:
        cells: Those of one column.
        where: Where each stands, for the message.

    Raises:
        CohortError: naming a cell that can be two numbers.
    """
    numbers = [re.fullmatch(r"[+-]?([0-9]+),([0-9]+)", cell) for cell in cells]
    if not any(numbers):
        return cells
    open_cells = [at for at, number in enumerate(numbers) if number and len(number[2]) == 3 and number[1] not in ("0", "00")]
    sure = any(number and at not in open_cells for at, number in enumerate(numbers))
    pointed = any(re.fullmatch(r"[+-]?[0-9]+\.[0-9]+", cell) for cell in cells)
    if open_cells and (pointed or not sure):
        cell = cells[open_cells[0]]
        both = f"{cell.replace(',', '.')} or {cell.replace(',', '')}"
        raise CohortError(f"{where[open_cells[0]]}: {cell!r} can be {both}; write it with a point")
    return [cell.replace(",", ".") if number else cell for cell, number in zip(cells, numbers, strict=True)]


def _usual_age(cell: str) -> str:
    capped = _CAPPED.fullmatch(cell)
    return f"{capped[1] or capped[2]}+" if capped else cell


def uncapped_age(text: str) -> str:
    """An age that was capped (``89+``) as the number that it is capped at; any other text as it stands."""
    return _usual_age(text.strip()).removesuffix("+")


def split_capped_ages(covariates: Row) -> tuple[dict[str, str], list[str]]:
    """Covariates with each capped age as the number that it is capped at, and the capped ages as they stood (``89+``)."""
    capped = {name: cell for name, cell in covariates.items() if name.lower() in COLUMNS["age"] and cell.endswith("+")}
    return {**covariates, **{name: cell[:-1] for name, cell in capped.items()}}, list(capped.values())


def _odd_ages(cells: Sequence[str], where: Sequence[str]) -> list[str]:
    faults = []
    for cell, location in zip(cells, where, strict=True):
        if cell.lower() in MISSING:
            continue
        years = cell.removesuffix("+")
        number = re.fullmatch(r"[+-]?[0-9]{1,4}(\.[0-9]*)?", years)
        if number is None or not 0 <= float(years) <= OLDEST or cell.startswith("-"):
            problem = f"{cell!r} is not an age in years (0 to {OLDEST})"
            faults.append(f"{location}: {problem}; fix it (a capped one is written 89+) or leave it empty")
    return faults


def clean_cells(cells: Mapping[str, str], where: str) -> dict[str, str]:
    """The covariates of one patient, from a source without decimal commas; see ``clean_covariates``.

    Raises:
        CohortError: naming an implausible age.
    """
    cells = {name: _usual_age(cell) if name.lower() in COLUMNS["age"] else cell for name, cell in cells.items()}
    faults = [
        fault
        for name in cells
        if name.lower() in COLUMNS["age"]
        for fault in _odd_ages([cells[name]], [f"{where}, column {name!r}"])
    ]
    if faults:
        raise CohortError(faults[0])
    given = {name: cell for name, cell in cells.items() if cell.lower() not in MISSING}
    return given | {name: SEXES.get(cell.lower(), cell) for name, cell in given.items() if name.lower() in COLUMNS["sex"]}
