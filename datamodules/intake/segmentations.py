"""Label maps that other programs left beside a raw BIDS dataset, in the space of the scan.

Looked for are, with the session in the subject's name or as a folder::

    derivatives/freesurfer*/sub-X[_ses-Y]/mri/aparc+aseg.mgz, else aseg.mgz
    derivatives/fastsurfer*/sub-X[_ses-Y]/mri/aparc.DKTatlas+aseg.deep.mgz, else aseg.auto_noCCseg.mgz
    derivatives/synthseg*/sub-X[_ses-Y]/mri/synthseg.mgz
    derivatives/samseg*/sub-X[_ses-Y]/[mri/]seg.mgz
    derivatives/<any>/sub-X/[ses-Y/]anat/sub-X[_ses-Y][_...]_seg-<dialect>[_...]_dseg.nii[.gz], unless in a template's space
"""

from __future__ import annotations

from pathlib import Path

from datamodules.cohort.records import scan_name
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError

FILES = {
    "freesurfer": ("mri/aparc+aseg.mgz", "mri/aseg.mgz"),
    "fastsurfer": ("mri/aparc.DKTatlas+aseg.deep.mgz", "mri/aseg.auto_noCCseg.mgz"),
    "synthseg": ("mri/synthseg.mgz", "synthseg.nii.gz"),
    "samseg": ("mri/seg.mgz", "seg.mgz"),
}
"""What each program calls its label map, the more detailed one first."""


def find_label_map(root: Path, patient: str, session: str, program: str = "") -> tuple[Path | None, str]:
    """The label map of a raw session and its dialect, (None, "") if it has none.

    Args:
        root: The raw dataset.
        patient: ``sub-X``.
        session: ``ses-Y``, or empty.
        program: One of the four; needed if several programs left label maps.

    Raises:
        CohortError: if the program is unknown, or it is open which label map is meant.
    """
    if program and program not in FILES:
        raise CohortError(f"label maps of {program!r} are not known; known are {', '.join(FILES)}")
    matches = [(path, dialect) for dialect, path in _label_maps(root, patient, session) if program in ("", dialect)]
    if len(matches) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path, _ in matches)
        raise CohortError(
            f"{scan_name(patient, session)} has several label maps ({listed}); name the program to take, or keep one"
        )
    return matches[0] if matches else (None, "")


def program_outputs(folder: Path, program: str, patient: str, session: str) -> list[Path]:
    """The label maps of a session in a program's folder of results, the most detailed first; empty for other programs."""
    names = [f"{patient}_{session}", f"{patient}/{session}"] if session else [patient]
    return [path for name in names for file in FILES.get(program, ()) if (path := folder / name / file).is_file()]


def _label_maps(root: Path, patient: str, session: str) -> list[tuple[str, Path]]:
    label_maps = []
    for derivative in (path for path in list_folder(root, "derivatives/*") if path.is_dir()):
        for dialect in FILES:
            if derivative.name.lower().startswith(dialect):
                label_maps += [(dialect, path) for path in program_outputs(derivative, dialect, patient, session)[:1]]
        anat = derivative / patient / session / "anat" if session else derivative / patient / "anat"
        stem = f"{patient}_{session}_" if session else f"{patient}_"
        for path in list_folder(anat, f"{stem}*_dseg.nii*"):
            dialect = path.name.partition("_seg-")[2].split("_")[0].lower()
            if "_space-MNI" not in path.name and dialect in FILES and path.name.endswith((".nii", ".nii.gz")):
                label_maps.append((dialect, path))
    return label_maps
