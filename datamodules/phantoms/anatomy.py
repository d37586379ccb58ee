"""The template brain as level functions: the ground from which every synthetic scan is deformed.

Each tissue class has a level: its signed distance in mm (negative inside, cut off at `REACH_MM`), averaged over a voxel
of the target grid. Where levels meet, softmax(-level / width) gives partial volumes; raising or lowering a level moves
a boundary. Arrays are (I, J, K) in RAS+ order, coordinates are mm in the template's space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from datamodules.phantoms.levels import REACH_MM, footprint, match_volumes, resampled, signed_distance, smooth_basis
from regions.atlas import Grid, load_template

MARGIN_MM = 9.0
"""What the grid keeps around the brain."""

KNOT_MM = 28.0
"""Distance between the knots of the smooth random displacement."""

BIAS_KNOT_MM = 75.0
"""Distance between the knots of the bias field."""

PATCH_KNOT_MM = 22.0
"""Distance between the knots of the patches of signal change."""


@dataclass(frozen=True)
class Tissue:
    """One class of the phantom.

    Args:
        name: unique.
        left: label written left of the mid-sagittal plane.
        right: label written right of it.
        labels: the template's labels that belong to the class.
        t1: signal on T1w, white matter being 100.
        flair: signal on FLAIR, cortex being 100.
    """

    name: str
    left: int
    right: int
    labels: tuple[int, ...]
    t1: float
    flair: float


TISSUES = (
    Tissue("outside", 0, 0, (0,), 0, 0),
    Tissue("csf", 24, 24, (24,), 26, 18),
    Tissue("cortex", 3, 42, (3, 42), 70, 100),
    Tissue("white_matter", 2, 41, (2, 41, 251, 252, 253, 254, 255), 100, 80),
    Tissue("lateral_ventricle", 4, 43, (4, 5, 43, 44, 72), 22, 14),
    Tissue("third_ventricle", 14, 14, (14,), 24, 16),
    Tissue("fourth_ventricle", 15, 15, (15,), 24, 18),
    Tissue("choroid_plexus", 31, 63, (31, 63), 42, 70),
    Tissue("thalamus", 10, 49, (10, 49), 82, 92),
    Tissue("caudate", 11, 50, (11, 50), 73, 99),
    Tissue("putamen", 12, 51, (12, 51), 78, 93),
    Tissue("pallidum", 13, 52, (13, 52), 92, 76),
    Tissue("hippocampus", 17, 53, (17, 53), 69, 106),
    Tissue("amygdala", 18, 54, (18, 54), 69, 107),
    Tissue("accumbens", 26, 58, (26, 58), 72, 100),
    Tissue("ventral_dc", 28, 60, (28, 60), 90, 84),
    Tissue("brainstem", 16, 16, (16,), 94, 85),
    Tissue("cerebellar_cortex", 8, 47, (8, 47), 69, 96),
    Tissue("cerebellar_white_matter", 7, 46, (7, 46), 98, 80),
)
VENTRICLES = ("lateral_ventricle", "third_ventricle", "fourth_ventricle", "choroid_plexus")
COLUMN_OF = {tissue.name: column for column, tissue in enumerate(TISSUES)}

PIAL, FOLIA, DEEP, ABOVE = (len(TISSUES) + extra for extra in range(4))
"""Columns after the levels, weights from 0 to 1: beside the cortex, beside the cerebellar cortex, away from all
ventricles, away from the brainstem. They keep a change of one structure out of another's territory."""

COLUMNS = len(TISSUES) + 4


@dataclass(frozen=True)
class Anatomy:
    """Everything about the template brain on one grid.

    Args:
        grid: RAS+, voxel centres at multiples of the spacing, three unequal sides.
        active: (I, J, K) bool, the voxels that can lie in the brain of any patient.
        levels: (I * J * K, COLUMNS) float32: level in mm per class, then the weights.
        width: mm, how softly the classes meet.
        knots: smooth basis per axis for displacements, (side, knots) each.
        bias_knots: the same for the bias field.
        patch_knots: the same for patches of signal change.
        lesion_sites: (M, 3) mm, where a lesion may be centred.
        lesion_odds: (M,) cumulative probability of these sites.
    """

    grid: Grid
    active: NDArray[np.bool_]
    levels: NDArray[np.float32]
    width: float
    knots: tuple[NDArray[np.float64], ...]
    bias_knots: tuple[NDArray[np.float64], ...]
    patch_knots: tuple[NDArray[np.float64], ...]
    lesion_sites: NDArray[np.float64]
    lesion_odds: NDArray[np.float64]

    @property
    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """The voxel centres along each axis in mm."""
        return _centres(self.grid)


def _centres(grid: Grid) -> tuple[NDArray[np.float64], ...]:
    """Return the voxel centres along each axis in mm."""
    return tuple(grid.origin[axis] + grid.spacing[axis] * np.arange(grid.shape[axis], dtype=float) for axis in range(3))


def _bases(grid: Grid, step_mm: float) -> tuple[NDArray[np.float64], ...]:
    """Return a smooth basis for each axis of a grid."""
    return tuple(smooth_basis(centres, step_mm) for centres in _centres(grid))


@lru_cache(maxsize=1)
def build_anatomy(spacing_mm: float) -> Anatomy:
    """Compute the anatomy on the grid of a spacing; a few seconds, kept for the next scan."""
    labels, source = load_template()
    grid = phantom_grid(spacing_mm)
    footprints = [footprint(given, wanted, spacing_mm) for given, wanted in zip(_centres(source), _centres(grid), strict=True)]
    distances = {}
    levels = np.empty((*grid.shape, COLUMNS), np.float32)
    targets = np.empty(len(TISSUES))
    known = [label for tissue in TISSUES for label in tissue.labels]
    for column, tissue in enumerate(TISSUES):
        wanted = (*tissue.labels, *_strays(labels, known)) if tissue.name == "csf" else tissue.labels
        inside = np.isin(labels, wanted)
        targets[column] = inside.sum() * source.voxel_mm3
        distance = signed_distance(inside)
        if tissue.name in ("white_matter", "lateral_ventricle"):
            distances[tissue.name] = distance
        levels[..., column] = resampled(distance, footprints)
    active = levels[..., COLUMN_OF["outside"]] > 1.0 - REACH_MM
    _add_weights(levels)
    width = 0.45 * max(spacing_mm, 1.0)
    match_volumes(levels, active, targets / spacing_mm**3, width)
    sites, odds = _lesion_sites(distances["white_matter"], distances["lateral_ventricle"], source)
    return Anatomy(
        grid,
        active,
        levels.reshape(-1, levels.shape[-1]),
        width,
        _bases(grid, KNOT_MM),
        _bases(grid, BIAS_KNOT_MM),
        _bases(grid, PATCH_KNOT_MM),
        sites,
        odds,
    )


def phantom_grid(spacing_mm: float) -> Grid:
    """Return the grid around the template brain: x = 0 amid, centres at multiples of the spacing, unequal sides."""
    labels, source = load_template()
    first, last = [], []
    for axis, centres in enumerate(_centres(source)):
        touched = centres[(labels > 0).any(axis=tuple(other for other in range(3) if other != axis))]
        first.append(math.floor((touched[0] - MARGIN_MM) / spacing_mm))
        last.append(math.ceil((touched[-1] + MARGIN_MM) / spacing_mm))
    last[0] = max(last[0], -first[0])
    first[0] = -last[0]
    sides = [stop - start + 1 for start, stop in zip(first, last, strict=True)]
    for axis in (1, 2):
        while sides[axis] in sides[:axis]:
            sides[axis] += 1
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.array(first) * spacing_mm
    return Grid.of((sides[0], sides[1], sides[2]), affine)


def _strays(labels: NDArray[np.uint8], known: list[int]) -> list[int]:
    """Return the template's labels that no class names (vessels, chiasm): they are drawn like CSF."""
    return sorted({int(label) for label in np.flatnonzero(np.bincount(labels.ravel()))} - set(known))


def _add_weights(levels: NDArray[np.float32]) -> None:
    """Fill the weight columns from the levels."""

    def beside(name: str, reach: float) -> NDArray[np.float32]:
        return np.exp(-((np.maximum(levels[..., COLUMN_OF[name]], 0) / reach) ** 2))

    ventricles = np.max([beside(name, 7.0) for name in VENTRICLES], axis=0)
    stem = beside("brainstem", 6.0)
    levels[..., PIAL] = beside("cortex", 4.0) * (1 - stem) * (1 - beside("cerebellar_cortex", 3.0)) * (1 - ventricles)
    levels[..., FOLIA] = beside("cerebellar_cortex", 4.0) * (1 - stem) * (1 - beside("cortex", 3.0)) * (1 - ventricles)
    levels[..., DEEP] = 1 - ventricles
    levels[..., ABOVE] = 1 - stem


def _lesion_sites(
    white: NDArray[np.float32], ventricle: NDArray[np.float32], source: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where lesions may sit and how likely: inside white matter, mostly near the lateral ventricles."""
    index = np.argwhere(white < -1.2)
    near = ventricle[tuple(index.T)]
    odds = np.cumsum(0.04 + np.exp(-(((near - 3.5) / 2.2) ** 2)))
    return index * np.array(source.spacing) + np.array(source.origin), odds / odds[-1]
