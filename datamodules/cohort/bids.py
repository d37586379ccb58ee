"""Candidates from a BIDS-like folder with derivatives in MNI152 space.

Read are::

    participants.tsv                            participant_id, then covariates (age, sex, site, ...)
    days of the scans                           see ``datamodules.cohort.dates``
    EDSS, or another target                     see ``datamodules.cohort.assessments``
    derivatives/<one>/sub-X/[ses-Y/]anat/       sub-X[_ses-Y]_space-MNI152*_T1w.nii.gz, _FLAIR.nii.gz, or the images that a
                                                study asks for by their suffix and entities, and where there are any
                                                ..._desc-brain_mask.nii.gz, ..._seg-<dialect>_dseg.nii.gz (+ .tsv)

A cohort is one derivative; a score of a patient who has no scan is counted with the exclusions.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from datamodules.cohort.assessments import RELAPSE_TABLES, Assessments, assigned_score, read_assessments
from datamodules.cohort.covariates import clean_covariates
from datamodules.cohort.dates import ScanDates
from datamodules.cohort.identity import AlikeIds, Written, refuse_alike
from datamodules.cohort.images import DEFAULT_IMAGES, files_named, images_of, name_of, title, without_entities
from datamodules.cohort.records import Candidate, Score
from datamodules.cohort.table import TABLE_COLUMNS
from datamodules.cohort.target import Target
from datamodules.files.listing import is_hidden, list_folder
from datamodules.files.tables import CohortError, bids_id, read_object, read_rows, require_columns

ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?_")
IMAGES = "sub-*/**/*_space-MNI152*.nii*"
ID_TABLES = ("participants.tsv", "phenotype/edss.tsv", "sessions.tsv", *RELAPSE_TABLES)
SIDECAR_COVARIATES = {"MagneticFieldStrength": "field_strength", "Manufacturer": "vendor"}


def read_bids(
    folder: Path, rule: Target, alike_ids: AlikeIds = "refuse", images: Sequence[str] = DEFAULT_IMAGES
) -> tuple[list[Candidate], tuple[str, ...]]:
    """All T1w images in MNI152 space under a folder, each with its FLAIR, masks, label map, score and covariates.

    With other ``images`` the first of them takes the place of the T1w, and the others that of the FLAIR.

    A participant without such an image is a candidate without files, so that the exclusions count it; so is a patient who has a
    score and nothing else.

    Returns:
        The candidates, and remarks on the tables.

    Raises:
        CohortError: if images are missing or in several derivatives, a table contradicts itself, or an id has two spellings.
    """
    firsts = first_images(folder, images[0])
    root = folder if (folder / "participants.tsv").is_file() else _bids_root(folder)
    people, scores, dates = participants(root, rule), read_assessments(root, rule), ScanDates(root)
    names = [_entities(t1w) for t1w in firsts]
    scans_of = Counter(patient for patient, _ in names)
    refuse_alike(bids_ids(root, *(_above_patient(t1w) for t1w in firsts)), alike_ids)
    candidates: list[Candidate] = []
    used = set()
    for t1w, (patient, session) in zip(firsts, names, strict=True):
        if patient not in people:
            raise CohortError(f"{t1w.name}: {patient} has no row in {root / 'participants.tsv'}; add it or remove the scan")
        scanned, rows = dates.of(patient, session, kind=images[0]), scores.by_patient.get(patient, [])
        score, where = assigned_score(rows, (patient, session), scanned, scans_of[patient] == 1, rule)
        used |= {(patient, where)} if score else set()
        candidate = _scored(_candidate(t1w, (patient, session), images), score, where, rule)
        known = {**people[patient], **candidate.covariates}
        covariates = {name: text for name, text in known.items() if not rule.owns(name) and name not in images}
        candidates.append(replace(candidate, covariates=covariates))
    scanless = sorted({*people, *scores.by_patient} - set(scans_of))
    candidates += [Candidate(patient, "", {}, None, _without_scan(patient, scores, rule)) for patient in scanless]
    return candidates, (*scores.remarks, *_unused(len(used), scans_of, scores, rule))


def scans_of(firsts: Sequence[Path], images: Sequence[str]) -> list[Candidate]:
    """The scans that the first images of a derivative belong to, without scores; covariates are those of their sidecars."""
    return [_candidate(first, _entities(first), images) for first in firsts]


def _candidate(t1w: Path, name: tuple[str, str], images: Sequence[str]) -> Candidate:
    beside = _nifti(list_folder(t1w.parent))
    labels, dialect = _label_map(t1w, images[0], beside)
    return Candidate(
        patient=name[0],
        session=name[1],
        images={images[0]: t1w} | images_of(**{other: _beside(t1w, images[0], beside, other) for other in images[1:]}),
        score=None,
        where=t1w.name,
        mask=_only(beside, _starts(t1w, images[0]), "_desc-brain_mask", "brain masks"),
        labels=labels,
        dialect=dialect,
        covariates=_sidecar(t1w),
    )


def _scored(candidate: Candidate, score: Score | None, where: str, target: Target) -> Candidate:
    """The same scan with the score that was assigned to it, and where that came from."""
    provenance = {target.source_column: score.source, "days_since_relapse": score.since_relapse} if score else {}
    known = {key: str(value) for key, value in provenance.items() if value not in (None, "")}
    stands = f"{candidate.where}, {where}" if where else candidate.where
    return replace(candidate, score=score, where=stands, covariates={**candidate.covariates, **known})


def _without_scan(patient: str, scores: Assessments, target: Target) -> str:
    rows = scores.by_patient.get(patient, [])
    return f"{target.name} without a scan: {', '.join(row.where for row in rows)}" if rows else "participants.tsv"


def _unused(used: int, scanned: Container[str], scores: Assessments, target: Target) -> list[str]:
    """A remark that counts the assessments, if some belong to no scan."""
    alone = sorted(patient for patient in scores.by_patient if patient not in scanned)
    lost = sum(len(scores.by_patient[patient]) for patient in alone)
    if used == scores.count:
        return []
    names = f" ({', '.join(alone[:10])}{', ...' if len(alone) > 10 else ''})" if alone else ""
    return [
        f"{target.name} assessments: {scores.count}; belonging to a scan: {used}; of other days: {scores.count - used - lost}; "
        f"of patients without a scan: {lost}{names}"
    ]


def bids_ids(root: Path, *derivatives: Path) -> Iterator[Written]:
    """Every patient and session that tables and folders of a BIDS dataset name; ids in tables may lack their prefix.

    Args:
        root: The dataset's root, which holds the tables.
        derivatives: Further folders that hold ``sub-*``.

    Raises:
        CohortError: if a table is damaged.
    """
    for path in (root / name for name in ID_TABLES if (root / name).is_file()):
        for row in read_rows(path):
            if patient := bids_id(row, "participant_id", "sub-"):
                yield Written(patient, bids_id(row, "session_id", "ses-"), f"{path.name} line {row['#']}")
    for path in list_folder(root, "sub-*/sub-*_sessions.tsv"):
        for row in read_rows(path):
            yield Written(path.parent.name, bids_id(row, "session_id", "ses-"), f"{path.name} line {row['#']}")
    for folder in dict.fromkeys((root, *derivatives)):
        for subject in (path for path in list_folder(folder, "sub-*") if path.is_dir()):
            yield Written(subject.name, "", f"folder {subject}")
            for session in (path for path in list_folder(subject, "ses-*") if path.is_dir()):
                yield Written(subject.name, session.name, f"folder {session}")


def first_images(folder: Path, image: str) -> list[Path]:
    """The images of one name in MNI152 space under a folder or its one derivative, sorted.

    Raises:
        CohortError: if there is none, or some in several derivatives.
    """
    roots = _roots(folder)
    for patient in (patient for root in roots for patient in list_folder(root, "sub-*") if patient.is_dir()):
        _refuse_locked(patient)
    images_of = {root: images for root in roots if (images := files_named(_nifti(list_folder(root, IMAGES)), image))}
    if folder in images_of:
        return images_of[folder]
    if not images_of:
        raise CohortError(
            f"{folder} holds no {IMAGES[:-5]}_{title(image)}.nii.gz, also not under derivatives/; prepare the scans first"
        )
    if len(images_of) > 1:
        names = ", ".join(str(root.relative_to(folder)) for root in images_of)
        raise CohortError(f"{folder} has scans in several derivatives ({names}); give the folder of one of them as the cohort")
    return next(iter(images_of.values()))


def image_names(folder: Path) -> tuple[str, ...]:
    """Names of all images in MNI152 space under a folder or its derivatives, the usual ones first.

    An image that a scan has twice is left out, unless it is a usual one, and so are brain masks and label maps.
    """
    files = _nifti(path for root in _roots(folder) for path in list_folder(root, IMAGES))
    counts = Counter((path.parent, _space(path.name), name_of(path)) for path in files)
    twice = {name for (_, _, name), count in counts.items() if count > 1}
    further = {name for _, _, name in counts} - twice - {"mask", "dseg", *DEFAULT_IMAGES}
    return (*DEFAULT_IMAGES, *sorted(further))


def _roots(folder: Path) -> list[Path]:
    return [folder, *(root for root in list_folder(folder, "derivatives/*") if root.is_dir())]


def _nifti(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.name.endswith((".nii", ".nii.gz"))]


def _refuse_locked(patient: Path) -> None:
    """Refuse a folder that may not be read, which a search would take as empty."""

    def refuse(error: OSError) -> NoReturn:
        problem = f"{error.filename} cannot be read ({error.strerror})"
        raise CohortError(f"{problem}; fix its permissions, or take the patient out of the tables") from None

    for _, folders, _ in os.walk(patient, onerror=refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]


def _bids_root(folder: Path) -> Path:
    for parent in folder.resolve().parents[:2]:
        if (parent / "participants.tsv").is_file():
            return parent
    raise CohortError(f"no participants.tsv in {folder} or the two folders above it; it must list the participant_id of all")


def participants(root: Path, target: Target | None = None) -> dict[str, dict[str, str]]:
    """Covariates of each participant in participants.tsv; columns that have another meaning in a study's table are left out.

    Args:
        root: The dataset's root.
        target: Whose columns are left out too.

    Raises:
        CohortError: if the table is damaged, or a row has no id or that of another row.
    """
    path = root / "participants.tsv"
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id",))
    other = {"participant_id", "#", *TABLE_COLUMNS}
    cleaned = clean_covariates(
        path, rows, [name for name in rows[0] if name not in other and not (target and target.owns(name))]
    )
    table: dict[str, dict[str, str]] = {}
    lines: dict[str, str] = {}
    for row, covariates in zip(rows, cleaned, strict=True):
        patient, line = bids_id(row, "participant_id", "sub-"), row["#"]
        if not patient:
            raise CohortError(f"{path} line {line}: no participant_id; give one or remove the row")
        if patient in table:
            both = f"{path} line {line}: patient {patient} occurs twice"
            raise CohortError(f"{both}, also in line {lines[patient]}; keep one row for each patient")
        table[patient], lines[patient] = covariates, line
    return table


def _entities(t1w: Path) -> tuple[str, str]:
    """Patient and session of an image by its name, which must agree with its folders."""
    match = ENTITIES.match(t1w.name)
    if match is None:
        raise CohortError(f"{t1w} does not start with sub-X_ or sub-X_ses-Y_; rename it")
    patient, session = match[1], match[2] or ""
    strange = [name for name in (patient, session) if name and name not in t1w.parts]
    if strange:
        raise CohortError(f"{t1w} is not in a folder {strange[0]}; move or rename it")
    return patient, session


def _above_patient(t1w: Path) -> Path:
    return next(parent.parent for parent in t1w.parents if parent.name.startswith("sub-"))


def _stem(t1w: Path) -> str:
    """The name without its suffix."""
    return t1w.name.split(".nii")[0].rpartition("_")[0]


def _space(name: str) -> str:
    """A file's name up to its space."""
    match = re.match(r".*_space-[A-Za-z0-9]+", name)
    assert match is not None  # the glob asked for it
    return match[0]


def _starts(first: Path, image: str) -> tuple[str, ...]:
    """How the names of files of the same scan and space start: as the first image's, else without what tells it from others."""
    return tuple(dict.fromkeys((_space(first.name), _space(without_entities(first.name, image)))))


def _label_map(t1w: Path, image: str, beside: Sequence[Path]) -> tuple[Path | None, str]:
    path = _only(beside, _starts(t1w, image), "_dseg", "label maps")
    if path is None:
        return None, "freesurfer"
    table = path.with_name(path.name.split(".nii")[0] + ".tsv")
    if table.is_file():
        return path, str(table)
    match = re.search(r"_seg-([A-Za-z0-9]+)", path.name)
    return path, match[1].lower() if match else "bids-generic"


def _beside(first: Path, image: str, beside: Sequence[Path], name: str) -> Path | None:
    """Another image of the same scan and space; where there are several, that whose name differs in the suffix alone.

    What an image's name asks for, as ``ce-gadolinium``, may stand before or after the space.
    """
    start = _space(without_entities(first.name, image))
    named = files_named([path for path in beside if without_entities(path.name, name).startswith(start)], name)
    return _one(first.parent, [path for path in named if _stem(path) == _stem(first)] or named, f"{title(name)} images")


def _only(beside: Sequence[Path], starts: Sequence[str], end: str, what: str) -> Path | None:
    """The one image in the T1w's folder whose name ends so, and starts so; with the first start that some image has."""
    ending = [path for path in beside if path.name.split(".nii")[0].endswith(end)]
    every = ([path for path in ending if path.name.startswith(start)] for start in starts)
    matches = next((matches for matches in every if matches), [])
    return _one(matches[0].parent, matches, what) if matches else None


def _one(folder: Path, matches: Sequence[Path], what: str) -> Path | None:
    if len(matches) > 1:
        names = ", ".join(path.name for path in matches)
        raise CohortError(f"{folder} has {len(matches)} {what} for one scan: {names}; keep one")
    return matches[0] if matches else None


def _sidecar(t1w: Path) -> dict[str, str]:
    path = t1w.with_name(t1w.name.split(".nii")[0] + ".json")
    if not path.is_file():
        return {}
    content = read_object(path)
    return {ours: " ".join(str(content[key]).split()) for key, ours in SIDECAR_COVARIATES.items() if key in content}
