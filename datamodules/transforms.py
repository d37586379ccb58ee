"""From the files of one scan to a prepared volume: the deterministic TorchIO pipeline, in one place.

The order of steps, for every scan and every input alike::

    read float32 -> same space? -> RAS+ -> the study's grid (crop or pad, never interpolate) -> z-score within the brain
    -> zero outside the brain -> float16

What comes after this, per batch, stands in ``datamodules.augmentation``: random changes for training data only, then the region
step. Inside the brain a prepared voxel is never exactly zero, outside it always is, so the brain mask needs no second array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort import Scan
from datamodules.contrast import LOOKS_SWAPPED, contrast_order
from datamodules.volumes import ScanError, Volume, canonical_grid, check_same_space, read_volume
from regions.atlas import load_template, template_dice
from regions.grid import TOLERANCE_MM, Grid, SpaceError, space_gap_mm

CODE_VERSION = 2
"""Raised whenever prepared volumes change, so that older ones are made anew."""

CHANNELS = ("t1w", "flair")
TINY = np.float16(6e-8)
LEAST_OVERLAP = 0.5
CHECKED_CONTRAST = ("contrast", "checked")
"""A covariate, of a patient or a scan, that says: somebody looked, T1w and FLAIR are what they are called."""
LARGEST_ML = 2500
"""The template's brain has 1857 ml; a head that still has its skull and skin is twice as large."""


@dataclass(frozen=True)
class Prepared:
    """One scan on the study's grid: image (2, I, J, K) float16, labels (I, J, K) uint8 or None.

    Beside them the brain's volume in ml, and the Dice overlap of the brain with the template's. A brain that was registered
    without scaling overlaps by 0.7 to 0.8, an affinely registered one by more than 0.9, one outside MNI152 space by far less.
    """

    image: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8] | None
    brain_ml: float
    template_dice: float


def study_grid(paths: Sequence[Path], margin_mm: float = 6.0, grid_of: Callable[[Path], Grid] = canonical_grid) -> Grid:
    """The grid on which a study's volumes are stored: the voxels that most scans have, cut or extended to the template brain.

    Args:
        paths: One image of each scan; only headers are read, and those that cannot be used have no say.
        margin_mm: Room around the template brain.
        grid_of: The RAS+ grid of an image.

    Returns:
        The commonest grid, the first of equally common ones. Scans of other shapes whose voxels lie on its lattice, such as
        those of several cohorts at 1 mm, are cropped and padded to it (``to_grid``); others are refused there by name.

    Raises:
        ScanError: if no header can be used; the error is that of the first.
    """
    found: Counter[Grid] = Counter()
    errors: list[ScanError] = []
    for path in paths:
        try:
            grid = _around_template(grid_of(path), margin_mm)
            found[next((one for one in found if _coincide(one, grid)), grid)] += 1
        except SpaceError as error:
            errors.append(ScanError(f"{path}: {error}"))
        except ScanError as error:
            errors.append(error)
    if not found:
        raise errors[0] if errors else ScanError("no scan to take a grid from")
    return found.most_common(1)[0][0]


def _coincide(one: Grid, other: Grid) -> bool:
    return one.shape == other.shape and space_gap_mm(one.shape, one.affine, other.affine) <= TOLERANCE_MM


def _around_template(own: Grid, margin_mm: float) -> Grid:
    """The voxels of a scan's lattice that reach around the template's brain; the same for all scans on one lattice."""
    _, template = load_template()
    shape, origin = [], []
    for axis in range(3):
        spacing = own.spacing[axis]
        low = template.origin[axis] - margin_mm + TOLERANCE_MM
        high = template.origin[axis] + (template.shape[axis] - 1) * template.spacing[axis] + margin_mm - TOLERANCE_MM
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
        subject.add_image(
            tio.LabelMap(tensor=torch.from_numpy(_labels(scan, reference))[None], affine=reference.affine), "labels"
        )
    subject = to_grid(tio.ToCanonical()(subject), grid, scan)
    brain = subject["brain"].numpy()[0].astype(bool)
    overlap = _template_overlap(brain, grid, scan)
    image = np.zeros((len(CHANNELS), *grid.shape), dtype=np.float16)
    inside = np.flatnonzero(brain)
    for channel, name in zip(image, CHANNELS, strict=True):
        values = subject[name].numpy().reshape(-1)[inside]
        if values.min() == values.max():
            raise ScanError(f"{volumes[name].path} has one value only inside the brain; export it again or mend the brain mask")
        channel.reshape(-1)[inside] = normalised(values)
    _refuse_swapped(image, brain, grid, scan)
    labels = subject["labels"].numpy()[0].astype(np.uint8) if scan.labels is not None else None
    return Prepared(image, labels, float(brain.sum()) * grid.voxel_mm3 / 1000, overlap)


def normalised(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Z-scores of a brain's voxels: mean 0, standard deviation 1, never exactly zero, which is kept for what is outside.

    Args:
        values: (n,) float32 of one image's brain.

    Returns:
        (n,) float16; a zero becomes `TINY`.
    """
    scores = (values - np.float32(values.mean(dtype=np.float64))) / np.float32(values.std(dtype=np.float64, ddof=1))
    stored = scores.astype(np.float16)
    stored[np.abs(scores) <= np.float32(TINY) / 2] = TINY  # what float16 rounds to zero
    return np.asarray(stored)


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
    if not np.allclose(own.spacing, grid.spacing, rtol=1e-3):
        sizes = f"voxels of {_mm(own.spacing)}, the study {_mm(grid.spacing)}"
        raise ScanError(f"{scan.t1w} has {sizes}; prepare all scans at one size")
    first = np.rint((np.array(grid.origin) - np.array(own.origin)) / np.array(grid.spacing)).astype(int)
    if (first >= own.shape).any() or (first + grid.shape <= 0).any():
        raise ScanError(f"{scan.t1w} lies wholly outside the MNI152 template's brain; register it to MNI152")
    shifted = own.matrix
    shifted[:3, 3] += first * own.spacing
    beside = space_gap_mm(grid.shape, grid.matrix, shifted)
    if beside > TOLERANCE_MM:
        raise ScanError(
            f"{scan.t1w} lies {beside:.2f} mm beside the voxels of the study's other scans; prepare all scans alike"
        )
    after = np.array(own.shape) - first - np.array(grid.shape)
    pad = np.stack([np.maximum(-first, 0), np.maximum(-after, 0)], axis=1).ravel()
    crop = np.stack([np.maximum(first, 0), np.maximum(after, 0)], axis=1).ravel()
    for sides, step in ((pad, tio.Pad), (crop, tio.Crop)):
        if sides.any():
            subject = step(tuple(int(n) for n in sides))(subject)
    return subject


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
        filled = f"{brain.mean():.0%} of the image is not zero"
        raise ScanError(f"{scan.t1w}: no brain mask, and {filled}; give a mask or extract the brain")
    return brain.astype(np.uint8)


def _labels(scan: Scan, reference: Volume) -> npt.NDArray[np.uint8]:
    from regions.labels import DIALECTS, to_scheme

    assert scan.labels is not None
    volume = read_volume(scan.labels)
    check_same_space(reference, volume)
    dialect = scan.dialect if scan.dialect in DIALECTS else Path(scan.dialect)
    try:
        return to_scheme(volume.array, dialect)
    except ValueError as error:
        raise ScanError(f"{scan.labels}: {error}") from None


def _template_overlap(brain: npt.NDArray[np.bool_], grid: Grid, scan: Scan) -> float:
    overlap, volume_ml = template_dice(brain, grid), brain.sum() * grid.voxel_mm3 / 1000
    if overlap < LEAST_OVERLAP:
        told = f"its brain overlaps the MNI152 template's by Dice {overlap:.2f}, {LEAST_OVERLAP} is needed"
        raise ScanError(f"{scan.t1w}: {told}; register it to MNI152")
    if volume_ml > LARGEST_ML:
        told = f"its brain has {volume_ml:.0f} ml, {LARGEST_ML} ml at most are plausible"
        raise ScanError(f"{scan.t1w}: {told}; give a brain mask or extract the brain")
    return overlap


def _refuse_swapped(image: npt.NDArray[np.float16], brain: npt.NDArray[np.bool_], grid: Grid, scan: Scan) -> None:
    """Refuse a pair whose contrasts are clearly those of a swapped one, unless somebody looked."""
    column, checked = CHECKED_CONTRAST
    if scan.covariates.get(column, "").lower() == checked:
        return
    order = contrast_order(image[0], image[1], brain, grid)
    if order < LOOKS_SWAPPED:
        told = f"white matter is brighter than cortex in {scan.flair.name} rather than here (by {-order:.1f} SD)"
        raise ScanError(f"{scan.t1w}: {told}; swap the two, or write {checked!r} into a column {column!r} of the table")
