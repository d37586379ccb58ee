"""Raw BIDS datasets made of phantoms: brains without skull, moved to where a scanner might have put them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from datamodules.phantoms import scan as phantom_scan
from datamodules.phantoms.anatomy import Anatomy, build_anatomy
from datamodules.phantoms.patients import PhantomOptions, draw_patients, generator
from datamodules.phantoms.scan import render_scan


def rigid(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """A rotation about x, then y, then z, and a shift, (4, 4)."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix[:3, 3] = shift_mm
    return matrix


@dataclass(frozen=True)
class MovedPhantom:
    """A raw dataset of one session, and its truth.

    ``to_t1w`` takes template points to T1w points, ``t1w_to_flair`` T1w points to FLAIR points; ``labels`` lie on ``affine`` in
    template space.
    """

    folder: Path
    labels: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]
    to_t1w: np.ndarray[Any, Any]
    t1w_to_flair: np.ndarray[Any, Any]


def write_moved_phantom(
    folder: Path, spacing_mm: float = 3.0, seed: int = 5, deformation_mm: float = 0.0, moved: bool = True
) -> MovedPhantom:
    """Write sub-P01/ses-1 with T1w (stored back to front), FLAIR, sidecars, and its label map as FreeSurfer's results.

    A phantom's head is up to 2 % larger or smaller than the template's along each axis, and that is part of the truth. Without
    deformation its structures then lie where the template's do, so that the place to which it must come back is known; a
    deformed one fits the template with another affine than the one that moved it.
    """
    options = PhantomOptions(patients=7, scans=7, spacing_mm=spacing_mm, seed=seed)
    anatomy = build_anatomy(spacing_mm)
    truth = replace(options.truth, deformation_mm=deformation_mm)
    patient = draw_patients(options)[0]
    scan = patient.scans[0]
    fresh = generator(options, patient.number, scan.number, purpose=1)
    images = render_scan(anatomy, truth, patient, scan, generator(options, patient.number, purpose=1), fresh)
    to_t1w = rigid((7, -4, 10), (9.0, -14.0, 11.0)) @ np.diag([0.92, 0.95, 0.9, 1])
    t1w_to_flair = rigid((-1.5, 2, 1), (1.5, -2.0, 2.5))
    if not moved:
        to_t1w, t1w_to_flair = np.eye(4), np.eye(4)
    affine = anatomy.grid.matrix
    fresh = generator(options, patient.number, scan.number, purpose=1)
    size = own_size(anatomy, patient.sex, generator(options, patient.number, purpose=1), fresh)
    anat = folder / "sub-P01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    back_to_front = np.eye(4)
    back_to_front[1, 1], back_to_front[1, 3] = -1, images.t1.shape[1] - 1
    _write(anat / "sub-P01_ses-1_T1w.nii.gz", images.t1[:, ::-1], to_t1w @ affine @ back_to_front)
    _write(anat / "sub-P01_ses-1_FLAIR.nii.gz", images.flair, t1w_to_flair @ to_t1w @ affine)
    for kind in ("T1w", "FLAIR"):
        told = {"MagneticFieldStrength": 3, "Manufacturer": "Siemens", "PatientName": "Roehampton^Jane"}
        (anat / f"sub-P01_ses-1_{kind}.json").write_text(json.dumps(told))
    found = folder / "derivatives" / "freesurfer" / "sub-P01_ses-1" / "mri"
    found.mkdir(parents=True)
    nib.save(nib.MGHImage(images.labels.astype(np.int32), to_t1w @ affine), found / "aseg.mgz")
    (folder / "participants.tsv").write_text("participant_id\tage\tsurname\nsub-P01\t41\tRoehampton\n")
    (folder / "phenotype").mkdir()
    (folder / "phenotype" / "edss.tsv").write_text(
        "participant_id\tsession_id\tedss\tdays_since_scan\nsub-P01\tses-1\t2.5\t3\n"
    )
    return MovedPhantom(folder, images.labels, size @ affine, to_t1w @ np.linalg.inv(size), t1w_to_flair)


def own_size(anatomy: Anatomy, sex: str, own: np.random.Generator, fresh: np.random.Generator) -> np.ndarray[Any, Any]:
    """From a phantom's points to the template's, (4, 4): its head's own size, which it has without any deformation."""
    points = phantom_scan._deformed_points(anatomy, 0.0, sex, own, fresh)
    first, last = points[0, 0, 0], points[-1, -1, -1]
    lengths = [centres[-1] - centres[0] for centres in anatomy.axes]
    return np.diag([*((last - first) / lengths), 1.0])


def _write(path: Path, array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    image.header["descrip"] = b"Roehampton, Jane"
    nib.save(image, path)
