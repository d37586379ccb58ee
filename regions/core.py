"""The core of a region: the voxels that are that region in every scan of a cohort, or nearly so, away from its border.

A voxel of the template's region may be a ventricle in one patient and thalamus in another. Where all scans agree, and a voxel's
width further in, so that no voxel is partly a neighbour, the size of a neighbour changes nothing that the region shows but the
scale of the whole brain's intensities. Labels of patients play no part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from regions.errors import UserError
from regions.grid import Grid

LEAST_VOXELS = 10
"""Voxels without which a core is no input."""


@dataclass(frozen=True)
class CoreRule:
    """What belongs to a core.

    Args:
        share: of the scans that must show the region in a voxel, above 0.5 up to 1.
        margin_mm: a voxel as near as this to one in which too few scans agree is left out; None: one voxel.

    Raises:
        UserError: a value that makes no core.
    """

    share: float = 1.0
    margin_mm: float | None = None

    def __post_init__(self) -> None:
        if not 0.5 < self.share <= 1:
            raise UserError(f"--share is {self.share:g}; give a share of the scans above 0.5 up to 1, the default is 1")
        if self.margin_mm is not None and not 0 <= self.margin_mm < math.inf:
            raise UserError(f"--margin is {self.margin_mm:g}; give 0 mm or more, the default is one voxel")

    def margin_on(self, grid: Grid) -> float:
        """The margin in mm on a grid."""
        return max(grid.spacing) if self.margin_mm is None else self.margin_mm

    def least_of(self, scans: int) -> int:
        """How many of the scans must agree."""
        return math.ceil(self.share * scans - 1e-9)


def core(agreeing: NDArray[np.integer[Any]], scans: int, rule: CoreRule, grid: Grid) -> NDArray[np.bool_]:
    """Return where the core of a region lies.

    Args:
        agreeing: (I, J, K) how many scans show the region in each voxel.
        scans: how many there are.
        rule: what belongs to the core.
        grid: of the voxels; beyond it nothing agrees.

    Returns:
        (I, J, K) bool.
    """
    inside = np.pad(agreeing >= rule.least_of(scans), 1)
    away = distance_transform_edt(inside, sampling=grid.spacing)[1:-1, 1:-1, 1:-1]
    return np.asarray(away > rule.margin_on(grid) + 1e-6) & inside[1:-1, 1:-1, 1:-1]


def pieces(cores: Mapping[str, NDArray[np.bool_]]) -> tuple[NDArray[np.uint16], dict[str, list[int]]]:
    """Put regions that may overlap into one label map: a label for each set of regions that some voxel belongs to.

    Args:
        cores: name -> (I, J, K) bool, at most 63 of them.

    Returns:
        (I, J, K) labels from 1, 0 where there is no region; and the labels of each region.
    """
    codes = sum((mask.astype(np.int64) << bit for bit, mask in enumerate(cores.values())), start=np.int64(0))
    sets, labels = np.unique(np.append(codes.ravel(), 0), return_inverse=True)
    of_region = {name: np.flatnonzero(sets >> bit & 1).tolist() for bit, name in enumerate(cores)}
    return labels[:-1].reshape(codes.shape).astype(np.uint16), of_region
