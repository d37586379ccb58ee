"""Synthetic cohorts with a planted truth, written as a BIDS dataset: no patient, no download, any size.

```
<folder>/
  dataset_description.json  README  participants.tsv (+ .json)
  phenotype/edss.tsv (+ .json)                 participant_id session_id edss edss_date
  sub-0001/sub-0001_sessions.tsv               session_id acq_time
  derivatives/phantom/
    dataset_description.json                   GeneratedBy: preset, seed, spacing, version
    sub-0001/ses-01/anat/
      sub-0001_ses-01_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz (+ .json)
      sub-0001_ses-01_space-MNI152NLin2009aSym_desc-preproc_FLAIR.nii.gz (+ .json)
      sub-0001_ses-01_space-MNI152NLin2009aSym_desc-brain_mask.nii.gz
      sub-0001_ses-01_space-MNI152NLin2009aSym_seg-freesurfer_dseg.nii.gz
```

Images are RAS+, in MNI152 space, without skull and exactly 0 outside the brain mask. The same options give the same
bytes. A folder is filled beside its final place and renamed when complete. The patients are invented; every number they
give says something about the software, nothing about multiple sclerosis.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.files.atomic import filled_folder, is_taken
from datamodules.files.tables import tsv_text
from datamodules.phantoms.anatomy import build_anatomy
from datamodules.phantoms.patients import PhantomOptions, PhantomPatient, PhantomScan, draw_patients, generator
from datamodules.phantoms.presets import PRESETS, PhantomError, PhantomPreset, get_preset
from datamodules.phantoms.scan import render_scan

SPACE = "MNI152NLin2009aSym"
PIPELINE = "phantom"
BIDS_VERSION = "1.10.0"

__all__ = ["PRESETS", "PhantomError", "PhantomOptions", "PhantomPreset", "get_preset", "write_phantom_cohort"]


def write_phantom_cohort(
    folder: Path,
    options: PhantomOptions,
    on_scan: Callable[[int, int], None] | None = None,
    processes: int = 1,
) -> Path:
    """Make a synthetic cohort.

    Args:
        folder: where it goes; must not exist yet, or be empty.
        options: what cohort.
        on_scan: called after each patient with the number of scans written so far and of all scans.
        processes: how many patients are drawn at a time; changes the speed, not a byte.

    Returns:
        The folder.

    Raises:
        PhantomError: the folder is taken, or processes is below 1.
    """
    if processes < 1:
        raise PhantomError(f"A cohort is drawn by 1 process or more, not {processes}.")
    if is_taken(folder):
        raise PhantomError(f"{folder} exists and is not empty. Choose another folder, or remove it first.")
    with filled_folder(folder) as partial:
        patients = draw_patients(options)
        _write_tables(partial, options, patients)
        done = 0
        for written in _each_patient(partial, options, patients, processes):
            done += written
            if on_scan is not None:
                on_scan(done, options.scans)
    return folder


def _each_patient(part: Path, options: PhantomOptions, patients: list[PhantomPatient], processes: int) -> Iterator[int]:
    """Write the images of every patient; yields the number of scans written for one, as they are done."""
    work = partial(_write_patient, part / "derivatives" / PIPELINE, options)
    if processes == 1:
        yield from map(work, patients)
        return

    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, patients)


def _write_patient(root: Path, options: PhantomOptions, patient: PhantomPatient) -> int:
    """Draw and write all scans of a patient; returns how many."""
    anatomy = build_anatomy(options.spacing_mm)
    for scan in patient.scans:
        patient_rng = generator(options, patient.number, purpose=1)
        scan_rng = generator(options, patient.number, scan.number, purpose=1)
        images = render_scan(anatomy, options.truth, patient, scan, patient_rng, scan_rng)
        sub, ses = f"sub-{patient.label}", f"ses-{scan.number:02d}"
        anat = root / sub / ses / "anat"
        anat.mkdir(parents=True)
        stem = f"{sub}_{ses}_space-{SPACE}"
        affine = anatomy.grid.matrix
        for suffix, picture in (("T1w", images.t1), ("FLAIR", images.flair)):
            _write_nifti(anat / f"{stem}_desc-preproc_{suffix}.nii.gz", picture, affine)
            _write_json(anat / f"{stem}_desc-preproc_{suffix}.json", _sidecar(scan))
        _write_nifti(anat / f"{stem}_desc-brain_mask.nii.gz", images.mask.astype(np.uint8), affine)
        _write_nifti(anat / f"{stem}_seg-freesurfer_dseg.nii.gz", images.labels, affine)
    return len(patient.scans)


def _write_nifti(path: Path, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a volume as gzipped NIfTI with the codes of MNI space and nothing in it that depends on the clock."""
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _sidecar(scan: PhantomScan) -> dict[str, Any]:
    """Return what a derivative's JSON says about the scan."""
    return {
        "MagneticFieldStrength": scan.scanner.field_t,
        "Manufacturer": scan.scanner.manufacturer,
        "SkullStripped": True,
        "SpatialReference": SPACE,
        "Sources": [],
        "Synthetic": True,
    }


def _write_tables(part: Path, options: PhantomOptions, patients: list[PhantomPatient]) -> None:
    """Write everything but the images."""
    for root, kind in ((part, "raw"), (part / "derivatives" / PIPELINE, "derivative")):
        root.mkdir(parents=True, exist_ok=True)
        _write_json(root / "dataset_description.json", _description(options, kind))
    (part / "README").write_text(_readme(options), encoding="utf-8")
    people = ((f"sub-{patient.label}", patient.age, patient.sex, patient.site) for patient in patients)
    _write_tsv(part / "participants.tsv", ("participant_id", "age", "sex", "site"), people)
    _write_json(part / "participants.json", _PARTICIPANTS)
    rows = []
    for patient in patients:
        sub = f"sub-{patient.label}"
        (part / sub).mkdir()
        sessions = [(f"ses-{scan.number:02d}", scan.taken.isoformat(timespec="seconds")) for scan in patient.scans]
        _write_tsv(part / sub / f"{sub}_sessions.tsv", ("session_id", "acq_time"), sessions)
        for scan in patient.scans:
            edss = "n/a" if scan.edss is None else f"{scan.edss:.1f}"
            rows.append((sub, f"ses-{scan.number:02d}", edss, scan.edss_date.isoformat()))
    (part / "phenotype").mkdir()
    _write_tsv(part / "phenotype" / "edss.tsv", ("participant_id", "session_id", "edss", "edss_date"), rows)
    _write_json(part / "phenotype" / "edss.json", _EDSS)


def _description(options: PhantomOptions, kind: str) -> dict[str, Any]:
    """Return a dataset_description.json that says how to make the cohort again."""
    made = {
        "Name": "regionwise phantoms",
        "Version": version("regionwise"),
        "Description": f"Synthetic cohort: {options.truth.description}",
        "Options": asdict(options),
    }
    return {
        "Name": f"Phantom cohort {options.preset}" + (" (external)" if options.external else ""),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "License": "CC0",
        "GeneratedBy": [made],
    }


def _readme(options: PhantomOptions) -> str:
    """Return the cohort's README."""
    return (
        f"Synthetic brain MRI, preset {options.preset}, seed {options.seed}, {options.spacing_mm:g} mm.\n"
        f"{options.truth.description}\n"
        "Nobody in this folder exists. Numbers from it describe software, not multiple sclerosis.\n"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_tsv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Write a tab-separated table."""
    path.write_text(tsv_text(columns, rows), encoding="utf-8")


_PARTICIPANTS = {
    "age": {"Description": "Age at the first scan", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Where the scans were made"},
}

_EDSS = {
    "MeasurementToolMetadata": {"Description": "Expanded Disability Status Scale"},
    "edss": {"Description": "EDSS, 0 to 10, n/a when it is missing"},
    "edss_date": {"Description": "Day of the examination, YYYY-MM-DD"},
}
