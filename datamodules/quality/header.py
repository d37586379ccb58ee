"""What a raw image's header says about left and right: the only part of a file that distinguishes a mirrored brain.

A NIfTI file says where its voxels lie in up to two ways, ``sform`` and ``qform``. Where both are set and contradict each other,
programs differ in which they believe, and one of them shows the brain mirrored. Where neither is set, left and right are a
guess. A header that is wrong in itself, without a contradiction, cannot be detected from the file.

References:
    NIfTI-1 header, nifti1.h, METHOD 1 to 3 (how voxel positions are given).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regions.grid import space_gap_mm


def header_numbers(image: Any) -> dict[str, float]:
    """Left-right facts of one raw image.

    Args:
        image: A ``nibabel`` image; formats other than NIfTI have one affine, so that they cannot contradict themselves.

    Returns:
        ``left_right_known`` 1 where the header says where the voxels lie, else 0; ``left_right_contradiction`` 1 where sform
        and qform disagree on left and right, or the qform beside an sform is damaged; ``sform_qform_mm`` the largest distance
        between the corners of the volume under the two, nan where only one can be used.
    """
    header = image.header
    if "sform_code" not in header:
        return {"left_right_known": 1.0, "left_right_contradiction": 0.0, "sform_qform_mm": float("nan")}
    sform, sform_code = header.get_sform(coded=True)
    try:
        qform, qform_code = header.get_qform(coded=True)
    except ValueError:  # its quaternion is none
        return {"left_right_known": 1.0, "left_right_contradiction": 1.0, "sform_qform_mm": float("nan")}
    both = sform is not None and qform is not None
    known = float(bool(sform_code) or bool(qform_code))
    if not both:
        return {"left_right_known": known, "left_right_contradiction": 0.0, "sform_qform_mm": float("nan")}
    signs = [np.sign(np.linalg.det(affine[:3, :3])) for affine in (sform, qform)]
    gap = space_gap_mm(tuple(int(side) for side in image.shape[:3]), sform, qform)
    return {"left_right_known": known, "left_right_contradiction": float(signs[0] != signs[1]), "sform_qform_mm": gap}
