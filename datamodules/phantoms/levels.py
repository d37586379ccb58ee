"""Arithmetic of the phantom's level functions and smooth fields; knows no anatomy.

Levels are signed distances in mm, negative inside. Arrays are (I, J, K).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr

REACH_MM = 8
"""Distances are exact up to here and cut off."""


def signed_distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance in voxels to the surface of a set, negative inside, cut off at `REACH_MM`.

    The surface is taken half a voxel beyond the outermost voxel centres.

    Args:
        inside: (I, J, K) bool, at least one voxel.
    """
    far = np.full(inside.shape, np.float32(REACH_MM))
    box = []
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(int(where[0]) - REACH_MM, 0), int(where[-1]) + 1 + REACH_MM))
    near = tuple(box)
    part = inside[near]
    outward, inward = _distance_to(part), _distance_to(~part)
    far[near] = np.where(part, np.minimum(0.5 - inward, 0), np.maximum(outward - 0.5, 0))
    return np.clip(far, -REACH_MM, REACH_MM, out=far)


def _distance_to(target: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance in voxels to the nearest true voxel, exact up to `REACH_MM`, larger beyond.

    One pass per axis over squared distances: min over shifts k of f(x + k) + k^2.

    References:
        Felzenszwalb, Huttenlocher 2012, Theory of Computing 8:415-428, doi 10.4086/toc.2012.v008a019 (the separable
        form).
    """
    ceiling = 255 - REACH_MM**2
    squared = np.where(target, np.uint8(0), np.uint8(ceiling))
    for axis in range(3):
        from_here = np.moveaxis(squared, axis, 0)
        result = squared.copy()
        to_here = np.moveaxis(result, axis, 0)
        for shift in range(1, min(REACH_MM, len(from_here) - 1) + 1):
            raised = from_here + np.uint8(shift**2)
            np.minimum(to_here[:-shift], raised[shift:], out=to_here[:-shift])
            np.minimum(to_here[shift:], raised[:-shift], out=to_here[shift:])
        squared = result
    roots: NDArray[np.float32] = np.sqrt(np.arange(256, dtype=np.float32))
    return roots[squared]


def footprint(source: NDArray[np.float64], wanted: NDArray[np.float64], spacing_mm: float) -> NDArray[np.float32]:
    """Return the weight of each source voxel in each wanted voxel along one axis, (wanted, source); rows add up to 1.

    A box of the wanted side, blurred by 0.6 mm against the staircase of the label map; what lies outside the source
    takes its outermost value.
    """
    distance = source[None, :] - np.clip(wanted, source[0], source[-1])[:, None]
    weight: NDArray[np.float64] = ndtr((distance + spacing_mm / 2) / 0.6) - ndtr((distance - spacing_mm / 2) / 0.6)
    weight[weight < 1e-6] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return weight.astype(np.float32)


def resampled(volume: NDArray[np.floating[Any]], rows: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
    """Multiply each axis of a volume by a matrix that is mostly zeros.

    The products are sparse ones: they are fast here, and unlike dense ones round alike for any number of threads.

    Args:
        volume: (I, J, K).
        rows: per axis (wanted, side), the weight of each old position in each wanted one.
    """
    for axis, weights in enumerate(rows):
        moved = np.moveaxis(volume, axis, 0)
        product = csr_array(weights) @ np.ascontiguousarray(moved).reshape(len(moved), -1)
        volume = np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(volume, dtype=np.float32)


def memberships(levels: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Turn levels into partial volumes.

    Args:
        levels: (classes, N) in mm.
        width: mm.

    Returns:
        (classes, N) float32, adding up to 1 over the classes.
    """
    share: NDArray[np.float32] = levels.min(axis=0) - levels
    share /= np.float32(width)
    np.exp(share, out=share)
    share /= share.sum(axis=0)
    return share


def match_volumes(levels: NDArray[np.float32], active: NDArray[np.bool_], targets: NDArray[np.float64], width: float) -> None:
    """Shift the levels until all classes have the template's volume; averaging over a coarse voxel weakens thin ones.

    Args:
        levels: (I, J, K, columns), changed in place.
        active: (I, J, K) bool.
        targets: volume of each class in voxels.
        width: mm.
    """
    every = math.ceil(active.sum() / 200_000)
    part = np.ascontiguousarray(levels[active][::every, : len(targets)].T)
    shift = np.zeros((len(targets), 1), np.float32)
    for _ in range(25):
        volumes = every * memberships(part - shift, width).sum(axis=1, dtype=np.float64)
        step = 0.7 * width * np.log(targets[1:] / volumes[1:])
        shift[1:, 0] += np.clip(step, -0.5, 0.5).astype(np.float32)
    levels[..., : len(targets)] -= shift[:, 0]


def smooth_basis(centres: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return cubic B-splines on knots `step` mm apart around 0, (side, knots).

    Rows have unit norm, so that independent standard normal coefficients give a field of variance 1.
    """
    reach = math.ceil(150 / step) + 2
    t = np.abs(centres[:, None] / step - np.arange(-reach, reach + 1)[None, :])
    basis: NDArray[np.float64] = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    return basis


def smooth_field(knots: Sequence[NDArray[np.float64]], coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Evaluate a tensor-product spline on the grid.

    Args:
        knots: basis per axis, (side, knots).
        coefficients: (knots, knots, knots).

    Returns:
        (I, J, K) float32.
    """
    return resampled(coefficients, knots)


def random_field(knots: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a smooth field of mean 0 and variance 1."""
    return smooth_field(knots, rng.normal(size=[basis.shape[1] for basis in knots]))
