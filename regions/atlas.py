"""Where the regions lie in MNI152 space: the shipped template label map, put on any grid.

Every array is (I, J, K) in RAS+ order: the first axis runs from left to right, the second from posterior to anterior,
the third from inferior to superior. World coordinates are millimetres, 0 at the anterior commissure, and the plane x =
0 is the mid-sagittal plane. Labels are uint8 in the scheme of `regions.labels` (FreeSurfer numbering, 0 = outside the
brain).

The label map is a segmentation of the symmetric MNI152NLin2009a T1 template at 1 mm; `regions/data/README.md` says how
it was made. Arrays that come from a cache are read-only: copy before you write.

References:
    Fonov et al. 2011, NeuroImage 54:313-327, doi 10.1016/j.neuroimage.2010.07.033 (the template).
    Puonti, Iglesias, Van Leemput 2016, NeuroImage 143:235-249, doi 10.1016/j.neuroimage.2016.09.011 (the segmentation).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regions.catalog import LAST_OF_ATLAS, Atlas, Region
from regions.errors import UserError
from regions.grid import Box, EmptyRegionError, Grid, SpaceError, extent, region_box, space_gap_mm, tight_slices

__all__ = [
    "MASK_VERSION",
    "TEMPLATE_PATH",
    "Box",
    "EmptyRegionError",
    "Grid",
    "SpaceError",
    "dilated",
    "load_template",
    "region_box",
    "region_coverage",
    "region_mask",
    "space_gap_mm",
    "template_dice",
    "template_on",
    "template_sha256",
]

TEMPLATE_PATH = Path(__file__).parent / "data" / "mni152_nlin2009a_labels.nii.gz"
"""The label map of the template brain, cropped to the brain."""
MASK_VERSION = 1
"""Raised whenever the same labels on the same grid become another mask: runs that were trained before are then stale."""


@lru_cache(maxsize=1)
def template_sha256() -> str:
    """Return the SHA-256 of the template's label map, as it lies in the package."""
    return hashlib.sha256(TEMPLATE_PATH.read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def load_template() -> tuple[NDArray[np.uint8], Grid]:
    """Return the labels of the template brain, (I, J, K) uint8, and their grid (1 mm, cropped to the brain).

    The file is the package's own: NIfTI-1, little-endian, uint8, with an sform. Reading it here spares a run the start-up time
    of nibabel, and lets one train where nibabel is not installed.
    """
    content = gzip.decompress(TEMPLATE_PATH.read_bytes())
    shape = struct.unpack_from("<3h", content, 42)
    (offset,) = struct.unpack_from("<f", content, 108)
    affine = np.vstack([np.array(struct.unpack_from("<12f", content, 280)).reshape(3, 4), [0, 0, 0, 1]])
    labels = np.frombuffer(content, np.uint8, math.prod(shape), int(offset)).reshape(shape, order="F")
    return labels, Grid.of(labels.shape, affine)


@lru_cache(maxsize=8)
def template_on(grid: Grid) -> NDArray[np.uint8]:
    """Return the template's labels on another grid; cached, read-only, 0 where the grid reaches beyond the template.

    On a grid as fine as the template each voxel takes the label at its centre. On a coarser grid a voxel belongs to the
    brain when at least half of its volume does, and takes the label that fills most of it.

    Args:
        grid: where the labels are wanted.

    Returns:
        (I, J, K) uint8, in the shape of the grid.
    """
    return _on(*load_template(), grid)


def _on(labels: NDArray[Any], source: Grid, grid: Grid) -> NDArray[Any]:
    """Labels on another grid; cached by the callers, so read-only."""
    coarse = any(wanted > source_side + 1e-3 for wanted, source_side in zip(grid.spacing, source.spacing, strict=True))
    result = _largest_share(labels, source, grid) if coarse else _at_centre(labels, source, grid)
    result.setflags(write=False)
    return result


@lru_cache(maxsize=2)
def atlas_labels(atlas: Atlas) -> tuple[NDArray[np.uint16], Grid]:
    """Return the labels of an atlas, (I, J, K) uint16, and their grid.

    Raises:
        SpaceError: the file is no axis-aligned three-dimensional label map, or is not what it was.
    """
    import nibabel as nib

    try:
        image = nib.as_closest_canonical(nib.load(atlas.path))
        values = np.asarray(image.dataobj)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, zlib.error) as error:
        raise SpaceError(f"{atlas.path} cannot be read ({' '.join(str(error).split())})") from None
    if hashlib.sha256(atlas.path.read_bytes()).hexdigest() != atlas.sha256:
        raise SpaceError(f"{atlas.path} was changed since it was read; restore it")
    if values.ndim != 3:
        raise SpaceError(f"it has {values.ndim} axes; a label map has three")
    odd = values[(values != np.round(values)) | (values < 0) | (values > LAST_OF_ATLAS)]
    if odd.size:
        raise SpaceError(f"it holds {odd.flat[0]:g}; a label map has whole numbers from 0 to {LAST_OF_ATLAS}")
    return values.astype(np.uint16), Grid.of(values.shape, image.affine)


@lru_cache(maxsize=4)
def atlas_on(atlas: Atlas, grid: Grid) -> NDArray[np.uint16]:
    """Return the labels of an atlas on another grid, as `template_on` does; cached, read-only."""
    return _on(*atlas_labels(atlas), grid)


def inside_template(labels: NDArray[Any], grid: Grid) -> float:
    """Return which share of a label map's labelled voxels lies in the template's brain, 0 ... 1."""
    labelled = labels > 0
    count = int(np.count_nonzero(labelled))
    return int(np.count_nonzero(labelled & (template_on(grid) > 0))) / count if count else 0.0


def _at_centre(labels: NDArray[Any], source: Grid, grid: Grid) -> NDArray[Any]:
    """Look up the label at the centre of every voxel of a grid."""
    padded = np.pad(labels, 1)
    picks = []
    for axis in range(3):
        centres = grid.origin[axis] + grid.spacing[axis] * np.arange(grid.shape[axis])
        index = np.floor((centres - source.origin[axis]) / source.spacing[axis] + 0.5 + 1e-4).astype(int)
        picks.append(np.clip(index, -1, source.shape[axis]) + 1)
    return padded[np.ix_(*picks)]


def _largest_share(labels: NDArray[Any], source: Grid, grid: Grid) -> NDArray[Any]:
    """Give every coarse voxel the brain label that fills most of it, or 0 when less than half of it is brain."""
    overlaps = [_overlap(source, grid, axis) for axis in range(3)]
    brain = np.zeros(grid.shape, np.float32)
    largest = np.zeros(grid.shape, np.float32)
    result = np.zeros(grid.shape, labels.dtype)
    for label, box in _boxes_of(labels).items():
        share: NDArray[np.floating[Any]] = (labels[box] == label).astype(np.float32)
        rows = [overlap[:, side] for overlap, side in zip(overlaps, box, strict=True)]
        touched = tuple(extent(part.any(axis=1)) for part in rows)
        for axis in range(3):
            part = rows[axis][touched[axis]]
            share = np.moveaxis(np.tensordot(part, share, axes=(1, axis)), 0, axis)
        brain[touched] += share
        better = share > largest[touched]
        result[touched][better] = label
        largest[touched][better] = share[better]
    result[brain < 0.5 - 1e-4] = 0
    return result


def _boxes_of(labels: NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """Return where each label but 0 lies, as the smallest box around it; importing SciPy for that would take much longer."""
    seen = []
    for axis in range(3):
        present = np.zeros((labels.shape[axis], int(labels.max()) + 1), bool)
        for row, slab in zip(present, np.moveaxis(labels, axis, 0), strict=True):
            row[slab] = True
        seen.append(present)
    present_labels = np.flatnonzero(seen[0].any(axis=0))
    return {int(label): tuple(extent(present[:, label]) for present in seen) for label in present_labels if label}


def _overlap(source: Grid, grid: Grid, axis: int) -> NDArray[np.float32]:
    """Return the share of each wanted voxel's side that each source voxel covers, (wanted, source)."""

    def edges(of: Grid) -> NDArray[np.float64]:
        return np.asarray(of.origin[axis] + of.spacing[axis] * (np.arange(of.shape[axis] + 1) - 0.5), dtype=np.float64)

    wanted, given = edges(grid), edges(source)
    low = np.maximum(wanted[:-1, None], given[None, :-1])
    high = np.minimum(wanted[1:, None], given[None, 1:])
    return np.asarray(np.clip(high - low, 0, None) / grid.spacing[axis], dtype=np.float32)


@lru_cache(maxsize=64)
def region_mask(region: Region, grid: Grid, dilate_mm: float = 0.0) -> NDArray[np.bool_]:
    """Return where a region of the template, or of its atlas, lies on a grid; cached, read-only.

    Args:
        region: its labels, or the whole brain when it has none.
        grid: where the mask is wanted.
        dilate_mm: also take every voxel whose centre lies within this distance of the region.

    Returns:
        (I, J, K) bool, in the shape of the grid.

    Raises:
        EmptyRegionError: the grid does not contain the region at all.
        ValueError: dilate_mm is negative.
    """
    mask = region.select(template_on(grid) if region.atlas is None else atlas_on(region.atlas, grid))
    if not mask.any():
        if not region.select(_label_map(region)[0]).any():
            numbers = ", ".join(map(str, region.labels))
            raise EmptyRegionError(
                f"Region {region.name!r} is nowhere: the label map of the template has no voxel of {numbers}."
            )
        far = [
            origin + spacing * (side - 1) for origin, spacing, side in zip(grid.origin, grid.spacing, grid.shape, strict=True)
        ]
        raise EmptyRegionError(
            f"Region {region.name!r} lies outside the volume, which spans {_point(grid.origin)} to {_point(far)} mm. "
            "Is the image in MNI152 space?"
        )
    mask = dilated(mask, grid.spacing, dilate_mm)
    mask.setflags(write=False)
    return mask


def _label_map(region: Region) -> tuple[NDArray[Any], Grid]:
    """The label map that a region is cut from, and its grid."""
    return load_template() if region.atlas is None else atlas_labels(region.atlas)


@lru_cache(maxsize=32)
def region_coverage(region: Region, grid: Grid) -> float:
    """Return which share of a region's template volume lies inside a volume, 0 ... 1; cached.

    Args:
        region: its labels, or the whole brain when it has none.
        grid: the volume; a voxel reaches half a spacing beyond its centre.
    """
    labels, source = _label_map(region)
    inside = []
    for axis in range(3):
        centres = source.origin[axis] + source.spacing[axis] * np.arange(source.shape[axis])
        first = grid.origin[axis] - grid.spacing[axis] / 2
        inside.append((centres > first) & (centres < first + grid.spacing[axis] * grid.shape[axis]))
    mask = region.select(labels)
    return float(mask[np.ix_(*inside)].sum() / mask.sum())


def mirrored_share(region: Region) -> float:
    """Return which share of a region's voxels has its mirror image about x = 0 mm in the region too, 0 ... 1.

    Args:
        region: its labels, or the whole brain when it has none.
    """
    labels, source = _label_map(region)
    mask = region.select(labels)
    left, *others = np.nonzero(mask)
    right = source.mirror - left
    there = (right >= 0) & (right < mask.shape[0])
    found = mask[right[there], others[0][there], others[1][there]]
    return float(np.count_nonzero(found) / left.size) if left.size else 0.0


def template_dice(brain: NDArray[np.bool_], grid: Grid) -> float:
    """Return how well a brain fills the template's outline: 1 for a perfect fit, 0 for none (Dice coefficient).

    The template is larger than most brains. Brains that were moved to MNI152 without being scaled show in a low value
    (two of them: 0.76 and 0.74); the template's regions then miss the outer parts of theirs by a centimetre.

    Args:
        brain: (I, J, K) bool, brain mask or image != 0 after brain extraction.
        grid: the grid of the mask.

    Raises:
        ValueError: the mask has another shape than the grid.
    """
    if brain.shape != grid.shape:
        raise ValueError(f"The brain mask has shape {brain.shape}, its grid {grid.shape}: they must be equal.")
    outline, voxels = _outline(grid)
    total = int(np.count_nonzero(brain)) + voxels
    return 2 * int(np.count_nonzero(brain & outline)) / total if total else 0.0


@lru_cache(maxsize=8)
def _outline(grid: Grid) -> tuple[NDArray[np.bool_], int]:
    """Return where the template's brain lies on a grid, and how many voxels it has; cached, read-only."""
    outline = template_on(grid) > 0
    outline.setflags(write=False)
    return outline, int(np.count_nonzero(outline))


def _point(values: ArrayLike) -> str:
    """Print a world coordinate."""
    return "(" + ", ".join(f"{value:g}" for value in np.round(np.asarray(values, float), 2)) + ")"


def dilated(mask: NDArray[np.bool_], spacing: tuple[float, float, float], distance_mm: float) -> NDArray[np.bool_]:
    """Grow a mask by a distance in mm, the same in every direction.

    Args:
        mask: (I, J, K) bool.
        spacing: voxel sides in mm.
        distance_mm: 0 returns the mask itself.

    Raises:
        ValueError: the distance is negative.
    """
    if distance_mm < 0:
        raise UserError(f"A region is grown by 0 mm or more, not {distance_mm:g} mm.")
    if distance_mm == 0 or not mask.any():
        return mask
    from scipy.ndimage import distance_transform_edt

    reach = [int(np.ceil(distance_mm / side)) for side in spacing]
    near = tuple(
        slice(max(side.start - margin, 0), side.stop + margin) for side, margin in zip(tight_slices(mask), reach, strict=True)
    )
    grown = np.zeros_like(mask)
    grown[near] = distance_transform_edt(~mask[near], sampling=spacing) <= distance_mm + 1e-6
    return grown
