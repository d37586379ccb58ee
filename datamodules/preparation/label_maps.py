"""Label maps that another program made in the space of the T1w image, brought to the prepared grid and into the one scheme.

The ids become those of ``regions.labels`` (FreeSurfer numbering) before anything moves, then each voxel of the grid takes the
label nearest to its point, through the T1w's own transform. A table beside the map says what its ids mean, so that it is
never converted twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError
from datamodules.files.volumes import ScanError, Volume, read_volume
from datamodules.intake.segmentations import program_outputs
from datamodules.preparation.registration import Transform, moved_mm, resample
from regions.grid import Grid
from regions.labels import DIALECTS, STRUCTURES, to_scheme

LEAST_OVERLAP = 0.6
"""Dice of the label map's brain with the brain mask; a map of another scan, or of a moved copy, is below."""


def find_labels(folder: Path, dialect: str, patient: str, session: str) -> Path | None:
    """The label map of a session in a folder of results, None if it has none.

    Looked for are ``sub-X_ses-Y/`` or ``sub-X/ses-Y/`` with the file of the program (``mri/aseg.mgz`` and so on), and
    ``**/sub-X[_ses-Y][_...]_dseg.nii[.gz]``.

    Raises:
        CohortError: if the dialect is unknown, or there are several maps.
    """
    if dialect not in DIALECTS and not dialect.endswith(".tsv"):
        known = f"one of {', '.join(DIALECTS)}, or a table (.tsv) of the ids"
        raise CohortError(f"label dialect {dialect!r} is not known; --dialect is {known}")
    if outputs := program_outputs(folder, dialect, patient, session):
        return outputs[0]
    stem = f"{patient}_{session}" if session else patient
    patterns = (f"{patient}/**/{stem}_*dseg.nii*", f"{stem}_*dseg.nii*", f"{stem}.nii*")
    near = sorted({path for pattern in patterns for path in list_folder(folder, pattern)})
    matches = [path for path in near if path.name.endswith((".nii", ".nii.gz")) and "_space-MNI" not in path.name]
    if len(matches) > 1:
        raise CohortError(f"{folder} has several label maps of {stem}: {', '.join(path.name for path in matches)}; keep one")
    return matches[0] if matches else None


def prepare_labels(path: Path, dialect: str, brain: Volume, transform: Transform, grid: Grid, work: Path) -> NDArray[np.uint8]:
    """Bring one label map to the prepared grid.

    Args:
        path: The map, in the millimetres of the T1w image, on any voxels.
        dialect: Its ids.
        brain: The brain mask in the space of the T1w image, 0 and 1.
        transform: From the grid to the T1w image.
        grid: The prepared grid.
        work: Folder for temporary files.

    Returns:
        (I, J, K) uint8 in the scheme of ``regions.labels``.

    Raises:
        ScanError: if the file is damaged, has unknown ids, or lies elsewhere than the brain.
    """
    source = read_volume(path)
    try:
        labels = to_scheme(source.array, dialect)
    except ValueError as error:
        raise ScanError(f"{path}: {error}") from None
    overlap = _overlap(labels > 0, source.affine, brain)
    if overlap < LEAST_OVERLAP:
        problem = f"overlaps the brain of {brain.path.name} by Dice {overlap:.2f}, {LEAST_OVERLAP:g} is needed"
        raise ScanError(f"{path} {problem}; is it the map of this scan, in the scan's own space?")
    return resample(labels, source.affine, transform, grid.shape, grid.matrix, work, "nearestNeighbor").astype(np.uint8)


def _overlap(labelled: NDArray[np.bool_], affine: NDArray[np.float64], brain: Volume) -> float:
    """Dice of two masks on different voxels, counted on every third voxel of the labels."""
    from scipy.ndimage import map_coordinates

    step = (slice(None, None, 3),) * 3
    places = np.indices(labelled.shape)[(slice(None), *step)].reshape(3, -1).T.astype(float)
    there = moved_mm(np.linalg.inv(brain.affine) @ affine, places)
    inside = map_coordinates(brain.array, there.T, order=0, cval=0.0) > 0.5
    chosen = labelled[step].ravel()
    total = int(inside.sum()) + int(chosen.sum())
    return 2 * int((inside & chosen).sum()) / total if total else 0.0


def dialect_name(dialect: str) -> str:
    """What a dialect is called in what is written: ``own`` for a table of ids, whose path says where it lies."""
    return "own" if dialect.endswith(".tsv") else dialect


def label_table(labels: NDArray[np.uint8]) -> str:
    """The table of a label map in the scheme: which structure each id is, tab separated, as BIDS wants it."""
    present = [int(value) for value in np.unique(labels) if value]
    return "\n".join(["index\tname", "0\tBackground", *(f"{value}\t{STRUCTURES[value]}" for value in present)]) + "\n"
