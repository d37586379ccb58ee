"""A public dataset, or several cohorts, as one cohort: tables and links, never a copy of an image.

Scans in MNI152 space become ``cohort.tsv``. Raw scans become a BIDS dataset of links, to be prepared::

    <out>/dataset_description.json  participants.tsv  phenotype/edss.tsv
    <out>/sub-X/[ses-Y/]anat/sub-X[_ses-Y]_T1w.nii[.gz], ..._FLAIR.nii[.gz]       links to the images
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.cohort.covariates import clean_cells
from datamodules.cohort.eligibility import refuse_repeated, written
from datamodules.cohort.flagged_scans import join_verdicts
from datamodules.cohort.identity import AlikeIds, refuse_alike
from datamodules.cohort.images import title
from datamodules.cohort.read import read_candidates
from datamodules.cohort.records import Candidate
from datamodules.cohort.table import write_table
from datamodules.cohort.target import Target
from datamodules.files.atomic import file_sha256, filled_folder, is_taken
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, read_cells, tsv_text
from datamodules.intake.dataset import PublicDataset

JOINED = frozenset(
    {"participant_id", "session_id", "acq_time", "edss", "edss_date", "edss_source"}
    | {"days_since_scan", "relapse_date", "days_since_relapse"}
)
"""Columns of a BIDS folder's tables of scores and sessions that a joined table holds, as they are or as days."""


def adopt(dataset: PublicDataset, source: Path, out: Path, alike_ids: AlikeIds = "refuse") -> list[Candidate]:
    """Write what a public dataset holds as a cohort.

    Args:
        dataset: The public dataset.
        source: Its unpacked folder.
        out: Folder of the new cohort; must not exist yet, or be empty.
        alike_ids: What happens to ids that differ in writing alone, see ``datamodules.cohort.identity``.

    Returns:
        All candidates, including those without a scan.

    Raises:
        CohortError: if the folder is not what it should be, holds a scan twice, an id has two spellings, or ``out`` is taken.
    """
    if not source.is_dir():
        raise CohortError(f"{source} is not a folder; give the dataset's unpacked folder")
    candidates = [
        replace(candidate, covariates=clean_cells(candidate.covariates, candidate.where)) for candidate in dataset.read(source)
    ]
    refuse_repeated(candidates, alike_ids)
    refuse_alike(map(written, candidates), alike_ids)
    about = {"Name": dataset.title, "License": dataset.licence, "HowToAcknowledge": dataset.citation}
    _fill(out, lambda folder: (_write_prepared if dataset.prepared else _write_raw)(folder, candidates, about))
    return candidates


def combine(sources: Sequence[Path], out: Path, rule: Target, alike_ids: AlikeIds = "refuse") -> list[Candidate]:
    """Write several cohorts as one table, with all their images; the column ``cohort`` says where each scan comes from.

    Scans that are held back in a cohort (see ``datamodules.cohort.flagged_scans``) are held back here too. Cohorts with equal
    tables of scores are parts of one dataset (``prepare --only``): the same name is the same patient there.

    Raises:
        CohortError: if a patient's name stands in two datasets, also in another writing (unless ``alike_ids`` is apart), a scan
            stands in two parts of one, or ``out`` is taken.
    """
    rows = [(source, candidate) for source in sources for candidate in read_candidates(source, rule, alike_ids, None)[0]]
    owner: dict[str, Path] = {}
    for source, candidate in rows:
        first = owner.setdefault(candidate.patient, source)
        if first != source and _scores_of(first) != _scores_of(source):
            parts = "parts of one dataset have the same phenotype/edss.tsv"
            raise CohortError(
                f"patient {candidate.patient} is in {first} and {source}; rename the patient in one of them ({parts})"
            )
    owner |= {candidate.patient: source for source, candidate in rows if _has_image(candidate)}
    candidates = [
        replace(candidate, covariates={**candidate.covariates, "cohort": _name_of(source)})
        for source, candidate in rows
        if _has_image(candidate) or source == owner[candidate.patient]
    ]
    refuse_repeated(candidates, alike_ids)
    ids = (written(candidate)._replace(where=f"{owner[candidate.patient]}, {candidate.where}") for candidate in candidates)
    refuse_alike(ids, alike_ids)
    about = {"Name": " + ".join(_name_of(source) for source in sources)}

    def write(folder: Path) -> None:
        _write_prepared(folder, candidates, about)
        join_verdicts(sources, folder)

    _fill(out, write)
    return candidates


def left_out(source: Path) -> list[str]:
    """Columns of a BIDS folder's tables of scores and sessions that a joined table has no place for, sorted."""
    tables = [*list_folder(source, "phenotype/*.tsv"), *list_folder(source, "sub-*/sub-*_sessions.tsv")]
    tables += [source / "sessions.tsv"] if (source / "sessions.tsv").is_file() else []
    return sorted({name for table in tables if table.stat().st_size for name in read_cells(table)[0]} - JOINED)


def _scores_of(source: Path) -> str:
    """What tells a dataset from others: the content of its table of scores; for a plain table its path."""
    tables = [source / name for name in ("phenotype/edss.tsv", "participants.tsv") if (source / name).is_file()]
    return file_sha256(tables[0]) if tables else str(source.resolve())


def _has_image(candidate: Candidate) -> bool:
    return bool(candidate.images)


def _name_of(source: Path) -> str:
    """The folder's name; for a table that is not ``cohort.tsv`` the table's name."""
    return source.parent.name if source.name == "cohort.tsv" else source.stem if source.is_file() else source.name


def _fill(out: Path, write: Callable[[Path], None]) -> None:
    if is_taken(out):
        raise CohortError(f"{out} exists and is not empty; choose another folder, or remove it first")
    with filled_folder(out) as partial:
        write(partial)


def _write_prepared(folder: Path, candidates: Sequence[Candidate], about: dict[str, str]) -> None:
    write_table(folder / "cohort.tsv", candidates)
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _write_raw(folder: Path, candidates: Sequence[Candidate], about: dict[str, str]) -> None:
    description = {**about, "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    columns = sorted({name for candidate in candidates for name in candidate.covariates})
    people = {
        candidate.patient: [f"sub-{candidate.patient}", *(candidate.covariates.get(name, "n/a") for name in columns)]
        for candidate in candidates
    }
    _write_tsv(folder / "participants.tsv", ["participant_id", *columns], people.values())
    scores = [
        [f"sub-{candidate.patient}", candidate.session or "n/a", candidate.score.value or "n/a"]
        for candidate in candidates
        if candidate.score
    ]
    (folder / "phenotype").mkdir()
    _write_tsv(folder / "phenotype" / "edss.tsv", ["participant_id", "session_id", "edss"], scores)
    for candidate in candidates:
        stem = f"sub-{candidate.patient}" + (f"_ses-{candidate.session}" if candidate.session else "")
        anat = folder / f"sub-{candidate.patient}" / (f"ses-{candidate.session}" if candidate.session else "") / "anat"
        for name, path in candidate.images.items():
            anat.mkdir(parents=True, exist_ok=True)
            ending = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
            (anat / f"{stem}_{title(name)}{ending}").symlink_to(path.resolve())


def _write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.write_text(tsv_text(columns, rows), encoding="utf-8")
