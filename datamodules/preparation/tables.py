"""The tables of the new cohort: copied from the raw dataset without what identifies, or made where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, bids_id, read_rows
from datamodules.intake.raw import RawDataset
from datamodules.preparation.deidentify import copy_clean_table
from datamodules.preparation.derivative import PIPELINE, write_json
from datamodules.preparation.options import PrepareOptions, versions
from regions.errors import did_you_mean

BIDS_VERSION = "1.10.0"
PARTICIPANTS = "participants.tsv"
ROOT_TABLES = ("sessions.tsv", "relapses.tsv")
"""Tables of all patients in the dataset's own folder, beside participants.tsv; the others lie in phenotype/."""
PROGRAM = "regionwise prepare"
"""What a derivative calls the program that made it."""


def write_tables(dataset: RawDataset, out: Path, options: PrepareOptions, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """Write everything of a cohort but its images.

    Args:
        dataset: The raw dataset.
        out: The new cohort's folder; where it is the raw dataset itself, its tables stay as they are.
        options: Recorded in the derivative's description.
        keep: Columns that are copied although they are not known, as they are spelt in the tables.

    Returns:
        Remarks: which columns were not copied, what is missing.

    Raises:
        CohortError: if a table is damaged, or none has a column that is to be kept.
        OSError: if nothing can be written.
    """
    _describe(out / "derivatives" / PIPELINE, "derivative", options)
    if out.resolve() == dataset.folder.resolve():
        return ()
    _describe(out, "raw", options)
    tables = _tables(dataset)
    _refuse_unknown(keep, dataset.folder, tables)
    remarks = [remark for table in tables for remark in _copied(dataset.folder / table, out / table, keep)]
    remarks += _listed(dataset, out / PARTICIPANTS)
    _write_days(dataset, out)
    if not (dataset.folder / "phenotype" / "edss.tsv").is_file():
        remarks.append(f"{dataset.folder} has no phenotype/edss.tsv: write {out}/phenotype/edss.tsv before training")
    return tuple(dict.fromkeys(remarks))


def _describe(folder: Path, kind: str, options: PrepareOptions) -> None:
    made: dict[str, Any] = {"Name": PROGRAM, "Version": versions()["regionwise"]}
    if kind == "derivative":
        made |= {"Parameters": options.parameters(), "Versions": versions()}
    content = {"Name": "Prepared scans", "BIDSVersion": BIDS_VERSION, "DatasetType": kind, "GeneratedBy": [made]}
    write_json(folder / "dataset_description.json", content)


def _tables(dataset: RawDataset) -> list[Path]:
    """The dataset's tables of people, sessions and scores, from its folder."""
    patients = sorted({session.patient for session in dataset.sessions})
    fixed = [Path(PARTICIPANTS), *map(Path, ROOT_TABLES), *(Path(name, f"{name}_sessions.tsv") for name in patients)]
    phenotype = [path.relative_to(dataset.folder) for path in list_folder(dataset.folder, "phenotype/*.tsv")]
    return [*(table for table in fixed if (dataset.folder / table).is_file()), *phenotype]


def _refuse_unknown(keep: Sequence[str], folder: Path, tables: Sequence[Path]) -> None:
    """Refuse columns that no table has."""
    known = {name for table in tables if keep for row in read_rows(folder / table)[:1] for name in row if name != "#"}
    for name in keep:
        if name not in known:
            raise CohortError(f"--keep {name}: no table of {folder} has such a column{did_you_mean(name, known)}")


def _copied(source: Path, target: Path, keep: Sequence[str]) -> list[str]:
    done = copy_clean_table(source, target, keep)
    if not done.kept:
        why = f"no column of it may be kept: {', '.join(done.dropped)}" if done.dropped else "it has no rows"
        return [f"{source.name}: not copied, {why}"]
    if not done.dropped:
        return []
    return [f"{source.name}: not copied, as they may identify (--keep NAME copies one): {', '.join(done.dropped)}"]


def _listed(dataset: RawDataset, target: Path) -> list[str]:
    """Give each patient of the dataset that the copied participants.tsv forgot a row."""
    rows = read_rows(target) if target.is_file() else []
    listed = {bids_id(row, "participant_id", "sub-") for row in rows}
    missing = sorted({session.patient for session in dataset.sessions} - listed)
    if missing:
        columns = [name for name in (rows[0] if rows else {"participant_id": ""}) if name != "#"]
        lines = ["\t".join(columns), *("\t".join(row[name] or "n/a" for name in columns) for row in rows)]
        lines += ["\t".join(patient if name == "participant_id" else "n/a" for name in columns) for patient in missing]
        write_text(target, "\n".join(lines) + "\n")
    return [f"{PARTICIPANTS}: no row for {', '.join(missing)}; added without covariates"] if missing and rows else []


def _write_days(dataset: RawDataset, out: Path) -> None:
    """The tables with the days of the scans."""
    for session in (session for session in dataset.sessions if session.acquired is not None):
        stem = f"{session.patient}_{session.session}" if session.session else session.patient
        table = Path(session.patient, session.session, f"{stem}_scans.tsv")
        if (dataset.folder / table).is_file():
            write_text(out / table, f"filename\tacq_time\nanat/{session.t1w.name}\t{session.acquired}\n")
