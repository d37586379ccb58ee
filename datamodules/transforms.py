"""From the files of one scan to a prepared volume: the deterministic TorchIO pipeline, in one place.

The order of steps, for every scan and every input alike::

    read float32 -> same space? -> RAS+ -> the study's grid (crop or pad, never interpolate) -> z-score within the brain
    -> zero outside the brain -> float16

What comes after this, per batch, stands in ``datamodules.augmentation``: random changes for training data only, then the region
step. Inside the brain a prepared voxel is never exactly zero, outside it always is, so the brain mask needs no second array.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort import CohortError, Scan
from regions.atlas import load_template, template_dice
from regions.grid import TOLERANCE_MM, Grid, SpaceError, space_gap_mm

CODE_VERSION = 1
"""Raised whenever prepared volumes change, so that older ones are made anew."""

CHANNELS = ("t1w", "flair")
TINY = np.float16(6e-8)
LEAST_OVERLAP = 0.5


class ScanError(CohortError):
    """One scan whose files cannot be used; the message names the file."""


@dataclass(frozen=True)
class Volume:
    """One image file: (I, J, K) float32 as stored, and its affine (voxel to mm)."""

    path: Path
    array: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prepared:
    """One scan on the study's grid: image (2, I, J, K) float16, labels (I, J, K) uint8 or None.

    Beside them the brain's volume in ml, and the Dice overlap of the brain with the template's. A brain that was registered without
    scaling overlaps by 0.7 to 0.8, an affinely registered one by more than 0.9, a scan that is not in MNI152 space by far less.
    """

    image: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8] | None
    brain_ml: float
    template_dice: float


def read_volume(path: Path) -> Volume:
    """Read one NIfTI file.

    Raises:
        ScanError: if the file is damaged, not a single volume, holds values that are not finite, or one value only.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nib.load(path)
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (ImageFileError, EOFError, OSError, zlib.error, ValueError) as error:
        raise ScanError(f"{path} cannot be read ({_short(error)}); restore the file or take the scan out") from None
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or min(array.shape) < 2:
        raise ScanError(f"{path} has shape {tuple(array.shape)}; a single 3D volume is needed")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ScanError(f"{path} holds {bad} voxels that are not finite (NaN or infinite); export it again")
    if array.min() == array.max():
        raise ScanError(f"{path} holds nothing but the value {array.flat[0]:g}; export it again")
    return Volume(path, array, np.asarray(image.affine, dtype=np.float64))


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def check_same_space(reference: Volume, other: Volume, tolerance_mm: float = TOLERANCE_MM) -> None:
    """Refuse an image that does not lie voxel for voxel on another.

    Raises:
        ScanError: naming both files, and the shapes or the largest distance in mm.
    """
    if reference.array.shape != other.array.shape:
        raise ScanError(f"{other.path} has shape {other.array.shape}, {reference.path.name} {reference.array.shape}; register them")
    gap = space_gap_mm(reference.array.shape, reference.affine, other.affine)
    if gap > tolerance_mm:
        raise ScanError(f"{other.path} lies {gap:.2f} mm from {reference.path.name}, {tolerance_mm:g} mm are allowed; register them")


def study_grid(path: Path, margin_mm: float = 6.0) -> Grid:
    """The grid on which a study's volumes are stored: the voxels of one scan, cropped or extended to the template brain.

    Args:
        path: A scan of the cohort; its spacing and the position of its voxels are taken.
        margin_mm: Room around the template brain.

    Raises:
        ScanError: if the header cannot be read or the scan is not in an axis-aligned space.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nib.as_closest_canonical(nib.load(path))
        own = Grid.of(image.shape[:3], image.affine)
    except (ImageFileError, EOFError, OSError, zlib.error, SpaceError, ValueError) as error:
        raise ScanError(f"{path}: {_short(error)}") from None
    _, template = load_template()
    shape, origin = [], []
    for axis in range(3):
        spacing = own.spacing[axis]
        low = template.origin[axis] - margin_mm
        high = template.origin[axis] + (template.shape[axis] - 1) * template.spacing[axis] + margin_mm
        first = int(np.floor((low - own.origin[axis]) / spacing))
        shape.append(int(np.ceil((high - own.origin[axis]) / spacing)) - first + 1)
        origin.append(own.origin[axis] + first * spacing)
    affine = np.diag([*own.spacing, 1.0])
    affine[:3, 3] = origin
    return Grid.of((shape[0], shape[1], shape[2]), affine)


def prepare_scan(scan: Scan, grid: Grid) -> Prepared:
    """Read a scan's files and bring them to the study's grid.

    Args:
        scan: Its T1w, FLAIR and, where given, brain mask and label map.
        grid: The study's grid in MNI152 space.

    Raises:
        ScanError: naming the file and what is wrong with it.
    """
    import torch
    import torchio as tio

    volumes = {"t1w": read_volume(scan.t1w), "flair": read_volume(scan.flair)}
    reference = volumes["t1w"]
    check_same_space(reference, volumes["flair"])
    subject = tio.Subject(
        {name: tio.ScalarImage(tensor=torch.from_numpy(v.array)[None], affine=v.affine) for name, v in volumes.items()}
        | {"brain": tio.LabelMap(tensor=torch.from_numpy(_brain(scan, reference))[None], affine=reference.affine)}
    )
    if scan.labels is not None:
        subject.add_image(tio.LabelMap(tensor=torch.from_numpy(_labels(scan, reference))[None], affine=reference.affine), "labels")
    subject = to_grid(tio.ToCanonical()(subject), grid, scan)
    brain = subject["brain"].numpy()[0].astype(bool)
    overlap = _template_overlap(brain, grid, scan)
    subject = tio.ZNormalization(masking_method="brain")(subject)
    image = np.stack([subject[name].numpy()[0] for name in CHANNELS]).astype(np.float16)
    image[(image == 0) & brain] = TINY
    image[:, ~brain] = 0
    labels = subject["labels"].numpy()[0].astype(np.uint8) if scan.labels is not None else None
    return Prepared(image, labels, float(brain.sum()) * grid.voxel_mm3 / 1000, overlap)


def to_grid(subject: Any, grid: Grid, scan: Scan) -> Any:
    """Crop and pad a RAS+ subject so that its voxels are those of the grid.

    Raises:
        ScanError: if voxel size or voxel position differ, so that an interpolation would be needed.
    """
    import torchio as tio

    try:
        own = Grid.of(subject.spatial_shape, subject["t1w"].affine)
    except SpaceError as error:
        raise ScanError(f"{scan.t1w}: {error}") from None
    if not np.allclose(own.spacing, grid.spacing, atol=1e-3):
        raise ScanError(f"{scan.t1w} has voxels of {_mm(own.spacing)}, the study {_mm(grid.spacing)}; prepare all scans at one size")
    exact = (np.array(grid.origin) - np.array(own.origin)) / np.array(grid.spacing)
    first = np.rint(exact).astype(int)
    beside = float(np.abs((exact - first) * grid.spacing).max())
    if beside > TOLERANCE_MM:
        raise ScanError(f"{scan.t1w} lies {beside:.2f} mm beside the voxels of the study's other scans; prepare all scans alike")
    after = np.array(own.shape) - first - np.array(grid.shape)
    pad = np.stack([np.maximum(-first, 0), np.maximum(-after, 0)], axis=1).ravel()
    crop = np.stack([np.maximum(first, 0), np.maximum(after, 0)], axis=1).ravel()
    padded = tio.Pad(tuple(int(n) for n in pad), padding_mode=0)(subject)
    return tio.Crop(tuple(int(n) for n in crop))(padded)


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{side:g}" for side in np.round(spacing, 3)) + " mm"


def _brain(scan: Scan, reference: Volume) -> npt.NDArray[np.uint8]:
    """The brain mask on the scan's own grid: its file, or all voxels that are not zero in a brain-extracted image."""
    if scan.mask is not None:
        mask = read_volume(scan.mask)
        check_same_space(reference, mask)
        return (mask.array > 0.5).astype(np.uint8)
    brain = reference.array != 0
    if brain.mean() > 0.9:
        raise ScanError(f"{scan.t1w}: no brain mask, and {brain.mean():.0%} of the image is not zero; give a mask or extract the brain")
    return brain.astype(np.uint8)


def _labels(scan: Scan, reference: Volume) -> npt.NDArray[np.uint8]:
    from regions.labels import DIALECTS, to_scheme

    assert scan.labels is not None
    volume = read_volume(scan.labels)
    check_same_space(reference, volume)
    dialect = scan.dialect if scan.dialect in DIALECTS else Path(scan.dialect)
    try:
        return to_scheme(np.rint(volume.array).astype(np.int32), dialect)
    except ValueError as error:
        raise ScanError(f"{scan.labels}: {error}") from None


def _template_overlap(brain: npt.NDArray[np.bool_], grid: Grid, scan: Scan) -> float:
    overlap = template_dice(brain, grid)
    if overlap < LEAST_OVERLAP:
        raise ScanError(
            f"{scan.t1w}: its brain overlaps the MNI152 template's by Dice {overlap:.2f}, {LEAST_OVERLAP} is needed; register it to MNI152"
        )
    return overlap
