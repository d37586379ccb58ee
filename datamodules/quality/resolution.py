"""Is an image as sharp along one axis as along the others? Thick slices that were cut up into thin ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.quality.measure import LEAST_VOXELS


def evenness(image: NDArray[Any], brain: NDArray[np.bool_]) -> float:
    """Mean absolute difference of neighbours along the smoothest axis, over the mean of the two other axes.

    Unchanged when the image is scaled or shifted. Every second plane is looked at across the axes that are not compared.

    Args:
        image: (I, J, K), any unit.
        brain: (I, J, K) bool; both neighbours must be brain.

    Returns:
        About 1 for cubic voxels as they were scanned, about 0.5 for 5 mm slices interpolated to 1 mm; nan for too few voxels or
        a constant image.
    """
    steps = []
    for axis in range(3):
        few: list[slice] = [slice(None, None, 2)] * 3
        few[axis] = slice(None)
        values, inside = np.moveaxis(image[tuple(few)], axis, 0), np.moveaxis(brain[tuple(few)], axis, 0)
        both = inside[1:] & inside[:-1]
        if np.count_nonzero(both) < LEAST_VOXELS:
            return float("nan")
        values = values.astype(np.float32)
        steps.append(float(np.abs(values[1:] - values[:-1])[both].mean(dtype=np.float64)))
    least, *others = sorted(steps)
    return least / float(np.mean(others)) if sum(others) > 0 else float("nan")
