"""MSLesSeg: 75 patients, 115 scans in MNI152 space at 1 mm, EDSS at each timepoint.

::

    MSLesSeg Dataset/train/P1/T1/P1_T1_T1.nii.gz, P1_T1_FLAIR.nii.gz, ...      patient P1, timepoint T1
    MSLesSeg Dataset/test/P54/P54_T1.nii.gz, P54_FLAIR.nii.gz, ...             also without a timepoint: then it is T1
    info_dataset/clinical_data.csv

The clinical table has a byte-order mark, semicolons and decimal commas. Its header ends with a semicolon; where the cell
``Lesion Number`` is empty, the number stands in that unnamed last column.

References:
    Guarnera et al. 2025, Sci Data 12:920.
"""

from __future__ import annotations

import re
from pathlib import Path

from datamodules.cohort.images import images_of
from datamodules.cohort.records import Candidate, Score
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, read_cells, require_columns
from datamodules.intake.dataset import PublicDataset, only_file, unmatched

NAME = re.compile(r"(P[0-9]+)(?:_(T[0-9]+))?_FLAIR\.nii(?:\.gz)?")
COVARIATES = {
    "Age": "age",
    "Sex": "sex",
    "MS Type": "ms_type",
    "Lesion Number": "lesion_number",
    "Lesion Volume": "lesion_volume",
}


def read_msleseg(folder: Path) -> list[Candidate]:
    """Every FLAIR with its T1 and its row of the clinical table; rows without a scan are candidates without files.

    Raises:
        CohortError: if the table or all scans are missing, or a patient's timepoint stands in it twice.
    """
    table = _read_table(only_file(folder, "clinical_data.csv", "clinical table"))
    candidates = []
    for flair in (path for path in list_folder(folder, "**/*_FLAIR.nii*") if path.is_file()):
        match = NAME.fullmatch(flair.name)
        if match is None:
            continue
        t1w = flair.with_name(flair.name.replace("_FLAIR.", "_T1."))
        patient, session = match[1], match[2] or "T1"
        row = table.get((patient, session), {})
        pair = images_of(t1w=t1w if t1w.is_file() else None, flair=flair)
        where = f"{flair.relative_to(folder)}, {row['where'] if row else 'no row in clinical_data.csv'}"
        covariates = {ours: row[name] for name, ours in COVARIATES.items() if row.get(name)}
        score = Score(row["EDSS"], None) if row else None
        candidates.append(
            Candidate(
                patient,
                session,
                pair,
                score,
                where,
                covariates=covariates,
            )
        )
    if not candidates:
        raise CohortError(f"{folder} holds no P*_T*_FLAIR.nii.gz; give the folder that holds 'MSLesSeg Dataset'")
    return candidates + unmatched(candidates, {name: row["where"] for name, row in table.items()})


def _read_table(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Rows by patient and timepoint, with decimal points and ``where``."""
    header, rows = read_cells(path)
    table: dict[tuple[str, str], dict[str, str]] = {}
    for line, cells in rows:
        where = f"{path.name} line {line}"
        cells += [""] * (len(header) - len(cells))
        if len(cells) > len(header):
            raise CohortError(f"{where}: {len(cells)} cells, the header has {len(header)}; the layout is not the published one")
        row = {name: re.sub(r"^([0-9]+),([0-9]+)$", r"\1.\2", cell) for name, cell in zip(header, cells, strict=True) if name}
        if not table:
            require_columns(path, [row], ("Patient", "Timepoint", "EDSS"))
        spare = [cell for name, cell in zip(header, cells, strict=True) if not name and cell]
        if spare and not row.get("Lesion Number"):
            row["Lesion Number"] = spare.pop(0)
        if spare:
            raise CohortError(f"{where}: {spare[0]!r} is in a column without a name; the layout is not the published one")
        name = ("P" + row["Patient"].lstrip("Pp"), "T" + row["Timepoint"].lstrip("Tt"))
        if name in table:
            raise CohortError(f"{where}: {name[0]} {name[1]} occurs twice, also in {table[name]['where']}; keep one")
        table[name] = row | {"where": where}
    return table


DATASET = PublicDataset(
    name="msleseg",
    title="MSLesSeg",
    licence="CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
    citation="Guarnera F, et al. MSLesSeg. Sci Data 2025;12:920. Data: figshare 27919209",
    prepared=True,
    note="The table has no dates: the time from scan to EDSS is unknown.",
    read=read_msleseg,
)
