"""A prepared scan's quality in numbers: does it lie where it should, is it whole, is it the right contrast?

Every number is unchanged when an image is scaled or shifted in intensity, so that prepared files (any unit) and stored volumes
(z-scores) give the same. None of them says that a scan is good; each finds one way of being bad. Which values are too far out,
and why, stands in ``datamodules.quality.limits``.

=======================  ==========================================================================================
``brain_ml``             volume of the brain mask
``template_dice``        overlap of the brain mask with the template's, within the field of view where one is given
``template_nmi``         T1w against the template's T1w, normalised mutual information: 1 unrelated, 2 the same
``pair_nmi``             T1w against FLAIR, the same measure, within the brain mask and, where it is given, the field of view
``pair_correlation``     T1w against FLAIR, Pearson's correlation there: near 1 where one image was given twice
``cover_t1w/_flair``     share of the brain mask that is not filled with one and the same value, as the outside of an image is
``contrast_t1w/_flair``  (white - gray matter) / standard deviation in the brain; own label map, else the template's
``fluid_flair``          white matter - fluid in FLAIR, fluid being where the T1w is dark; ``datamodules.quality.contrast``
``contrast_order``       see ``datamodules.quality.contrast``; changes its sign when the two files are swapped
``noise_t1w/_flair``     standard deviation of the noise / standard deviation in the brain; smoothed by interpolation
``cut_<region>``         share of the template's region that is outside the field of view
``ml_<region>``          volume of the region in the scan's own label map, where it has one
=======================  ==========================================================================================

References:
    Studholme, Hill, Hawkes 1999, Pattern Recogn 32:71-86, doi 10.1016/S0031-3203(98)00091-0 (normalised mutual information).
    Immerkaer 1996, Comput Vis Image Underst 64:300-302, doi 10.1006/cviu.1996.0060 (noise from second differences).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.quality.contrast import contrast_order, fluid_contrast
from regions.atlas import region_coverage, template_dice, template_on
from regions.catalog import CORTEX, REGIONS, WHITE_MATTER, Region
from regions.errors import UserError
from regions.grid import Grid
from regions.measure import region_volumes

BINS = 32
"""Levels of intensity in a joint histogram; more leave cells empty at 3 mm, where a brain has 60 000 voxels."""
FINE_MM = 2.0
"""Numbers that need no detail are computed on every n-th voxel, about this far apart."""
LEAST_VOXELS = 50
"""With fewer voxels than this no mean or histogram is computed."""


def measure(
    images: Mapping[str, NDArray[Any]],
    brain: NDArray[np.bool_],
    grid: Grid,
    labels: NDArray[np.uint8] | None = None,
    field: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Compute every quality number of one scan in MNI152 space.

    Args:
        images: (I, J, K) each, RAS+, any unit, on the same voxels, by name: ``t1w`` and ``flair`` are compared with the
            template and each other, whatever else there is only with itself.
        brain: (I, J, K) bool, the brain mask.
        grid: Where the voxels lie.
        labels: (I, J, K) in the scheme of ``regions.labels``.
        field: (I, J, K) bool, what both sequences have seen: a volume of ones, moved as the images were.

    Returns:
        Number by name, nan where it cannot be computed.

    Raises:
        ValueError: if the arrays differ in shape, or the brain mask is empty.
    """
    shapes = {array.shape for array in (*images.values(), brain, labels, field) if array is not None} | {grid.shape}
    if len(shapes) > 1:
        raise ValueError(f"images, masks and grid of one scan have shapes {sorted(shapes)}; they must be equal")
    if not brain.any():
        raise UserError("the brain mask is empty")
    both = brain if field is None else brain & field
    numbers = _fit_numbers(images, brain, both, grid, field)
    for name, image in images.items():
        inside = brain if name == next(iter(images)) else both
        numbers[f"contrast_{name}"] = tissue_contrast(image, inside, grid, labels)
        numbers[f"noise_{name}"] = noise(image, inside)
    if "t1w" in images and "flair" in images:
        numbers["contrast_order"] = contrast_order(images["t1w"], images["flair"], both, grid)
        numbers["fluid_flair"] = fluid_contrast(images["t1w"], images["flair"], both, grid)
    numbers |= {f"cut_{name}": share for name, share in cut_shares(brain, grid, field).items()}
    if labels is not None:
        volumes = region_volumes(labels, grid.voxel_mm3, list(REGIONS.values())[1:])
        numbers |= {f"ml_{name}": volume.ml for name, volume in volumes.items()}
    return numbers


def _fit_numbers(
    images: Mapping[str, NDArray[Any]],
    brain: NDArray[np.bool_],
    both: NDArray[np.bool_],
    grid: Grid,
    field: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """Size and overlap of the brain, and how well the images agree with the template and with each other, where both are."""
    few = _every(grid)
    template = template_image(grid)[few]
    values, inside, shared = {name: image[few] for name, image in images.items()}, brain[few], both[few]
    seen = inside | (template_on(grid)[few] > 0)
    if field is not None:
        seen &= field[few]
    numbers = {
        "brain_ml": float(brain.sum()) * grid.voxel_mm3 / 1000,
        "template_dice": template_dice(brain, grid) if field is None else _dice_within(brain, grid, field),
    }
    if "t1w" in values:
        numbers["template_nmi"] = normalised_mutual_information(values["t1w"][seen], template[seen])
    if "t1w" in values and "flair" in values:
        pair = values["t1w"][shared], values["flair"][shared]
        numbers |= {"pair_nmi": normalised_mutual_information(*pair), "pair_correlation": correlation(*pair)}
    return numbers | {f"cover_{name}": cover(image[inside]) for name, image in values.items()}


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Pearson's correlation of two images' voxels, (n,) each; nan for too few voxels or a constant image."""
    pair = np.stack([first, second]).astype(np.float64)
    if first.size < LEAST_VOXELS or not pair.std(axis=1).all():
        return float("nan")
    return float(np.corrcoef(pair)[0, 1])


def cover(values: NDArray[Any]) -> float:
    """The share of voxels that do not hold the commonest value: where an image ends, all voxels hold the same one."""
    if not values.size:
        return float("nan")
    _, counts = np.unique(values, return_counts=True)
    return 1 - float(counts.max()) / values.size


def _dice_within(brain: NDArray[np.bool_], grid: Grid, field: NDArray[np.bool_]) -> float:
    outline = (template_on(grid) > 0) & field
    total = int((brain & field).sum()) + int(outline.sum())
    return 2 * int((brain & outline).sum()) / total if total else 0.0


def _every(grid: Grid) -> tuple[slice, ...]:
    return tuple(slice(None, None, max(int(FINE_MM / side + 1e-3), 1)) for side in grid.spacing)


def normalised_mutual_information(first: NDArray[Any], second: NDArray[Any]) -> float:
    """How much two images of the same voxels say about each other, (H(A) + H(B)) / H(A, B), see Studholme et al. 1999.

    Args:
        first: (voxels,) any unit; values beyond the 1st and 99th percentile are taken as those.
        second: (voxels,).

    Returns:
        1 for unrelated images, 2 for images that follow from each other; nan for too few voxels or a constant image.
    """
    if first.size < LEAST_VOXELS:
        return float("nan")
    levels = [intensity_levels(values, BINS) for values in (first, second)]
    if levels[0] is None or levels[1] is None:
        return float("nan")
    return float(similarity(np.bincount(levels[0] * BINS + levels[1], minlength=BINS * BINS).reshape(BINS, BINS)))


def similarity(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Normalised mutual information of joint histograms, (..., levels, levels) counts; nan where all counts are in one cell."""
    shares = counts / np.maximum(counts.sum(axis=(-2, -1), keepdims=True), 1)
    apart = _entropy(shares.sum(axis=-1)) + _entropy(shares.sum(axis=-2))
    with np.errstate(invalid="ignore"):
        return np.asarray(apart / _entropy(shares.reshape(*shares.shape[:-2], -1)))


def intensity_levels(values: NDArray[Any], bins: int) -> NDArray[np.int64] | None:
    """Intensity level 0 ... bins - 1 of each voxel, from the 1st to the 99th percentile; None for a constant image."""
    values = np.asarray(values, dtype=np.float32)
    low, high = np.percentile(values, [1, 99])
    if high <= low:
        return None
    return np.clip((values - low) * (bins / (high - low)), 0, bins - 1).astype(np.int64)


def _entropy(shares: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=-1)


def tissue_contrast(
    image: NDArray[Any], brain: NDArray[np.bool_], grid: Grid, labels: NDArray[np.uint8] | None = None
) -> float:
    """White minus gray matter, in standard deviations of the brain: positive in T1w, near zero or negative in FLAIR.

    Args:
        image: (I, J, K), any unit.
        brain: (I, J, K) bool.
        grid: Where the voxels lie.
        labels: (I, J, K), the scan's own; without them the tissues are those of the template.

    Returns:
        nan where a tissue has too few voxels, or the brain only one value.
    """
    white, gray = _tissues(grid) if labels is None else _deep_tissues(labels, grid)
    means = []
    for tissue in (white, gray):
        values = image[tissue & brain]
        if values.size < LEAST_VOXELS:
            return float("nan")
        means.append(float(values.mean(dtype=np.float64)))
    spread = float(image[_every(grid)][brain[_every(grid)]].std(dtype=np.float64))
    return (means[0] - means[1]) / spread if spread > 0 else float("nan")


@lru_cache(maxsize=4)
def _tissues(grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return _deep_tissues(template_on(grid), grid)


def _deep_tissues(labels: NDArray[np.uint8], grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Cerebral white matter without its outermost voxels (3 mm, at least one), and cortex."""
    from scipy.ndimage import binary_erosion

    white = Region("deep_white", WHITE_MATTER, "", "").select(labels)
    steps = max(int(3 / min(grid.spacing)), 1)
    return np.asarray(binary_erosion(white, iterations=steps)), Region("cortex", CORTEX, "", "").select(labels)


def noise(image: NDArray[Any], brain: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise, in standard deviations of the brain (Immerkaer 1996, restricted to the brain).

    The difference of two Laplacians, ``[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]`` in axial slices, takes out what varies
    smoothly; white noise of standard deviation s leaves it with 6 s. Cortex leaves something as well, so that a good scan has
    not 0: the number is for comparing scans.

    Args:
        image: (I, J, K), any unit.
        brain: (I, J, K) bool; a pixel counts when all nine of its neighbourhood are brain.

    Returns:
        nan where no slice holds enough brain.
    """
    if np.count_nonzero(brain) < LEAST_VOXELS:
        return float("nan")
    planes = np.flatnonzero(brain.any(axis=(0, 1)))
    planes = planes[:: max(len(planes) // 24, 1)]
    picture = np.asarray(image[:, :, planes], dtype=np.float32)
    once = picture[2:] - 2 * picture[1:-1] + picture[:-2]
    twice = once[:, 2:] - 2 * once[:, 1:-1] + once[:, :-2]
    whole = brain[:, :, planes]
    rows = whole[2:] & whole[1:-1] & whole[:-2]
    inner = rows[:, 2:] & rows[:, 1:-1] & rows[:, :-2]
    spread = float(picture[whole].std(dtype=np.float64))
    if inner.sum() < LEAST_VOXELS or spread == 0:
        return float("nan")
    return float(np.sqrt(np.pi / 2) * np.abs(twice[inner]).mean(dtype=np.float64) / 6 / spread)


def cut_shares(brain: NDArray[np.bool_], grid: Grid, field: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Which share of each region of the template no scanner has seen.

    Args:
        brain: (I, J, K) bool.
        grid: Where the voxels lie.
        field: (I, J, K) bool, what was seen. Without it, everything was, but what lies beyond a side on which the brain ends
            in a large flat face: a whole brain tapers.

    Returns:
        Share 0 ... 1 by region, the whole brain first; what lies beyond the grid is not seen either.
    """
    labels = template_on(grid)
    seen = labels[_before_flat_faces(brain, grid)] if field is None else labels[field]
    counts, all_counts = (np.bincount(ids.ravel(), minlength=256) for ids in (seen, labels))
    shares = {}
    for region in REGIONS.values():
        chosen = region.select(np.arange(256))
        whole = int(all_counts[chosen].sum())
        shares[region.name] = 1 - region_coverage(region, grid) * int(counts[chosen].sum()) / whole if whole else 1.0
    return shares


def _before_flat_faces(brain: NDArray[np.bool_], grid: Grid) -> tuple[slice, ...]:
    """The volume, without what lies beyond the brain where its last plane is larger than a tapering end can be.

    A ball of 70 mm radius has an end plane of 2 h / 70 of its largest section, h being the plane's thickness; three times that
    and a tenth more is a cut.
    """
    sides = []
    for axis in range(3):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(areas)
        flat = areas.max() * (0.1 + 6 * grid.spacing[axis] / 70)
        first, last = int(planes[0]), int(planes[-1])
        sides.append(slice(first if areas[first] > flat else None, last + 1 if areas[last] > flat else None))
    return tuple(sides)


@lru_cache(maxsize=2)
def template_image(grid: Grid) -> NDArray[np.float32]:
    """The template's T1w on a grid, (I, J, K) float32, from the copy inside the nilearn package; cached, read-only.

    On a coarse grid it is smoothed first, as a large voxel does.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    image: Any = nib.load(_template_path())
    values = np.asarray(image.dataobj, dtype=np.float32)
    template_sides = np.abs(np.diag(image.affine))[:3]
    widths = [np.sqrt(max(side / fine, 1.0) ** 2 - 1) / 2.355 for side, fine in zip(grid.spacing, template_sides, strict=True)]
    smooth = gaussian_filter(values, widths) if max(widths) > 0 else values
    to_voxel = np.linalg.inv(image.affine) @ grid.matrix
    lines = [to_voxel[axis, axis] * np.arange(grid.shape[axis]) + to_voxel[axis, 3] for axis in range(3)]
    result: NDArray[np.float32] = map_coordinates(smooth, np.meshgrid(*lines, indexing="ij"), order=1, output=np.float32)
    result.setflags(write=False)
    return result


def _template_path() -> Path:
    """Where nilearn keeps the template, found without importing it."""
    spec = find_spec("nilearn")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
