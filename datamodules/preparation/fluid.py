"""Where the template and a brain are cerebrospinal fluid: what a nonlinear registration is guided by beside the T1w itself.

The similarity of two T1w images is content with ventricles that overlap in part. Maps of the fluid, compared by mean squares,
keep pulling until the ventricles lie on each other (docs/statistics.md has what was measured).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.preparation.images import PREPARED_GRID
from datamodules.preparation.registration import Image, coarse
from datamodules.quality.tissue import FLUID, SAMPLE, mixture
from regions.atlas import template_on

START_PERCENTILES = (8, 45, 80)
"""Of the brain's values: where fluid, gray and white matter are looked for first."""


def template_fluid() -> Image:
    """Share of fluid in each voxel of the template at 2 mm, by its label map."""
    return coarse(np.isin(template_on(PREPARED_GRID), FLUID), PREPARED_GRID.matrix)


def fluid_map(image: Image, brain: NDArray[np.bool_]) -> Image:
    """Probability of fluid in each voxel of a T1w image, 0 outside the brain.

    A mixture of three normal distributions of one variance, for fluid, gray and white matter; values are cut at the 0.5th and
    99.5th percentile.

    Args:
        image: T1w, any scale and spacing.
        brain: (I, J, K) on its voxels.
    """
    array, affine = image
    values = np.asarray(array, np.float64)[brain][:, None]
    values = np.clip(values, *np.percentile(values, [0.5, 99.5]))
    values = (values - values.mean()) / max(float(values.std()), 1e-6)
    few = values[:: max(len(values) // SAMPLE, 1)]
    slopes, offsets = mixture(few, np.percentile(few, START_PERCENTILES)[:, None])
    scores = values @ slopes.T + offsets
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    fluid = np.zeros(array.shape, np.float32)
    fluid[brain] = shares[:, int(np.argmin(slopes[:, 0]))] / shares.sum(axis=1)
    return fluid, affine
