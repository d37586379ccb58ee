"""From the files of one scan to a prepared volume: the deterministic steps, in one place.

The order of steps, for every scan and every input alike::

    read as stored -> same space? -> RAS+ -> the study's grid (crop or pad, never interpolate) -> float32 z-score within the
    brain (masks and maps of probability keep their values) -> zero outside the brain -> float16

Turning, cropping and padding are those of TorchIO's ``ToCanonical``, ``Crop`` and ``Pad``, made in one copy.

What comes after this, per batch, stands in ``datamodules.batches.augmentation``: random changes for training data only,
then the region step. Inside the brain a prepared voxel is never exactly zero, outside it always is, so the brain mask needs
no second array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.images import Kind, kind_of
from datamodules.cohort.records import Scan
from datamodules.files.float16 import to_half
from datamodules.files.volumes import ScanError, Volume, canonical_grid, check_same_space, marked, read_stored
from datamodules.quality.contrast import LOOKS_SWAPPED, contrast_order
from datamodules.store.placement import placement
from regions.atlas import load_template, template_dice
from regions.grid import TOLERANCE_MM, Grid, SpaceError, space_gap_mm
from regions.labels import DIALECTS, noisy_voxels, to_scheme

CODE_VERSION = 4
"""Raised whenever prepared volumes change, so that older ones are rebuilt."""

TINY = np.float16(6e-8)
SLAB = 2**17
"""Voxels normalised at once."""
LEAST_OVERLAP = 0.5
CHECKED_CONTRAST = ("contrast", "checked")
"""Covariate and value, of a patient or a scan: the contrast was checked by eye, T1w and FLAIR are not swapped."""
MOST_LABELS = 2048
"""Labels up to which float16 tells all apart."""
ROUNDING = 1e-3
"""By which a probability may lie beyond 0 and 1, as scaled integers leave it."""
LARGEST_ML = 2500
"""The template's brain has 1857 ml; a head that still has its skull and skin is twice as large."""


@dataclass(frozen=True)
class Prepared:
    """One scan on the study's grid: image (C, I, J, K) float16, an image after the other, labels (I, J, K) uint8 or None.

    Beside them the brain's volume in ml, and the Dice overlap of the brain with the template's. A brain that was registered
    without scaling overlaps by 0.7 to 0.8, an affinely registered one by more than 0.9, one outside MNI152 space by far less.
    Last how many voxels of the label map are no whole numbers in its file, and were rounded.
    """

    image: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8] | None
    brain_ml: float
    template_dice: float
    labels_rounded: int


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
    counts: Counter[Grid] = Counter()
    errors: list[ScanError] = []
    for path in paths:
        try:
            grid = _around_template(grid_of(path), margin_mm)
            counts[next((known for known in counts if _coincide(known, grid)), grid)] += 1
        except SpaceError as error:
            errors.append(ScanError(f"{path}: {error}"))
        except ScanError as error:
            errors.append(error)
    if not counts:
        raise errors[0] if errors else ScanError("no scan to take a grid from")
    return counts.most_common(1)[0][0]


def _coincide(first: Grid, second: Grid) -> bool:
    return first.shape == second.shape and space_gap_mm(first.shape, first.affine, second.affine) <= TOLERANCE_MM


def _around_template(grid: Grid, margin_mm: float) -> Grid:
    """The voxels of a scan's lattice that reach around the template's brain; the same for all scans on one lattice."""
    _, template = load_template()
    shape, origin = [], []
    for axis in range(3):
        spacing = grid.spacing[axis]
        low = template.origin[axis] - margin_mm + TOLERANCE_MM
        high = template.origin[axis] + (template.shape[axis] - 1) * template.spacing[axis] + margin_mm - TOLERANCE_MM
        first = int(np.floor((low - grid.origin[axis]) / spacing))
        shape.append(int(np.ceil((high - grid.origin[axis]) / spacing)) - first + 1)
        origin.append(grid.origin[axis] + first * spacing)
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = origin
    return Grid.of((shape[0], shape[1], shape[2]), affine)


def prepare_scan(scan: Scan, grid: Grid) -> Prepared:
    """Read a scan's files and bring them to the study's grid.

    Args:
        scan: Its images and, where given, brain mask and label map.
        grid: The study's grid in MNI152 space.

    Raises:
        ScanError: naming the file and what is wrong with it.
    """
    kinds = [kind_of(name) for name in scan.images]
    volumes = [read_stored(path, kind != "contrast") for path, kind in zip(scan.images.values(), kinds, strict=True)]
    reference = volumes[0]
    for volume in volumes[1:]:
        check_same_space(reference, volume)
    mask = _brain(scan, reference)
    labels, rounded = _labels(scan, reference) if scan.labels is not None else (None, 0)
    onto_grid = placement(reference, grid)
    inside = np.flatnonzero(onto_grid.kept(mask).ravel("F"))
    brain_ml = inside.size * grid.voxel_mm3 / 1000
    if not inside.size:
        _refuse_misplaced(scan, 0.0, brain_ml)
    image, scores = np.empty((len(volumes), *grid.shape), np.float16), np.zeros(mask.shape, np.float16, order="F")
    for channel, volume, kind in zip(image, volumes, kinds, strict=True):
        values = volume.array.ravel("F").take(inside)
        if kind == "contrast" and values.min() == values.max():
            raise ScanError(f"{volume.path} has one value only inside the brain; export it again or fix the brain mask")
        scores.ravel("F")[inside] = normalised(values) if kind == "contrast" else kept_values(volume, values, kind)
        onto_grid(scores, channel)
    brain = image[0].view(np.uint16) != 0  # numpy compares float16 twenty times as slowly
    overlap = template_dice(brain, grid)
    _refuse_misplaced(scan, overlap, brain_ml)
    if has_pair(scan):
        _refuse_swapped(dict(zip(scan.images, image, strict=True)), brain, grid, scan)
    return Prepared(image, onto_grid(labels) if labels is not None else None, brain_ml, overlap, rounded)


def has_pair(scan: Scan) -> bool:
    """Whether a scan has both images whose contrasts are compared."""
    return "t1w" in scan.images and "flair" in scan.images


def kept_values(volume: Volume, values: npt.NDArray[Any], kind: Kind) -> npt.NDArray[np.float16]:
    """A brain's voxels of a mask or a map as they are, but never exactly zero, which is kept for what is outside.

    Args:
        volume: The whole image, which is looked at.
        values: (n,) of its brain.
        kind: What it holds.

    Raises:
        ScanError: if it holds what such an image cannot.
    """
    whole = volume.array
    wrong, allowed = {
        "mask": ((whole != 0) & (whole != 1), "a mask (0 and 1)"),
        "probability": ((whole < -ROUNDING) | (whole > 1 + ROUNDING), "a map of probability (0 to 1)"),
        "labels": ((whole < 0) | (whole > MOST_LABELS) | (whole % 1 != 0), f"a label map (0 to {MOST_LABELS})"),
    }[kind]
    if wrong.any():
        raise ScanError(f"{volume.path} holds {whole[wrong][0]:g}, which {allowed} does not; fix it, or name it otherwise")
    stored = values.astype(np.float16)
    stored[stored == 0] = TINY
    return stored


def normalised(values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """Z-scores of a brain's voxels: mean 0, standard deviation 1, never exactly zero, which is kept for what is outside.

    Sums are float64, scores float32 before they are stored. It goes in slabs, whose copies stay in the processor's cache.

    Args:
        values: (n,) of one image's brain, of a type of which float32 holds every value.

    Returns:
        (n,) float16; a zero becomes `TINY`.
    """
    slabs = [slice(start, start + SLAB) for start in range(0, values.size, SLAB)]
    near = float(values[:SLAB].mean(dtype=np.float64))  # sums of what is near zero lose nothing
    total = squares = 0.0
    for slab in slabs:
        apart = values[slab] - np.float64(near)
        total += float(apart.sum())
        squares += float(np.multiply(apart, apart, out=apart).sum())
    mean = near + total / values.size
    deviation = np.float32(np.sqrt((squares - total**2 / values.size) / (values.size - 1)))
    stored = np.empty(values.size, np.float16)
    for slab in slabs:
        scores = values[slab].astype(np.float32)
        scores -= np.float32(mean)
        scores /= deviation
        to_half(scores, stored[slab])
    stored[stored.view(np.uint16) << 1 == 0] = TINY  # plus and minus zero
    return stored


def _brain(scan: Scan, reference: Volume) -> npt.NDArray[np.bool_]:
    """The brain mask on the scan's own grid: its file, or all voxels that are not zero in a brain-extracted image."""
    if scan.mask is not None:
        mask = read_stored(scan.mask)
        check_same_space(reference, mask)
        return marked(mask)
    brain = np.asarray(reference.array != 0)
    if brain.mean() > 0.9:
        filled = f"{brain.mean():.0%} of the image is not zero"
        raise ScanError(f"{scan.reference}: no brain mask, and {filled}; give a mask or extract the brain")
    return brain


def _labels(scan: Scan, reference: Volume) -> tuple[npt.NDArray[np.uint8], int]:
    """The label map in the scheme, and how many of its voxels were rounded."""
    assert scan.labels is not None
    volume = read_stored(scan.labels)
    check_same_space(reference, volume)
    dialect = scan.dialect if scan.dialect in DIALECTS else Path(scan.dialect)
    try:
        return to_scheme(volume.array, dialect), noisy_voxels(volume.array)
    except ValueError as error:
        raise ScanError(f"{scan.labels}: {error}") from None


def _refuse_misplaced(scan: Scan, overlap: float, brain_ml: float) -> None:
    """Refuse a brain that cannot be one in MNI152 space."""
    if overlap < LEAST_OVERLAP:
        problem = f"its brain overlaps the MNI152 template's by Dice {overlap:.2f}, {LEAST_OVERLAP} is needed"
        raise ScanError(f"{scan.reference}: {problem}; register it to MNI152")
    if brain_ml > LARGEST_ML:
        problem = f"its brain has {brain_ml:.0f} ml, {LARGEST_ML} ml at most are plausible"
        raise ScanError(f"{scan.reference}: {problem}; give a brain mask or extract the brain")


def _refuse_swapped(
    images: Mapping[str, npt.NDArray[np.float16]], brain: npt.NDArray[np.bool_], grid: Grid, scan: Scan
) -> None:
    """Refuse a pair whose contrasts are clearly those of a swapped pair, unless ``CHECKED_CONTRAST`` is set."""
    column, checked = CHECKED_CONTRAST
    if scan.covariates.get(column, "").lower() == checked:
        return
    order = contrast_order(images["t1w"], images["flair"], brain, grid)
    if order < LOOKS_SWAPPED:
        problem = f"white matter is brighter than cortex in {scan.images['flair'].name} rather than here (by {-order:.1f} SD)"
        raise ScanError(
            f"{scan.images['t1w']}: {problem}; swap the two, or write {checked!r} into a column {column!r} of the table"
        )
