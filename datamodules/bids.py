"""Candidates from a BIDS-like folder with derivatives in MNI152 space.

Read are::

    participants.tsv                            participant_id, then covariates (age, sex, site, ...)
    sub-X/sub-X_sessions.tsv                    session_id, acq_time
    phenotype/edss.tsv                          participant_id, edss, edss_date or days_since_scan, session_id
    derivatives/<one>/sub-X/[ses-Y/]anat/       sub-X[_ses-Y]_space-MNI152*_T1w.nii.gz, _FLAIR.nii.gz, and where there are any
                                                ..._desc-brain_mask.nii.gz, ..._seg-<dialect>_dseg.nii.gz (+ .tsv)

Which score belongs to which scan is said in ``datamodules.assessments``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datamodules.assessments import assigned_score, read_scores, scan_date
from datamodules.cohort import MISSING, Candidate, CohortError, LabelRule
from datamodules.tables import TABLE_COLUMNS, bids_id, read_rows, require_columns

ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?_")
IMAGES = "sub-*/**/*_space-MNI152*_T1w.nii*"
SIDECAR_COVARIATES = {"MagneticFieldStrength": "field_strength", "Manufacturer": "vendor"}


def bids_candidates(folder: Path, rule: LabelRule) -> list[Candidate]:
    """All T1w images in MNI152 space under a folder, each with its FLAIR, masks, label map, score and covariates.

    A participant without such an image is a candidate without files, so that the exclusions count it.

    Raises:
        CohortError: if images are missing or in several derivatives, or a table contradicts itself.
    """
    images = _derivative(folder)
    root = folder if (folder / "participants.tsv").is_file() else _bids_root(folder)
    participants = _participants(root)
    scores = read_scores(root)
    names = [_entities(t1w) for t1w in images]
    scans_of = Counter(patient for patient, _ in names)
    found = []
    for t1w, (patient, session) in zip(images, names, strict=True):
        if patient not in participants:
            raise CohortError(f"{t1w.name}: {patient} has no row in {root / 'participants.tsv'}; add it or remove the scan")
        scanned = scan_date(root, patient, session)
        score, where = assigned_score(scores.get(patient, []), patient, session, scanned, scans_of[patient] == 1, rule)
        dseg, dialect = _label_map(t1w)
        found.append(
            Candidate(
                patient=patient,
                session=session,
                t1w=t1w,
                flair=_only(t1w.parent.glob(f"{_stem(t1w)}_FLAIR.nii*"), "FLAIR images"),
                score=score,
                where=f"{t1w.name}, {where}" if where else t1w.name,
                mask=_only(t1w.parent.glob(f"{_space(t1w)}*_desc-brain_mask.nii*"), "brain masks"),
                labels=dseg,
                dialect=dialect,
                covariates=participants[patient] | _sidecar(t1w),
            )
        )
    scanless = [patient for patient in participants if patient not in scans_of]
    return found + [Candidate(patient, "", None, None, None, "participants.tsv") for patient in scanless]


def _derivative(folder: Path) -> list[Path]:
    places = [folder, *(place for place in sorted(folder.glob("derivatives/*")) if place.is_dir())]
    found = {place: images for place in places if (images := _nifti(place.glob(IMAGES)))}
    if folder in found:
        return found[folder]
    if not found:
        raise CohortError(f"{folder} holds no {IMAGES[:-1]}.gz, also not under derivatives/; prepare the scans first")
    if len(found) > 1:
        names = ", ".join(str(place.relative_to(folder)) for place in found)
        raise CohortError(f"{folder} has scans in several derivatives ({names}); give the folder of one of them as the cohort")
    return next(iter(found.values()))


def _nifti(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.name.endswith((".nii", ".nii.gz")))


def _bids_root(folder: Path) -> Path:
    for parent in folder.resolve().parents[:2]:
        if (parent / "participants.tsv").is_file():
            return parent
    raise CohortError(f"no participants.tsv in {folder} or the two folders above it; it must list the participant_id of all")


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """Covariates of each participant; columns that mean something else in a study's own table are left out."""
    path = root / "participants.tsv"
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id",))
    other = {"participant_id", "#", *TABLE_COLUMNS}
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        patient = bids_id(row, "participant_id", "sub-")
        if not patient:
            raise CohortError(f"{path} line {row['#']}: no participant_id; give one or remove the row")
        if patient in table:
            raise CohortError(f"{path} line {row['#']}: patient {patient} occurs twice; keep one row for each patient")
        table[patient] = {n: v for n, v in row.items() if n not in other and v.lower() not in MISSING}
    return table


def _entities(t1w: Path) -> tuple[str, str]:
    """Patient and session of an image by its name, which must agree with its folders."""
    match = ENTITIES.match(t1w.name)
    if match is None:
        raise CohortError(f"{t1w} does not start with sub-X_ or sub-X_ses-Y_; rename it")
    patient, session = match[1], match[2] or ""
    strange = [name for name in (patient, session) if name and name not in t1w.parts]
    if strange:
        raise CohortError(f"{t1w} does not lie in a folder {strange[0]}; move or rename it")
    return patient, session


def _stem(t1w: Path) -> str:
    return t1w.name.split("_T1w.nii")[0]


def _space(t1w: Path) -> str:
    match = re.match(r".*_space-[A-Za-z0-9]+", t1w.name)
    assert match is not None  # the glob asked for it
    return match[0]


def _label_map(t1w: Path) -> tuple[Path | None, str]:
    path = _only(t1w.parent.glob(f"{_space(t1w)}*_dseg.nii*"), "label maps")
    if path is None:
        return None, "freesurfer"
    table = path.with_name(path.name.split(".nii")[0] + ".tsv")
    if table.is_file():
        return path, str(table)
    match = re.search(r"_seg-([A-Za-z0-9]+)", path.name)
    return path, match[1].lower() if match else "bids-generic"


def _only(paths: Iterable[Path], what: str) -> Path | None:
    found = _nifti(paths)
    if len(found) > 1:
        raise CohortError(
            f"{found[0].parent} has {len(found)} {what} for one scan: {', '.join(p.name for p in found)}; keep one"
        )
    return found[0] if found else None


def _sidecar(t1w: Path) -> dict[str, str]:
    path = t1w.with_name(f"{_stem(t1w)}_T1w.json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CohortError(f"{path} is not JSON ({error}); mend or remove it") from None
    if not isinstance(content, dict):
        raise CohortError(f"{path} holds no JSON object; mend or remove it")
    return {ours: " ".join(str(content[key]).split()) for key, ours in SIDECAR_COVARIATES.items() if key in content}
