"""The tables of the new cohort: copied from the raw dataset without what identifies, or made where it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.files.tables import bids_id, read_rows
from datamodules.intake.raw import RawDataset
from datamodules.preparation.deidentify import copy_clean_table
from datamodules.preparation.derivative import PIPELINE, write_json
from datamodules.preparation.options import PrepareOptions, versions

BIDS_VERSION = "1.10.0"
ROOT_TABLES = ("sessions.tsv", "relapses.tsv")
"""Tables of all patients in the dataset's own folder, beside participants.tsv; the others lie in phenotype/."""
PROGRAM = "regionwise prepare"
"""What a derivative calls the program that made it."""


def write_tables(dataset: RawDataset, out: Path, options: PrepareOptions) -> tuple[str, ...]:
    """Write everything of a cohort but its images.

    Args:
        dataset: The raw dataset.
        out: The new cohort's folder; where it is the raw dataset itself, its tables stay as they are.
        options: Recorded in the derivative's description.

    Returns:
        Remarks: which columns were not copied, what is missing.

    Raises:
        CohortError: if a table is damaged.
        OSError: if nothing can be written.
    """
    _describe(out / "derivatives" / PIPELINE, "derivative", options)
    if out.resolve() == dataset.folder.resolve():
        return ()
    _describe(out, "raw", options)
    remarks = _participants(dataset, out)
    for name in (name for name in ROOT_TABLES if (dataset.folder / name).is_file()):
        remarks += _copied(dataset.folder / name, out / name)
    for table in list_folder(dataset.folder, "phenotype/*.tsv"):
        remarks += _copied(table, out / "phenotype" / table.name)
    for patient in sorted({session.patient for session in dataset.sessions}):
        remarks += _sessions(dataset, out, patient)
    if not (dataset.folder / "phenotype" / "edss.tsv").is_file():
        remarks.append(f"{dataset.folder} has no phenotype/edss.tsv: write {out}/phenotype/edss.tsv before training")
    return tuple(dict.fromkeys(remarks))


def _describe(folder: Path, kind: str, options: PrepareOptions) -> None:
    made: dict[str, Any] = {"Name": PROGRAM, "Version": versions()["regionwise"]}
    if kind == "derivative":
        made |= {"Parameters": options.parameters(), "Versions": versions()}
    content = {"Name": "Prepared scans", "BIDSVersion": BIDS_VERSION, "DatasetType": kind, "GeneratedBy": [made]}
    write_json(folder / "dataset_description.json", content)


def _copied(source: Path, target: Path) -> list[str]:
    done = copy_clean_table(source, target)
    if not done.kept:
        why = f"no column of it may be kept: {', '.join(done.dropped)}" if done.dropped else "it has no rows"
        return [f"{source.name}: not copied, {why}"]
    return [f"{source.name}: not copied, as they may identify: {', '.join(done.dropped)}"] if done.dropped else []


def _participants(dataset: RawDataset, out: Path) -> list[str]:
    """participants.tsv with every patient of the dataset; one that the raw table forgot gets a row."""
    source, target = dataset.folder / "participants.tsv", out / "participants.tsv"
    remarks = _copied(source, target) if source.is_file() else []
    rows = read_rows(target) if source.is_file() else []
    listed = {bids_id(row, "participant_id", "sub-") for row in rows}
    missing = sorted({session.patient for session in dataset.sessions} - listed)
    if missing:
        columns = [name for name in (rows[0] if rows else {"participant_id": ""}) if name != "#"]
        lines = ["\t".join(columns), *("\t".join(row[name] or "n/a" for name in columns) for row in rows)]
        lines += ["\t".join(patient if name == "participant_id" else "n/a" for name in columns) for patient in missing]
        write_text(target, "\n".join(lines) + "\n")
        if rows:
            remarks.append(f"participants.tsv: no row for {', '.join(missing)}; added without covariates")
    return remarks


def _sessions(dataset: RawDataset, out: Path, patient: str) -> list[str]:
    """The tables with the days of a patient's scans."""
    name = f"{patient}/{patient}_sessions.tsv"
    remarks = _copied(dataset.folder / name, out / name) if (dataset.folder / name).is_file() else []
    for session in (session for session in dataset.sessions if session.patient == patient and session.acquired is not None):
        stem = f"{patient}_{session.session}" if session.session else patient
        table = Path(patient, session.session, f"{stem}_scans.tsv")
        if (dataset.folder / table).is_file():
            write_text(out / table, f"filename\tacq_time\nanat/{session.t1w.name}\t{session.acquired}\n")
    return remarks
