"""Is a T1w a T1w, and a FLAIR a FLAIR of the same place? By what every brain shows, whatever the other scans of a cohort are.

White matter is brighter than cortex in T1w; in FLAIR it is not, or less so. Fluid is dark in both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files.float16 import to_single
from regions.atlas import template_on
from regions.catalog import CORTEX, VENTRICLES, WHITE_MATTER, Region
from regions.grid import Grid

LEAST_VOXELS = 50
"""A tissue with fewer voxels than this is not measured."""
ENOUGH_VOXELS = 30_000
"""Of more tissue or fluid than this every n-th voxel is looked at; medians of so many are known to 0.01 standard deviations."""
FLUID_PERCENTILE = 20
DARK_PERCENTILE = 10
LEAST_FLUID = 20
"""Voxels of fluid: narrow ventricles have as many at 4 mm."""
LOOKS_SWAPPED = -0.25
"""Below this the two images look swapped. Chosen on two real scans and about 150 phantoms, which had 0.3 and 0.6 and more;
three real scans looked at afterwards had 0.3 and more too. A pair of weak contrast can pass unnoticed."""


def contrast_order(t1w: NDArray[Any], flair: NDArray[Any], brain: NDArray[np.bool_], grid: Grid) -> float:
    """White minus gray matter in T1w, less the same in FLAIR, each in standard deviations of both tissues.

    The tissues are those of the template. Voxels of either that are as dark as the ventricles in one of the images are left
    out: sulci that are wide for the template would otherwise darken the cortex of both images alike. Swapping the images
    changes the sign and nothing else.

    Args:
        t1w: (I, J, K), any unit.
        flair: (I, J, K), the same voxels.
        brain: (I, J, K) bool.
        grid: Where the voxels lie, MNI152 space.

    Returns:
        Positive for a pair that is what it is called, nan where a tissue has too few voxels or one value only.
    """
    tissue, is_white, fluid = _tissues(grid)
    inside = brain.reshape(-1)
    kept, fluid = inside.take(tissue), fluid[inside.take(fluid)]
    if min(_sizes(is_white, kept)) < LEAST_VOXELS or fluid.size < LEAST_VOXELS:
        return float("nan")
    flat = t1w.reshape(-1), flair.reshape(-1)
    images = [_float32(image.take(tissue)) for image in flat]
    for image, whole in zip(images, flat, strict=True):
        kept &= image > np.percentile(_float32(whole.take(fluid)), FLUID_PERCENTILE)
    if min(_sizes(is_white, kept)) < LEAST_VOXELS:
        return float("nan")
    is_white = is_white[kept]
    images = [image[kept] for image in images]
    spreads = [float(image.std(dtype=np.float64)) for image in images]
    if min(spreads) == 0:
        return float("nan")
    first, second = (
        float(_median(image[is_white]) - _median(image[~is_white])) / spread
        for image, spread in zip(images, spreads, strict=True)
    )
    return first - second


def fluid_contrast(t1w: NDArray[Any], flair: NDArray[Any], brain: NDArray[np.bool_], grid: Grid) -> float:
    """How much darker than white matter the fluid is in FLAIR, in standard deviations of the brain.

    Fluid is the darkest tenth of the T1w's brain where it lies in the template's ventricles or within 3 mm of them, so that
    both wide and narrow ventricles will do; white matter is the template's where the T1w is brighter than its median. A FLAIR
    that lies elsewhere, or an image of another kind, is not dark there.

    Args:
        t1w: (I, J, K), any unit.
        flair: (I, J, K), the same voxels.
        brain: (I, J, K) bool, what both have seen.
        grid: Where the voxels lie, MNI152 space.

    Returns:
        nan where a tissue has too few voxels, or the FLAIR one value only.
    """
    white, fluid = (places[brain.reshape(-1)[places]] for places in _white_and_fluid(grid))
    within = _enough(brain)
    if within.size < LEAST_VOXELS:
        return float("nan")
    first, second = t1w.reshape(-1), flair.reshape(-1)
    dark, middle = np.percentile(_float32(first[within]), [DARK_PERCENTILE, 50])
    white, fluid = white[_float32(first[white]) > middle], fluid[_float32(first[fluid]) < dark]
    spread = float(_float32(second[within]).std(dtype=np.float64))
    if white.size < LEAST_VOXELS or fluid.size < LEAST_FLUID or spread == 0:
        return float("nan")
    return float(_median(_float32(second[white])) - _median(_float32(second[fluid]))) / spread


@lru_cache(maxsize=2)
def _white_and_fluid(grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of the template's deep white matter, and of its ventricles with 3 mm around them (at least one voxel)."""
    from scipy.ndimage import binary_dilation

    tissue, is_white, _ = _tissues(grid)
    ventricles = Region("fluid", VENTRICLES, "", "").select(template_on(grid))
    return tissue[is_white], _enough(binary_dilation(ventricles, iterations=max(int(3 / min(grid.spacing)), 1)))


def _sizes(is_white: NDArray[np.bool_], kept: NDArray[np.bool_]) -> tuple[int, int]:
    """How many of the voxels that are kept are white, and how many are not."""
    white = int(np.count_nonzero(is_white & kept))
    return white, int(np.count_nonzero(kept)) - white


def _median(values: NDArray[np.float32]) -> np.float32:
    """The median of (n,) values, n > 0, as ``numpy.median`` gives it, which takes several times as long."""
    half = values.size // 2
    ordered = np.partition(values, half)
    upper: np.float32 = ordered[half]
    return upper if values.size % 2 else (ordered[:half].max() + upper) / np.float32(2)


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return to_single(values) if values.dtype == np.float16 else values.astype(np.float32)


@lru_cache(maxsize=2)
def _tissues(grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.intp]]:
    """Flat indices into a volume: of deep white matter and cortex together, which of them are white, and of the ventricles.

    White matter is the template's without its outermost 3 mm (at least one voxel).
    """
    from scipy.ndimage import binary_erosion

    labels = template_on(grid)
    white = Region("white", WHITE_MATTER, "", "").select(labels)
    deep = np.asarray(binary_erosion(white, iterations=max(int(3 / min(grid.spacing)), 1)))
    fluid = Region("fluid", VENTRICLES, "", "").select(labels)
    tissue, fluid_at = (_enough(mask) for mask in (deep | Region("gray", CORTEX, "", "").select(labels), fluid))
    return tissue, deep.reshape(-1)[tissue], fluid_at


def _enough(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Flat indices of a mask's voxels, of every n-th where they are many."""
    voxels = np.flatnonzero(mask)
    return voxels[:: max(voxels.size // ENOUGH_VOXELS, 1)]
