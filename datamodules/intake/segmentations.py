"""Label maps that other programs left beside a raw BIDS dataset, in the space of the scan.

Looked for are, with the session in the subject's name or as a folder::

    derivatives/freesurfer*/sub-X[_ses-Y]/mri/aparc+aseg.mgz, else aseg.mgz
    derivatives/fastsurfer*/sub-X[_ses-Y]/mri/aparc.DKTatlas+aseg.deep.mgz, else aseg.auto_noCCseg.mgz
    derivatives/synthseg*/sub-X[_ses-Y]/mri/synthseg.mgz
    derivatives/samseg*/sub-X[_ses-Y]/[mri/]seg.mgz
    derivatives/<any>/sub-X/[ses-Y/]anat/sub-X[_ses-Y][_...]_dseg.nii[.gz], unless in a template's space

The ids of the last are those of the table beside it (``..._dseg.tsv``, see ``regions.labels.read_table``), of the program that
``_seg-<program>`` names, or of a table that the user gives; one without any of these is not used, and that is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
NO_TABLE = "nothing says what its ids mean; put a table of them beside it (_dseg.tsv), or give one with --dialect"


@dataclass(frozen=True)
class FoundLabels:
    """The label map of a session, the program or the table (.tsv) that its ids are of, and those that are not used, by why."""

    path: Path | None = None
    dialect: str = ""
    unused: Mapping[str, Path] = field(default_factory=dict)


def find_label_map(root: Path, patient: str, session: str, program: str = "") -> FoundLabels:
    """The label map of a raw session: one of a known program, else one with a table of its ids beside it.

    Args:
        root: The raw dataset.
        patient: ``sub-X``.
        session: ``ses-Y``, or empty.
        program: One of the four, needed if several programs left label maps; or a table (.tsv) of the ids of ``_dseg`` images.

    Raises:
        CohortError: if the program is unknown, or it is open which label map is meant.
    """
    own = program.endswith(".tsv")
    if program and not own and program not in FILES:
        raise CohortError(
            f"label maps of {program!r} are not known; known are {', '.join(FILES)}, or a table (.tsv) of the ids"
        )
    maps = _label_maps(root, patient, session, program if own else "")
    tables = {path: dialect for path, dialect in maps.items() if dialect.endswith(".tsv")}
    programs = {path: dialect for path, dialect in maps.items() if dialect in FILES and program in ("", dialect)}
    matches = tables if own else programs or ({} if program else tables)
    if len(matches) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path in matches)
        raise CohortError(
            f"{scan_name(patient, session)} has several label maps ({listed}); name the program to take, or keep one"
        )
    unused = {NO_TABLE if not maps[path] else "another label map is taken": path for path in maps if path not in matches}
    path, dialect = next(iter(matches.items()), (None, ""))
    return FoundLabels(path, dialect, unused)


def program_outputs(folder: Path, program: str, patient: str, session: str) -> list[Path]:
    """The label maps of a session in a program's folder of results, the most detailed first; empty for other programs."""
    names = [f"{patient}_{session}", f"{patient}/{session}"] if session else [patient]
    return [path for name in names for file in FILES.get(program, ()) if (path := folder / name / file).is_file()]


def _label_maps(root: Path, patient: str, session: str, table: str) -> dict[Path, str]:
    """Every label map of a session, and its program, the table beside it, or the one given; empty where nothing says it."""
    label_maps: dict[Path, str] = {}
    for derivative in (path for path in list_folder(root, "derivatives/*") if path.is_dir()):
        for dialect in FILES:
            if derivative.name.lower().startswith(dialect):
                label_maps |= dict.fromkeys(program_outputs(derivative, dialect, patient, session)[:1], dialect)
        anat = derivative / patient / session / "anat" if session else derivative / patient / "anat"
        stem = f"{patient}_{session}_" if session else f"{patient}_"
        for path in list_folder(anat, f"{stem}*dseg.nii*"):
            if "_space-MNI" not in path.name and path.name.endswith(("_dseg.nii", "_dseg.nii.gz")):
                label_maps[path] = _dialect(path, table)
    return label_maps


def _dialect(path: Path, table: str) -> str:
    program = path.name.partition("_seg-")[2].split("_")[0].lower()
    beside = path.with_name(path.name.split(".nii")[0] + ".tsv")
    return program if program in FILES else str(beside) if beside.is_file() else table
