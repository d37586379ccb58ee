"""A cohort as one plain table, read and written.

Columns: ``patient``, ``edss`` or that of another target, and the images, ``t1w`` and ``flair`` unless a study asks for others;
optional are

- ``session``, for repeated scans;
- ``days`` from scan to assessment, of the EDSS where there is one, or ``scan_date`` and ``edss_date``;
- ``mask`` (brain mask), ``labels`` (label map) with ``dialect`` (a name or a .tsv file, see ``regions.labels``);
- ``edss_source`` (clinician, patient, ...), ``relapse_date`` or ``days_since_relapse`` (last onset before the EDSS), of which
  the second is kept in the tables that are written of these;
- any covariates (``age``, ``sex``, ``site``, ...).

Paths are relative to the table. ``label`` follows from ``edss`` and is not read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path

from datamodules.cohort.covariates import clean_covariates
from datamodules.cohort.dates import parse_date
from datamodules.cohort.images import DEFAULT_IMAGES, image_columns, images_of
from datamodules.cohort.records import Candidate, Score
from datamodules.cohort.target import EDSS, Target
from datamodules.files.atomic import write_text
from datamodules.files.tables import MISSING, CohortError, parse_days, read_rows, require_columns, tsv_text

PATH_COLUMNS = (*DEFAULT_IMAGES, "mask", "labels")
TABLE_COLUMNS = ("patient", "session", "days", "label", "dialect", *PATH_COLUMNS, "scan_date", "relapse_date")
"""Columns with a fixed meaning; any other is a covariate."""


def read_table(path: Path, target: Target | None = Target(), images: Sequence[str] = DEFAULT_IMAGES) -> list[Candidate]:
    """Candidates from one plain table, with the scores of a target.

    Args:
        path: The table.
        target: What is told from the images; None reads no score, and takes the table's other columns for covariates.
        images: Columns of images that must be there; others that hold images are read too.

    Raises:
        CohortError: if a column or a patient's name is missing, or if a number or a date cannot be understood.
    """
    rows = read_rows(path)
    require_columns(path, rows, ("patient", *images, *([target.column] if target else [])))
    if target:
        _refuse_days_of_edss(path, rows[0], target)
        rows = target.pointed(rows, [f"{path.name} line {row['#']}" for row in rows])
    pictures = image_columns(rows, images)
    other = (*TABLE_COLUMNS, *pictures, "#")
    names = [name for name in rows[0] if name not in other and not (target and target.owns(name))]
    covariates = clean_covariates(path, rows, names)
    return [_candidate(path, row, of_row, target, pictures) for row, of_row in zip(rows, covariates, strict=True)]


def _candidate(
    path: Path, row: Mapping[str, str], covariates: Mapping[str, str], target: Target | None, images: Sequence[str]
) -> Candidate:
    where = f"{path.name} line {row['#']}"
    if row["patient"].lower() in MISSING:
        raise CohortError(f"{path} line {row['#']}: no patient; each row needs one, repeated scans repeat the name")
    given = {name: value for name, value in row.items() if value.lower() not in MISSING}
    files = {name: path.parent / given[name] if name in given else None for name in (*images, "mask", "labels")}
    dialect = given.get("dialect", "freesurfer")
    score = _score(row, where, target) if target else None
    known = {} if score is None or score.since_relapse is None else {"days_since_relapse": str(score.since_relapse)}
    return Candidate(
        patient=row["patient"],
        session=given.get("session", ""),
        images=images_of(**{name: files[name] for name in images}),
        score=score,
        where=where,
        mask=files["mask"],
        labels=files["labels"],
        dialect=str(path.parent / dialect) if dialect.endswith(".tsv") else dialect.lower(),
        covariates={**covariates, **known},
    )


def _days_of_edss(columns: Collection[str], target: Target) -> bool:
    """Whether the days of a table count to an EDSS that is not the target."""
    return not target.is_edss and any(name.casefold() == EDSS for name in columns)


def _refuse_days_of_edss(path: Path, columns: Collection[str], target: Target) -> None:
    """Refuse a window on days that count to another assessment than the target's."""
    if target.has_window and "days" in columns and target.date_column not in columns and _days_of_edss(columns, target):
        needed = f"a window of days needs scan_date and {target.date_column}"
        raise CohortError(f"{path}: days counts to the EDSS, not to {target.column}; {needed}")


def _score(row: Mapping[str, str], where: str, target: Target) -> Score:
    days = None if _days_of_edss(row, target) else parse_days(row.get("days", ""), where)
    dates: dict[str, date | None] = {}
    columns = ("scan_date", target.date_column, "relapse_date")
    for name in columns:
        dates[name] = parse_date(row.get(name, ""), f"{where}, column {name!r}")
    scanned, assessed, onset = (dates[name] for name in columns)
    if scanned and assessed:
        counted = (assessed - scanned).days
        if days is not None and days != counted:
            raise CohortError(f"{where}: days is {days}, but {assessed} is {counted} days after {scanned}; fix one of them")
        days = counted
    source = row.get(target.source_column, "").casefold()
    since = parse_days(row.get("days_since_relapse", ""), f"{where}, column 'days_since_relapse'")
    if onset and assessed and onset <= assessed:
        since = (assessed - onset).days
    return Score(row[target.column], days, "" if source in MISSING else source, since)


def write_table(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates as a table that ``read_table`` reads; paths are absolute, images stay where they are.

    Raises:
        OSError: if the file cannot be written.
    """
    images = list(dict.fromkeys([*DEFAULT_IMAGES, *(name for candidate in candidates for name in candidate.images)]))
    names = sorted({name for candidate in candidates for name in candidate.covariates} - {*images})
    header = ["patient", "session", "edss", "days", *images, "mask", "labels", "dialect", *names]
    write_text(path, tsv_text(header, [_cells(candidate, images, names) for candidate in candidates]))


def dialect_text(dialect: str) -> str:
    """A dialect as a table names it: a file by its whole path, as images are, a program by its name."""
    return os.path.abspath(dialect) if dialect.endswith(".tsv") else dialect  # noqa: PTH100


def _cells(candidate: Candidate, images: Sequence[str], names: Sequence[str]) -> list[str]:
    paths = (*map(candidate.images.get, images), candidate.mask, candidate.labels)
    files = [os.path.abspath(path) if path else "" for path in paths]  # noqa: PTH100
    days = "" if candidate.score is None or candidate.score.days is None else str(candidate.score.days)
    covariates = [candidate.covariates.get(name, "") for name in names]
    return [
        candidate.patient,
        candidate.session,
        candidate.score.value if candidate.score else "",
        days,
        *files,
        dialect_text(candidate.dialect) if candidate.labels else "",
        *covariates,
    ]
