"""Brain MRI of 60 MS patients, Muslim et al. 2022: T1, T2 and FLAIR of each, not registered to each other, with skull.

::

    Patient-1/1-T1.nii, 1-T2.nii, 1-Flair.nii, 1-LesionSeg-Flair.nii, ...
    Supplementary Table 1 for patient info .xlsx           a title in row 1, the columns in row 2

References:
    Muslim et al. 2022, Data Brief, doi 10.1016/j.dib.2022.108139.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.cohort.images import images_of
from datamodules.cohort.records import Candidate, Score
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, read_cells
from datamodules.intake.dataset import PublicDataset, only_file, unmatched

FOLDER = re.compile(r"patient[- _]?([0-9]+)", re.IGNORECASE)
COLUMNS = {
    "id": "id",
    "edss": "edss",
    "age": "age",
    "gender": "sex",
    "age of onset": "age_at_onset",
    "does the time difference between mri acquisition and edss < two months": "edss_within_two_months",
}
"""Columns that are read, in lower case, and what they are called here."""


def read_muslim(folder: Path) -> list[Candidate]:
    """Every patient's folder with its row of the spreadsheet; rows without a scan are candidates without files.

    Raises:
        CohortError: if the spreadsheet or all scans are missing, or a patient stands in it twice.
    """
    table = _read_table(only_file(folder, "Supplementary Table 1*.xlsx", "table of the patients"))
    candidates = []
    for patient_folder in (path for path in list_folder(folder, "**/*") if path.is_dir() and FOLDER.fullmatch(path.name)):
        match = FOLDER.fullmatch(patient_folder.name)
        assert match is not None  # chosen so above
        number = int(match[1])
        row = table.get(number, {})
        where = f"{patient_folder.relative_to(folder)}, {row['where'] if row else 'no row in the table'}"
        pair = images_of(**{name: _image(patient_folder, number, kind) for name, kind in (("t1w", "t1"), ("flair", "flair"))})
        covariates = {name: row[name] for name in COLUMNS.values() if row.get(name) and name not in ("id", "edss")}
        score = Score(row["edss"], None) if row else None
        candidates.append(Candidate(_name(number), "", pair, score, where, covariates=covariates))
    if not any("flair" in candidate.images for candidate in candidates):
        raise CohortError(f"{folder} holds no Patient-*/*-Flair.nii; give the dataset's unpacked folder")
    return candidates + unmatched(candidates, {(_name(number), ""): row["where"] for number, row in table.items()})


def _name(number: int) -> str:
    return f"P{number:02d}"


def _image(folder: Path, number: int, kind: str) -> Path | None:
    """``1-T1.nii`` in any case, also compressed; not the masks, whose names are longer."""
    name = re.compile(rf"{number}[-_ ]{kind}\.nii(\.gz)?", re.IGNORECASE)
    matches = [path for path in list_folder(folder) if name.fullmatch(path.name)]
    if len(matches) > 1:
        raise CohortError(f"{folder} has {len(matches)} {kind} images: {', '.join(path.name for path in matches)}; keep one")
    return matches[0] if matches else None


def _read_table(path: Path) -> dict[int, dict[str, str]]:
    header, rows = read_cells(path, header_row=2)
    columns = [_column(name) for name in header]
    missing = [name for name in ("id", "edss") if name not in columns]
    if missing:
        listed = ", ".join(filter(None, header))
        raise CohortError(f"{path} has no column {missing[0].upper()!r} in its second row; it has: {listed}")
    table: dict[int, dict[str, str]] = {}
    for line, cells in rows:
        row = _row(columns, cells) | {"where": f"{path.name} line {line}"}
        if not re.fullmatch(r"[0-9]+", row["id"]):
            continue
        number = int(row["id"])
        if number in table:
            raise CohortError(f"{row['where']}: patient {number} occurs twice, also in {table[number]['where']}; keep one")
        table[number] = row
    return table


def _column(name: str) -> str:
    return COLUMNS.get(" ".join(name.lower().split()).rstrip(" ?"), "")


def _row(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    return {name: cell for name, cell in zip(columns, cells, strict=True) if name}


DATASET = PublicDataset(
    name="muslim",
    title="Muslim 2022",
    licence="CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
    citation="Muslim AM, et al. Data Brief 2022, doi 10.1016/j.dib.2022.108139. Data: doi 10.17632/8bctsm8jz7.1",
    prepared=False,
    note="The table has no dates, only whether scan and EDSS lie less than two months apart (edss_within_two_months).",
    read=read_muslim,
)
