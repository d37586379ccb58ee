"""Where a brain ends in each of six directions: brains in one space end alike, a brain that was cut off does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regions.grid import Grid

BEYOND = 0.005
"""Share of the brain that lies beyond an end."""
SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


def brain_ends(brain: NDArray[np.bool_], grid: Grid) -> dict[str, float]:
    """How far a brain reaches to each side, in mm from the origin of MNI152 space, positive outwards.

    Args:
        brain: (I, J, K) bool, RAS+, not empty.
        grid: Where the voxels lie.

    Returns:
        ``left``, ``right``, ``posterior``, ``anterior``, ``inferior``, ``superior``.
    """
    ends: dict[str, float] = {}
    for axis, names in enumerate(SIDES):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis))
        for name, counts, sign in zip(names, (areas, areas[::-1]), (-1.0, 1.0), strict=True):
            plane = _reached(counts)
            place = plane if sign < 0 else len(counts) - plane
            ends[name] = sign * (grid.origin[axis] + (place - 0.5) * grid.spacing[axis])
    return ends


def _reached(counts: NDArray[Any]) -> float:
    """Planes, with a fraction, that hold the outermost ``BEYOND`` of the brain."""
    total = np.cumsum(counts)
    need = BEYOND * total[-1]
    plane = int(np.searchsorted(total, need))
    before = float(total[plane - 1]) if plane else 0.0
    return plane + (need - before) / float(counts[plane])
