"""Scans that nobody has assessed: what there is to predict. No score is read, not even where a table has one.

Read are a table with the columns ``patient`` and the images (others as in ``datamodules.cohort.table``), or a folder with
images in MNI152 space as in ``datamodules.cohort.bids``, of which ``participants.tsv`` may be missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.cohort.bids import first_images, participants, scans_of
from datamodules.cohort.covariates import split_capped_ages
from datamodules.cohort.eligibility import file_at_fault, refuse_repeated, scan_of
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.read import require_source
from datamodules.cohort.records import NO_SCAN, Candidate, Exclusion, Scan
from datamodules.cohort.table import read_table
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError

NO_VALUE = float("nan")
"""The score of a scan that has none."""


@dataclass(frozen=True)
class Unlabelled:
    """Scans whose files are there, and those that lack one, with the reason; each by patient, then session."""

    source: Path
    scans: tuple[Scan, ...]
    exclusions: tuple[Exclusion, ...]

    def of_participants(self, labels: Sequence[str]) -> Unlabelled:
        """The scans of some patients, named with or without ``sub-``; all where none is named.

        Raises:
            CohortError: if one is not there.
        """
        if not labels:
            return self
        known = {record.patient for record in (*self.scans, *self.exclusions)}
        wanted = {label: label if label in known else f"sub-{label.removeprefix('sub-')}" for label in labels}
        missing = [label for label, patient in wanted.items() if patient not in known]
        if missing:
            listed = ", ".join(sorted(known)[:5]) + (", ..." if len(known) > 5 else "")
            raise CohortError(f"--participant_label {missing[0]}: no such participant in {self.source}; it has {listed}")
        chosen = set(wanted.values())
        scans = tuple(scan for scan in self.scans if scan.patient in chosen)
        return replace(self, scans=scans, exclusions=tuple(item for item in self.exclusions if item.patient in chosen))


def read_unlabelled(source: Path, images: Sequence[str] = DEFAULT_IMAGES, optional: Collection[str] = ()) -> Unlabelled:
    """Find the scans of a table or a folder.

    Args:
        source: A table, or a folder with images in MNI152 space.
        images: What is read of each scan.
        optional: Those that a scan may lack.

    Raises:
        CohortError: if there is nothing to read, a scan is named twice, or a table cannot be understood.
    """
    require_source(source)
    table = source / "cohort.tsv" if source.is_dir() and not (source / "participants.tsv").exists() else source
    candidates = read_table(table, None, images) if table.is_file() else _of_folder(source, images)
    refuse_repeated(candidates, "apart")
    ordered = sorted(candidates, key=lambda item: (item.patient, item.session))
    outcomes = [_outcome(candidate, images, optional) for candidate in ordered]
    scans = tuple(outcome for outcome in outcomes if isinstance(outcome, Scan))
    return Unlabelled(source, scans, tuple(outcome for outcome in outcomes if isinstance(outcome, Exclusion)))


def is_raw(source: Path) -> bool:
    """Whether a folder holds scans as they came from the scanner and none in MNI152 space."""
    raw = ("sub-*/anat/*_T1w.nii*", "sub-*/ses-*/anat/*_T1w.nii*")
    if not source.is_dir() or (source / "cohort.tsv").is_file():
        return False
    prepared = any(list_folder(source, f"{below}sub-*/**/*_space-MNI152*.nii*") for below in ("", "derivatives/*/"))
    return not prepared and any("_space-" not in path.name for pattern in raw for path in list_folder(source, pattern))


def _of_folder(folder: Path, images: Sequence[str]) -> list[Candidate]:
    candidates = scans_of(first_images(folder, images[0]), images)
    above = (folder, *folder.resolve().parents[:2])
    root = next((place for place in above if (place / "participants.tsv").is_file()), None)
    known = participants(root) if root else {}
    candidates = [replace(item, covariates={**known.get(item.patient, {}), **item.covariates}) for item in candidates]
    seen = {item.patient for item in candidates}
    below = {path.name for place in (folder, *list_folder(folder, "derivatives/*")) for path in list_folder(place, "sub-*")
             if path.is_dir()}  # fmt: skip
    return candidates + [Candidate(patient, "", {}, None, NO_SCAN) for patient in sorted(below - seen)]


def _outcome(candidate: Candidate, images: Sequence[str], optional: Collection[str]) -> Scan | Exclusion:
    fault = file_at_fault(candidate, images, optional)
    if fault:
        return Exclusion(candidate.patient, candidate.session, fault[0], fault[1] or candidate.where)
    covariates, _ = split_capped_ages(candidate.covariates)
    return scan_of(replace(candidate, covariates=covariates), images, optional, (NO_VALUE, None, 0))
