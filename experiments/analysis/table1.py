"""Table 1: who the patients are, by class, by test part and against external cohorts, what is missing, how they differ.

Unit: the patient, with the values of the first scan in the group. A patient whose class changes stands in both class columns,
once in each; in all others once. ``table1.tsv`` is for reading, ``table1.json`` has every number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.covariates import COLUMNS
from datamodules.cohort.images import image_columns, indicated, indicator, title
from datamodules.cohort.splits import Splits
from datamodules.files.atomic import write_text
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import tsv_text
from datamodules.preparation.deidentify import is_allowed_column
from experiments.analysis.differences import difference_of_classes, difference_of_numbers
from experiments.runtime.words import rounded
from experiments.study.scan_table import ScanTable

CLASSES = {"sex": "sex", "site": "site", "vendor": "vendor", "scanner": "scanner", "field_strength": "field strength, T"}
NOT_COVARIATES = {"patient", "session", "days", "label", "t1w", "flair", "mask", "labels", "dialect"}
MOST_CLASSES = 12
"""A column of more different texts than this is no class."""
ENOUGH = 0.1
"""Standardised difference above which groups are called unlike (Austin 2009, see ``differences``)."""


@dataclass(frozen=True)
class Group:
    """Rows of a scan table: one scan of each patient, and how many scans the patients have in the group."""

    id: str
    title: str
    table: ScanTable
    rows: npt.NDArray[np.int64]
    scans: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Variable:
    """One variable of the table."""

    name: str
    title: str
    is_number: bool


def groups_of(scans: ScanTable, splits: Splits | None, external: Mapping[str, ScanTable] | None = None) -> list[Group]:
    """All patients, the two classes, the patients of each test part, and external cohorts.

    Args:
        scans: The study's scans.
        splits: Part of each patient; None where there is no split, and then no test parts.
        external: Scans of external cohorts by name.
    """
    part = np.array([splits.part[patient] if splits else 0 for patient in scans.patient.tolist()])
    classes = () if scans.target.is_number else ("negative", "positive")
    groups = [
        _group("all", "all", scans, np.ones(part.size, dtype=bool)),
        *(_group(name, name, scans, scans.label == label) for label, name in enumerate(classes)),
    ]
    if splits:
        parts = [(f"fold-{fold}", f"test {splits.title(fold)}", fold) for fold in range(splits.folds)]
        groups += [_group(name, title, scans, part == fold) for name, title, fold in parts]
    others = [
        _group(f"external-{name}", f"external: {name}", table, np.ones(table.patient.size, dtype=bool))
        for name, table in (external or {}).items()
    ]
    return groups + others


def _group(name: str, title: str, table: ScanTable, chosen: npt.NDArray[np.bool_]) -> Group:
    rows = np.flatnonzero(chosen)
    _, first, counts = np.unique(table.patient[rows], return_index=True, return_counts=True)
    return Group(name, title, table, rows[first], counts)


def variables_of(scans: ScanTable) -> tuple[list[Variable], list[str]]:
    """The variables that any scan has, and the columns that are left out.

    Table 1 is made to be shown, so that only columns with a name that ``deidentify`` allows enter it: a column of names or of
    birth places would otherwise stand in it level by level. What is neither a number nor a class is left out as well.
    """
    target = scans.target
    titles = {"age": "age, years"} | {target.column: target.title, "days": f"days from scan to {target.name}"}
    variables = [
        Variable(name, title, name != target.column or not target.is_named)
        for name, title in (titles | {"scans": "scans of the patient"}).items()
        if name in (target.column, "scans") or _any(scans, name)
    ]
    same = scans.has("vendor") and bool((scans.text("scanner") == scans.text("vendor")).all())
    classes = [name for name in CLASSES if scans.has(name) and not (name == "scanner" and same)]
    variables += [Variable(name, CLASSES[name], False) for name in classes]
    told = {indicator(name): f"has {title(name)}" for name in indicated(scans.columns)}
    variables += [Variable(name, words, False) for name, words in told.items()]
    taken = NOT_COVARIATES | set(told) | {alias for aliases in COLUMNS.values() for alias in aliases}
    odd = []
    for name in scans.columns:
        if name.lower() in taken or target.owns(name):
            continue
        texts = [text for text in scans.text(name).tolist() if text]
        if image_columns([{name: text} for text in texts], ()):
            continue
        if not texts:
            continue
        numbers = np.isfinite(scans.number(name))
        if not is_allowed_column(name):
            odd.append(name)
        elif numbers.sum() >= 0.9 * len(texts) and len(set(texts)) > 2:
            variables.append(Variable(name, name.replace("_", " "), True))
        elif len(set(texts)) <= MOST_CLASSES:
            variables.append(Variable(name, name.replace("_", " "), False))
        else:
            odd.append(name)
    return variables, odd


def _any(scans: ScanTable, name: str) -> bool:
    values = scans.days if name == "days" else scans.number(name)
    return bool(np.isfinite(values).any())


def numbers_in(group: Group, name: str) -> npt.NDArray[np.float64]:
    """(patients,) values of a number, nan where missing."""
    if name == "scans":
        return group.scans.astype(np.float64)
    special = {group.table.target.column: group.table.value, "days": group.table.days}
    return np.asarray(special[name] if name in special else group.table.number(name))[group.rows]


def classes_in(group: Group, name: str) -> list[str]:
    """(patients,) classes, an empty text where missing."""
    table = group.table
    values: list[str] = (table.columns[name] if name == table.target.column else table.text(name))[group.rows].tolist()
    return values


def table1(groups: Sequence[Group], variables: Sequence[Variable]) -> dict[str, Any]:
    """Every cell and every difference.

    Returns:
        ``groups``: id, title, patients, scans. ``rows``: variable, title, level (None for a number), missing by group, cells by
        group (a number's n, mean, sd, median, q1, q3; a class's n and share of those known), and on a variable's first row the
        standardised differences: ``classes`` positive against negative, ``folds`` the largest of a test part against all
        others, ``external`` by cohort against all internal patients.
    """
    rows: list[dict[str, Any]] = []
    for variable in variables:
        rows += _number_rows(groups, variable) if variable.is_number else _class_rows(groups, variable)
    facts = [{"id": g.id, "title": g.title, "patients": int(g.rows.size), "scans": int(g.scans.sum())} for g in groups]
    return {"groups": facts, "rows": rows}


def _number_rows(groups: Sequence[Group], variable: Variable) -> list[dict[str, Any]]:
    cells, missing = {}, {}
    for group in groups:
        values = numbers_in(group, variable.name)
        known = values[np.isfinite(values)]
        missing[group.id] = int(values.size - known.size)
        cells[group.id] = _described(known)
    differences = _differences(
        groups, lambda a, b: difference_of_numbers(numbers_in(a, variable.name), numbers_in(b, variable.name))
    )
    return [{"variable": variable.name, "title": variable.title, "level": None, "missing": missing, "cells": cells,
             "differences": differences}]  # fmt: skip


def _described(known: npt.NDArray[np.float64]) -> dict[str, float | int | None]:
    if not known.size:
        return dict.fromkeys(("mean", "sd", "median", "q1", "q3"), None) | {"n": 0}
    q1, median, q3 = (float(value) for value in np.percentile(known, [25, 50, 75]))
    sd = float(known.std(ddof=1)) if known.size > 1 else None
    return {"n": int(known.size), "mean": float(known.mean()), "sd": sd, "median": median, "q1": q1, "q3": q3}


def _class_rows(groups: Sequence[Group], variable: Variable) -> list[dict[str, Any]]:
    values = {group.id: classes_in(group, variable.name) for group in groups}
    levels = sorted({value for texts in values.values() for value in texts if value})
    missing = {name: texts.count("") for name, texts in values.items()}
    differences = _differences(
        groups, lambda a, b: difference_of_classes(classes_in(a, variable.name), classes_in(b, variable.name))
    )
    rows = []
    for number, level in enumerate(levels):
        cells = {}
        for name, texts in values.items():
            known = len(texts) - missing[name]
            cells[name] = {"n": texts.count(level), "share": texts.count(level) / known if known else None}
        rows.append({"variable": variable.name, "title": variable.title, "level": level, "missing": missing, "cells": cells,
                     "differences": differences if number == 0 else None})  # fmt: skip
    return rows


def _differences(groups: Sequence[Group], compare: Any) -> dict[str, Any]:
    by_id = {group.id: group for group in groups}
    every = by_id["all"]
    folds = [abs(compare(group, _rest(every, group))) for group in groups if group.id.startswith("fold-")]
    known = [value for value in folds if not np.isnan(value)]
    return {
        "classes": compare(by_id["positive"], by_id["negative"]) if "positive" in by_id else None,
        "folds": max(known) if known else None,
        "external": {g.id.removeprefix("external-"): compare(g, every) for g in groups if g.id.startswith("external-")},
    }


def _rest(every: Group, part: Group) -> Group:
    keep = ~np.isin(every.rows, part.rows)
    return Group("rest", "rest", every.table, every.rows[keep], every.scans[keep])


def write_table1(study: Path, content: Mapping[str, Any]) -> None:
    """Write table1.json and table1.tsv into the study's folder, atomically."""
    write_sealed(study / "table1.json", content)
    header, *rows = table1_lines(content)
    write_text(study / "table1.tsv", tsv_text(header, rows))


def table1_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The table as texts, the heading first: numbers as median (quartiles), classes as n (percent), missing ones beside."""
    groups = content["groups"]
    others = [group["id"].removeprefix("external-") for group in groups if group["id"].startswith("external-")]
    with_classes = any(group["id"] == "positive" for group in groups)
    gap_names = [*(["SMD classes"] if with_classes else []), "SMD test parts, largest"]
    heading = ["variable", *(f"{g['title']} (n={g['patients']})" for g in groups), *gap_names]
    lines = [[*heading, *(f"SMD {name}" for name in others)]]
    for row in content["rows"]:
        title = row["title"] + (f": {row['level']}" if row["level"] is not None else "")
        cells = [_cell(row["cells"][group["id"]], row["missing"][group["id"]]) for group in groups]
        gaps = row["differences"]
        first = [gaps["classes"]] if gaps and with_classes else []
        gap_texts = [_smd(gap) for gap in [*first, gaps["folds"], *(gaps["external"][n] for n in others)]] if gaps else []
        lines.append([title, *cells, *(gap_texts or [""] * (len(gap_names) + len(others)))])
    return lines


def _cell(cell: Mapping[str, Any], missing: int) -> str:
    beside = f", {missing} missing" if missing else ""
    if "share" in cell:
        share = "" if cell["share"] is None else f" ({100 * cell['share']:.0f} %)"
        return f"{cell['n']}{share}{beside}"
    if not cell["n"]:
        return f"none{beside}"
    return f"{rounded(cell['median'], 4)} ({rounded(cell['q1'], 4)} to {rounded(cell['q3'], 4)}){beside}"


def _smd(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.2f}"
