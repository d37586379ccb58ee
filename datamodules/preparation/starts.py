"""Where a registration starts: the whole range of shifts and turns is looked through on coarse copies, the best are refined.

A registration climbs to the nearest peak of the similarity, so it ends right only if it starts near enough. Header and centres
of mass are such a start for most pairs, not for all. Here every turn up to 40 degrees, in steps of 20, with every shift up to
40 mm along each axis, in steps of 8, is compared at 8 mm by normalised mutual information. The best of them, the header and the
centres of mass are refined at 4 mm.

References:
    Jenkinson, Smith 2001, Med Image Anal 5:143-156, doi 10.1016/S1361-8415(01)00036-6 (search, then refine the best).
    Studholme, Hill, Hawkes 1999, Pattern Recogn 32:71-86, doi 10.1016/S0031-3203(98)00091-0 (the similarity).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datamodules.preparation.images import isotropic
from datamodules.preparation.registration import Image, moved_mm
from datamodules.quality.measure import intensity_levels, normalised_mutual_information, similarity

SEARCH_MM, REFINE_MM = 8.0, 4.0
TURN_STEP_DEGREES, LARGEST_TURN_DEGREES = 20.0, 45.0
REACH = 5
"""Shifts in voxels of the search to each side, around the one that puts the centres of mass on each other."""
SEARCH_BINS = 16
"""Levels of intensity in the search, where a brain has 3000 voxels."""
LEAST_SEEN = 0.6
"""Share of the mask that must lie in the moving image; similarity counts there alone, so a smaller part could win by chance."""
REFINED = 3
"""Places of the search that are refined."""
REFINE_CALLS = 250
FIRST_STEP_MM = 4.0
LEVER_MM = 50.0
"""A turn is counted by the way of a point so far from the centre."""


@dataclass(frozen=True)
class _Pair:
    """Coarse copies of a pair: (N, 3) points in fixed mm and their voxels' values, and the moving image."""

    points: NDArray[np.float64]
    values: NDArray[np.float32]
    moving: Image


def search_start(
    fixed: Image, moving: Image, mask: NDArray[np.bool_], scale: float = 1.0, goal: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The transform from which a registration of two heads, or brains, starts.

    Args:
        fixed: At most 4 mm.
        moving: At most 4 mm.
        mask: (I, J, K) bool on the fixed image: where the similarity counts.
        scale: Size of the moving head over that of the fixed.
        goal: (3,) in moving mm, near where the mask's middle belongs; by default as the centres of mass say.

    Returns:
        (4, 4), fixed mm to moving mm: a turn, a shift and the scale.
    """
    coarse, fine = (_pair(fixed, moving, mask, side) for side in (SEARCH_MM, REFINE_MM))
    middle = coarse.points.mean(axis=0)
    goal = middle + centred(fixed, moving)[:3, 3] if goal is None else goal
    starts = [
        _about(middle, middle, np.eye(3) * scale),
        _about(middle, goal, np.eye(3) * scale),
        *_searched(coarse, scale, goal),
    ]
    refined = [_refined(fine, start) for start in starts]
    return max(refined, key=lambda candidate: candidate[0])[1]


def centred(fixed: Image, moving: Image) -> NDArray[np.float64]:
    """The shift that puts the centres of mass of two images on each other, (4, 4)."""
    from scipy.ndimage import center_of_mass

    matrix = np.eye(4)
    for sign, (array, affine) in ((-1, fixed), (1, moving)):
        centre = np.array([center_of_mass(np.maximum(array, 0))], dtype=float)
        matrix[:3, 3] += sign * moved_mm(affine, centre)[0]
    return matrix


def _pair(fixed: Image, moving: Image, mask: NDArray[np.bool_], side_mm: float) -> _Pair:
    array, affine = isotropic(*fixed, side_mm)
    inside = isotropic(mask, fixed[1], side_mm)[0] > 0.5
    return _Pair(moved_mm(affine, np.argwhere(inside).astype(float)), array[inside], isotropic(*moving, side_mm))


def _about(middle: NDArray[np.float64], goal: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that turns about one point and puts it on another."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = goal - turn @ middle
    return matrix


def _turns() -> list[NDArray[np.float64]]:
    """Rotation matrices whose axis times angle lies on a lattice within the largest turn; none is the first."""
    from scipy.spatial.transform import Rotation

    steps = int(LARGEST_TURN_DEGREES // TURN_STEP_DEGREES)
    lattice = np.array(list(product(range(-steps, steps + 1), repeat=3))) * TURN_STEP_DEGREES
    lengths = np.linalg.norm(lattice, axis=1)
    order = np.argsort(lengths, kind="stable")
    return [Rotation.from_rotvec(np.radians(lattice[row])).as_matrix() for row in order if lengths[row] <= LARGEST_TURN_DEGREES]


def _searched(pair: _Pair, scale: float, goal: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The best turns, each with its best shift, the best first.

    Points are read at the nearest voxel, so that a shift by whole voxels is a step in the flat array.
    """
    array, affine = pair.moving
    levels, values = intensity_levels(array, SEARCH_BINS), intensity_levels(pair.values, SEARCH_BINS)
    if levels is None or values is None:
        return []
    room = 2 * REACH + 1
    around = np.pad(levels, room, constant_values=SEARCH_BINS)  # the last level: outside the image
    flat, strides = around.ravel(), np.array(around.strides) // around.itemsize
    shifts = np.array(list(product(range(-REACH, REACH + 1), repeat=3)))
    codes = values * (SEARCH_BINS + 1)
    counts = np.empty((len(shifts), SEARCH_BINS, SEARCH_BINS + 1))
    best: list[tuple[float, NDArray[np.float64]]] = []
    for turn in _turns():
        start = _about(pair.points.mean(axis=0), goal, scale * turn)
        voxels = np.rint(moved_mm(np.linalg.inv(affine) @ start, pair.points)).astype(int)
        near = (np.clip(voxels, -REACH - 1, np.array(array.shape) + REACH) + room) @ strides
        for row, step in enumerate(shifts @ strides):
            counts[row] = np.bincount(codes + flat[near + step], minlength=counts[0].size).reshape(counts[0].shape)
        seen = counts[:, :, :-1]
        scores = np.where(seen.sum(axis=(1, 2)) < LEAST_SEEN * len(codes), 0.0, similarity(seen))
        shift = int(np.argmax(scores))
        start[:3, 3] += affine[:3, :3] @ shifts[shift]
        best.append((float(scores[shift]), start))
    best.sort(key=lambda candidate: -candidate[0])
    return [start for _, start in best[:REFINED]]


def _refined(pair: _Pair, start: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The similarity at the peak that a start leads to, by Powell's method on every third point, and the matrix there."""
    from scipy.ndimage import map_coordinates
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    points, values = pair.points[::3], pair.values[::3]
    array, to_voxel = pair.moving[0], np.linalg.inv(pair.moving[1])
    middle = moved_mm(start, points.mean(axis=0, keepdims=True))[0]

    def moved(steps: NDArray[np.float64]) -> NDArray[np.float64]:
        turn = Rotation.from_rotvec(steps[:3] / LEVER_MM).as_matrix()
        matrix: NDArray[np.float64] = _about(middle, middle + steps[3:], turn) @ start
        return matrix

    def cost(steps: NDArray[np.float64]) -> float:
        other = map_coordinates(array, moved_mm(to_voxel @ moved(steps), points).T, order=1, cval=np.nan)
        seen = ~np.isnan(other)
        score = normalised_mutual_information(values[seen], other[seen]) if seen.mean() >= LEAST_SEEN else 0.0
        return -score if np.isfinite(score) else 0.0

    peak = minimize(
        cost, np.zeros(6), method="Powell",
        options={"maxfev": REFINE_CALLS, "xtol": 0.3, "ftol": 1e-4, "direc": np.eye(6) * FIRST_STEP_MM},
    )  # fmt: skip
    return -float(peak.fun), moved(peak.x)
