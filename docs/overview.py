"""Draw docs/overview.png, the picture of the README: what each input of a study shows the network.

Run with: pip install matplotlib && python docs/overview.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from nilearn.datasets import load_mni152_template

from experiments.rendering.palette import ON_DARK, color_of
from regions.atlas import region_mask
from regions.catalog import REGIONS
from regions.grid import Grid

AXIAL_MM, SAGITTAL_MM = 4.0, 4.0


def main() -> None:
    """Six columns, two rows: an axial and a sagittal slice of the template, cut to each input."""
    image = load_mni152_template(resolution=1)
    grid = Grid.of(image.shape, image.affine)
    brain = np.where(region_mask(REGIONS["global"], grid), image.get_fdata(), 0)
    k = round((AXIAL_MM - grid.origin[2]) / grid.spacing[2])
    i = round((SAGITTAL_MM - grid.origin[0]) / grid.spacing[0])
    figure, axes = plt.subplots(2, len(REGIONS), figsize=(12, 4.6), facecolor="black")
    for column, region in enumerate(REGIONS.values()):
        mask = region_mask(region, grid)
        for row, (values, inside) in enumerate(((brain[:, :, k], mask[:, :, k]), (brain[i], mask[i]))):
            axis = axes[row, column]
            axis.imshow(np.where(inside, values, 0.16 * values).T, origin="lower", cmap="gray", vmin=0, vmax=0.95 * brain.max())
            axis.set_axis_off()
        axes[0, column].set_title(
            region.name.replace("_", " ").replace("subcortical gray", "subcortical\ngray"),
            color=ON_DARK[color_of(region.name)],
            fontsize=12,
        )
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.88, wspace=0.02, hspace=0.02)
    figure.savefig(Path(__file__).with_name("overview.png"), dpi=100, facecolor="black")


if __name__ == "__main__":
    main()
