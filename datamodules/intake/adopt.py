"""A public dataset, or several cohorts, as one cohort: tables and links, never a copy of an image.

Scans in MNI152 space become ``cohort.tsv``. Raw scans become a BIDS dataset of links, to be prepared::

    <out>/dataset_description.json  participants.tsv  phenotype/edss.tsv
    <out>/sub-X/[ses-Y/]anat/sub-X[_ses-Y]_T1w.nii[.gz], ..._FLAIR.nii[.gz]       links to the images
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.cohort.bids import read_bids
from datamodules.cohort.covariates import clean_cells
from datamodules.cohort.held_scans import join_verdicts
from datamodules.cohort.records import Candidate, LabelRule
from datamodules.cohort.table import read_table, write_table
from datamodules.files.tables import CohortError
from datamodules.intake.dataset import PublicDataset


def adopt(dataset: PublicDataset, source: Path, out: Path) -> list[Candidate]:
    """Write what a public dataset holds as a cohort.

    Args:
        dataset: Which one.
        source: Its unpacked folder.
        out: Folder of the new cohort; must not exist yet, or be empty.

    Returns:
        What was found, those without a scan included.

    Raises:
        CohortError: if the folder is not what it should be, or ``out`` is taken.
    """
    if not source.is_dir():
        raise CohortError(f"{source} is no folder; give the dataset's unpacked folder")
    found = [replace(one, covariates=clean_cells(one.covariates, one.where)) for one in dataset.read(source)]
    about = {"Name": dataset.title, "License": dataset.licence, "HowToAcknowledge": dataset.citation}
    _fill(out, lambda folder: (_write_prepared if dataset.prepared else _write_raw)(folder, found, about))
    return found


def combine(sources: Sequence[Path], out: Path, rule: LabelRule) -> list[Candidate]:
    """Write several cohorts as one table; the column ``cohort`` says where each scan comes from.

    What is held back in one of them (see ``datamodules.cohort.held_scans``) is held back here too.

    Raises:
        CohortError: if a patient's name stands in two of them, or ``out`` is taken.
    """
    found: list[Candidate] = []
    owner: dict[str, Path] = {}
    for source in sources:
        table = source / "cohort.tsv" if source.is_dir() and not (source / "participants.tsv").exists() else source
        own = read_table(table) if table.is_file() else read_bids(source, rule)[0]
        for one in own:
            if owner.setdefault(one.patient, source) != source:
                both = f"{owner[one.patient]} and {source}"
                raise CohortError(f"patient {one.patient} stands in {both}; rename the patient in one of them")
            found.append(replace(one, covariates={**one.covariates, "cohort": _name_of(source)}))
    about = {"Name": " + ".join(_name_of(source) for source in sources)}

    def write(folder: Path) -> None:
        _write_prepared(folder, found, about)
        join_verdicts(sources, folder)

    _fill(out, write)
    return found


def _name_of(source: Path) -> str:
    """The folder's name, or that of a table which has one of its own."""
    return source.parent.name if source.name == "cohort.tsv" else source.stem if source.is_file() else source.name


def _fill(out: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and rename it when complete."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out} exists and is not empty; choose another folder, or remove it first")
    part = out.with_name(f"{out.name}.partial-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        write(part)
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_prepared(folder: Path, found: Sequence[Candidate], about: dict[str, str]) -> None:
    write_table(folder / "cohort.tsv", found)
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _write_raw(folder: Path, found: Sequence[Candidate], about: dict[str, str]) -> None:
    description = {**about, "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    columns = sorted({name for one in found for name in one.covariates})
    people = {one.patient: [f"sub-{one.patient}", *(one.covariates.get(name, "n/a") for name in columns)] for one in found}
    _write_tsv(folder / "participants.tsv", ["participant_id", *columns], list(people.values()))
    scores = [[f"sub-{one.patient}", one.session or "n/a", one.score.edss or "n/a"] for one in found if one.score]
    (folder / "phenotype").mkdir()
    _write_tsv(folder / "phenotype" / "edss.tsv", ["participant_id", "session_id", "edss"], scores)
    for one in found:
        stem = f"sub-{one.patient}" + (f"_ses-{one.session}" if one.session else "")
        anat = folder / f"sub-{one.patient}" / (f"ses-{one.session}" if one.session else "") / "anat"
        for path, suffix in ((one.t1w, "T1w"), (one.flair, "FLAIR")):
            if path is not None:
                anat.mkdir(parents=True, exist_ok=True)
                ending = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
                (anat / f"{stem}_{suffix}{ending}").symlink_to(path.resolve())


def _write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in (columns, *rows)), encoding="utf-8")
