"""3D-MR-MS, Ljubljana: 30 patients at 3 T with T1W and FLAIR, defaced, with consensus lesion masks.

::

    patientXX/T1W.nii.gz, T1WKS.nii.gz, T2W.nii.gz, FLAIR.nii.gz, brainmask.nii.gz, consensus_gt.nii.gz
    patient_info.csv        patient_id,age,sex,ms_type,edss,criteria; EDSS can be N/A, one is 0.5

Names that repeat the patient (``patientXX_T1W.nii.gz``) are read too.

References:
    Lesjak et al. 2017, Neuroinformatics, doi 10.1007/s12021-017-9348-7.
"""

from __future__ import annotations

import re
from pathlib import Path

from datamodules.cohort.images import images_of
from datamodules.cohort.records import Candidate, Score
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, read_rows, require_columns
from datamodules.intake.dataset import PublicDataset, only_file, unmatched

FOLDER = re.compile(r"patient[-_ ]?([0-9]+)", re.IGNORECASE)


def read_ljubljana(folder: Path) -> list[Candidate]:
    """Every patient's folder with its row of the table; rows without a scan are candidates without files.

    Raises:
        CohortError: if the table or all scans are missing, or a patient stands in it twice.
    """
    path = only_file(folder, "patient_info.csv", "table of the patients")
    rows = read_rows(path)
    require_columns(path, rows, ("patient_id", "edss"))
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        name, where = _name(row["patient_id"]), f"{path.name} line {row['#']}"
        if name in table:
            raise CohortError(f"{where}: {name} occurs twice, also in {table[name]['where']}; keep one")
        table[name] = row | {"where": where}
    candidates = []
    for images in (entry for entry in list_folder(folder, "**/*") if entry.is_dir() and FOLDER.fullmatch(entry.name)):
        name = _name(images.name)
        row = table.get(name, {})
        where = f"{images.relative_to(folder)}, {row['where'] if row else f'no row in {path.name}'}"
        covariates = {key: row[key] for key in ("age", "sex", "ms_type") if row.get(key)}
        score = Score(row["edss"], None) if row else None
        pair = images_of(t1w=_image(images, "T1W"), flair=_image(images, "FLAIR"))
        candidates.append(Candidate(name, "", pair, score, where, covariates=covariates))
    if not any("flair" in candidate.images for candidate in candidates):
        raise CohortError(f"{folder} holds no patient*/FLAIR.nii.gz; give the dataset's unpacked folder")
    return candidates + unmatched(candidates, {(name, ""): row["where"] for name, row in table.items()})


def _name(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    if not digits:
        raise CohortError(f"patient_id {text!r} holds no number; it should be like patient07")
    return f"patient{int(digits):02d}"


def _image(folder: Path, kind: str) -> Path | None:
    name = re.compile(rf"({re.escape(folder.name)}_)?{kind}\.nii(\.gz)?", re.IGNORECASE)
    matches = [path for path in list_folder(folder, "**/*") if name.fullmatch(path.name) and path.is_file()]
    if len(matches) > 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in matches)
        raise CohortError(
            f"{folder} has {len(matches)} {kind} images: {listed}; keep the raw one, or give the folder that holds it"
        )
    return matches[0] if matches else None


DATASET = PublicDataset(
    name="ljubljana",
    title="3D-MR-MS, Ljubljana",
    licence="CC BY (see the dataset's own licence file for the version)",
    citation="Lesjak Z, et al. Neuroinformatics, doi 10.1007/s12021-017-9348-7",
    prepared=False,
    note="The table has no dates: the time from scan to EDSS is unknown.",
    read=read_ljubljana,
)
