"""The brain mask of a head by registration: the template's brain, moved and bent onto the head.

The template has no skull, so the similarity counts only within its brain and a rim around it. The search for the start is made
around a guess of the brain's place, from the top of the head and from its middle.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.files.volumes import Volume
from datamodules.preparation.images import PREPARED_GRID, to_ants
from datamodules.preparation.registration import Image, coarse, deformable, linear, moved_mm, plainly_named, write_matrix
from datamodules.preparation.starts import search_start
from datamodules.quality.measure import template_image
from regions.atlas import template_on

HEIGHT_MM = 160
"""The part of a head, counted from its top, whose middle tells where the brain is."""
TOP_OF_BRAIN_MM = 12
"""Skin, skull and fluid above the brain."""
RIM_MM = 6
HEAD_SCALE = 0.9
"""A brain's size over the template's, on average; the affine step finds the rest."""


def with_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A brain mask of 2 mm voxels and what lies within ``RIM_MM`` of it."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, iterations=int(RIM_MM / 2)))


def template_images() -> tuple[Image, NDArray[np.bool_]]:
    """The template's T1w at 2 mm, without skull, and its brain mask on the same voxels."""
    picture = coarse(template_image(PREPARED_GRID), PREPARED_GRID.matrix)
    outline, _ = coarse(template_on(PREPARED_GRID) > 0, PREPARED_GRID.matrix)
    return picture, outline > 0.5


def registered_mask(t1w: Volume) -> NDArray[np.bool_]:
    """The brain mask of a head, (I, J, K) bool on the image's voxels.

    Raises:
        RuntimeError: by ANTs.
    """
    import ants

    template, brain = template_images()
    head = coarse(t1w.array, t1w.affine)
    rim = with_rim(brain)
    with tempfile.TemporaryDirectory() as folder, plainly_named(Path(folder)) as work:
        start = search_start(template, head, brain, HEAD_SCALE, _middle_of_brain(head, template, brain))
        moved = linear("Affine", template, head, work, start, rim)
        bent = deformable(template, head, work, moved, rim)
        assert bent.warp is not None
        back = [str(write_matrix(bent.matrix, work / "back.mat")), str(bent.warp.with_name("SyN-1InverseWarp.nii.gz"))]
        mask = ants.apply_transforms(
            to_ants(np.zeros_like(t1w.array), t1w.affine), to_ants(brain, template[1]), back,
            interpolator="linear", whichtoinvert=[True, False],
        )  # fmt: skip
        return np.asarray(mask.numpy() > 0.5)


def _middle_of_brain(head: Image, template: Image, brain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A guess of where in a head the middle of the brain is, (3,) in mm, from the head's outline."""
    centre = moved_mm(template[1], np.argwhere(brain).astype(float))
    points = moved_mm(head[1], np.argwhere(head[0] > _otsu(head[0])).astype(float))
    crown = float(np.percentile(points[:, 2], 99.8))
    upper = points[points[:, 2] > crown - HEIGHT_MM]
    low, high = np.percentile(upper[:, :2], [1, 99], axis=0)
    return np.array([*(low + high) / 2, crown - TOP_OF_BRAIN_MM - (float(centre[:, 2].max()) - centre[:, 2].mean())])


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold between air and head that parts two classes best (Otsu 1979, IEEE Trans Syst Man Cybern 9:62-66)."""
    counts, edges = np.histogram(np.clip(values, *np.percentile(values, [0.5, 99.5])), bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[np.nanargmax(between[:-1])])
