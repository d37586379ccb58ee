"""Numbers that only registration knows: how the head was scaled and turned, how far another image lay beside the T1w."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cohort.images import title
from datamodules.files.volumes import ScanError, Volume
from datamodules.preparation.registration import Image, coarse, moved_mm
from datamodules.quality.limits import limit_of
from datamodules.quality.measure import correlation
from regions.atlas import template_on
from regions.grid import Grid

BINS = 32
SAME_WEIGHTING = 0.999


def scaling(matrix: NDArray[np.float64]) -> dict[str, float]:
    """What an affine from template to scan says of the head.

    Returns:
        ``determinant``, the volume in the template of one mm3 of the head (above 1 for heads smaller than the template's), and
        ``turned_degrees``, the angle of the rotation in it.
    """
    part = matrix[:3, :3]
    left, _, right = np.linalg.svd(part)
    return {"determinant": 1 / float(np.linalg.det(part)), "turned_degrees": rotation_degrees(left @ right)}


def rotation_degrees(rotation: NDArray[np.float64]) -> float:
    """The angle of a rotation matrix, 0 to 180 degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation[:3, :3]) - 1) / 2, -1, 1))))


def rigid_gap(matrix: NDArray[np.float64], centre: NDArray[np.float64], image: str = "flair") -> dict[str, float]:
    """How far apart two images of one session lay: at a point in mm, and turned against each other."""
    moved = matrix[:3, :3] @ centre + matrix[:3, 3]
    return {f"{image}_moved_mm": float(np.linalg.norm(moved - centre)), f"{image}_turned_degrees": rotation_degrees(matrix)}


def refuse_copy(t1w: Volume, other: Volume, image: str = "flair") -> None:
    """Refuse an image that shows the T1w again: voxel by voxel in the files, or at the places that the headers give.

    A further T1w, with contrast agent for example, may be as alike as ``SAME_WEIGHTING``.

    Raises:
        ScanError: naming the image.
    """
    alike = correlation(t1w.array.ravel(), other.array.ravel()) if t1w.array.shape == other.array.shape else 0.0
    there = _correlation_by_header(coarse(t1w.array, t1w.affine), coarse(other.array, other.affine))
    limit = limit_of("pair_correlation")
    assert limit is not None
    high = SAME_WEIGHTING if image.endswith("t1w") else limit.high
    if max(alike, there) > high:
        value = f"correlation {max(alike, there):.2f}, {high:g} at most between T1w and {title(image)}"
        way_out = f"give the {title(image)} of this session, or take it out"
        raise ScanError(f"{other.path} shows {t1w.path.name} again ({value}); {way_out}")


def _correlation_by_header(fixed: Image, moving: Image) -> float:
    """Correlation within the head of the fixed image, which is what is brighter than its mean."""
    from scipy.ndimage import map_coordinates

    head = fixed[0] > fixed[0].mean()
    points = moved_mm(np.linalg.inv(moving[1]) @ fixed[1], np.argwhere(head)[::10].astype(float))
    values = map_coordinates(moving[0], points.T, order=1, cval=np.nan)
    seen = ~np.isnan(values)
    return correlation(fixed[0][head][::10][seen], values[seen])


def mutual_information(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mutual information of two images' voxels in nats, from a joint histogram of 32 x 32 bins of equal mass.

    Args:
        first: (N,), any unit.
        second: (N,).

    Returns:
        0 for unrelated images, at most log(32) = 3.47; nan for fewer than 1000 voxels.

    References:
        Viola, Wells 1997, Int J Comput Vis 24:137-154, doi 10.1023/A:1007958904918.
    """
    if first.size < 1000:
        return float("nan")
    ranks = []
    for values in (first, second):
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
        ranks.append(np.searchsorted(edges, values, side="right"))
    joint = np.bincount(ranks[0] * BINS + ranks[1], minlength=BINS * BINS).reshape(BINS, BINS) / first.size
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / apart[filled])).sum())


def placement(
    images: Mapping[str, NDArray[Any]],
    template: NDArray[Any],
    brain: NDArray[np.bool_],
    field: NDArray[np.bool_],
    grid: Grid,
) -> dict[str, float]:
    """Likeness and overlap within the field of view, all arrays (I, J, K) on one grid.

    Returns:
        ``template_mi`` of the T1w and, with FLAIR, ``pair_mi`` in nats, ``dice_in_field`` of the brain with the template's
        brain, and ``template_unseen``, the share of the template's brain outside the field of view.
    """
    outline = template_on(grid) > 0
    seen = outline & field
    both = int((brain & field).sum()) + int(seen.sum())
    inside = brain & field
    pair = {"pair_mi": mutual_information(images["t1w"][inside], images["flair"][inside])} if "flair" in images else {}
    return {
        "template_mi": mutual_information(images["t1w"][seen], template[seen]),
        **pair,
        "dice_in_field": 2 * int((inside & seen).sum()) / both if both else 0.0,
        "template_unseen": 1 - int(seen.sum()) / int(outline.sum()),
    }
