"""Taking the slow brightness change of the receive coil out of an image: N4.

The field is estimated on a coarse copy, since it varies over centimetres, and applied at the image's full resolution.

References:
    Tustison et al. 2010, IEEE Trans Med Imaging 29:1310-1320, doi 10.1109/TMI.2010.2046908 (N4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.preparation.images import from_ants, isotropic, to_ants

COARSE_MM = 5.0
ITERATIONS = (50, 50, 50, 50)
TOLERANCE = 1e-3
"""Each level halves the distance of the field's knots, from the whole image to an eighth of it."""
LEAST_VOXELS = 1000


def correct_bias(
    image: NDArray[np.float32], affine: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Divide an image by its bias field.

    Args:
        image: (I, J, K), 0 or more where the mask is.
        affine: (4, 4) voxel to mm.
        mask: (I, J, K) bool, where tissue is.

    Returns:
        (I, J, K) float32 with the same mean inside the mask, and how strong the field was: ``bias_range``, its 95th percentile
        over its 5th inside the mask.
    """
    import ants

    coarse, where = isotropic(image, affine, COARSE_MM)
    inside, _ = isotropic(mask, affine, COARSE_MM)
    chosen = (inside > 0.5) & (coarse > 0)
    if chosen.sum() < LEAST_VOXELS:
        return image, {"bias_range": 1.0}
    coarse = np.maximum(coarse, 0)
    field_image = ants.n4_bias_field_correction(
        to_ants(coarse, where),
        mask=to_ants(chosen.astype(np.float32), where),
        shrink_factor=1,
        convergence={"iters": list(ITERATIONS), "tol": TOLERANCE},
        return_bias_field=True,
    )
    field, _ = from_ants(field_image)
    low, middle, high = np.percentile(field[chosen], [0.5, 50, 99.5])
    field = np.clip(field, low, high) / middle
    fine = _on_voxels(field, where, image.shape, affine)
    corrected = (image / fine).astype(np.float32)
    strong, weak = np.percentile(fine[mask], [95, 5])
    return corrected, {"bias_range": float(strong / weak)}


def _on_voxels(
    field: NDArray[np.float32], where: NDArray[np.float64], shape: tuple[int, ...], affine: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The coarse field on the image's voxels; both grids have the same axes."""
    from scipy.ndimage import affine_transform

    to_coarse = np.linalg.inv(where) @ affine
    return np.asarray(
        affine_transform(field, to_coarse[:3, :3], to_coarse[:3, 3], output_shape=shape, order=1, mode="nearest"),
        dtype=np.float32,
    )
