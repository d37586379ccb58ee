"""Fluid by the T1w alone, and ventricles that it brings onto the template's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.files.volumes import read_volume
from datamodules.phantoms.patients import PhantomOptions
from datamodules.phantoms.write import write_phantom_cohort
from datamodules.preparation.fluid import fluid_map
from datamodules.preparation.images import PREPARED_GRID, isotropic
from datamodules.preparation.registration import Image, Transform, deformable, resample
from datamodules.quality.measure import template_image
from datamodules.quality.tissue import FLUID
from regions.atlas import template_on
from regions.catalog import REGIONS, VENTRICLES

SIDE_MM = 4.0


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, np.ndarray]:
    """A patient with enlarged ventricles at 4 mm: T1w without skull, and its label map."""
    folder = tmp_path_factory.mktemp("enlarged")
    write_phantom_cohort(folder / "cohort", PhantomOptions("enlarged_ventricles", patients=14, scans=14, spacing_mm=SIDE_MM))
    (path,) = (folder / "cohort").rglob("sub-0003*_T1w.nii.gz")
    volume = read_volume(path)
    (labels,) = path.parent.glob("*_dseg.nii.gz")
    return (volume.array, volume.affine), read_volume(labels).array.astype(np.uint8)


def test_the_ventricles_of_a_phantom_are_fluid_on_any_scale(phantom: tuple[Image, np.ndarray]) -> None:
    (array, affine), labels = phantom
    brain = labels > 0
    found, where = fluid_map((array, affine), brain)
    assert where is affine
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found[~brain].any()
    assert found[np.isin(labels, VENTRICLES)].mean() > 0.8
    assert found[np.isin(labels, REGIONS["white_matter"].labels)].mean() < 0.05
    scaled, _ = fluid_map((37 * array + np.where(brain, 500, 0), affine), brain)
    assert np.abs(scaled - found).max() < 1e-3


def test_a_brain_of_one_value_has_a_map_without_gaps() -> None:
    brain = np.zeros((8, 8, 8), bool)
    brain[2:6, 2:6, 2:6] = True
    found, _ = fluid_map((np.where(brain, 3.0, 0).astype(np.float32), np.eye(4)), brain)
    assert np.isfinite(found).all()


def test_maps_of_fluid_bring_enlarged_ventricles_onto_the_template(phantom: tuple[Image, np.ndarray], tmp_path: Path) -> None:
    moving, labels = phantom
    grid = PREPARED_GRID
    template = isotropic(template_image(grid), grid.matrix, SIDE_MM)
    fluid = isotropic(np.isin(template_on(grid), FLUID), grid.matrix, SIDE_MM), fluid_map(moving, labels > 0)
    on_template = template_on(grid)
    subcortical = REGIONS["subcortical_gray_matter"].select(on_template)
    ventricles = np.isin(on_template, VENTRICLES)

    def lie(transform: Transform) -> tuple[float, float]:
        """Share of the template's subcortical gray matter that is fluid, and Dice of the ventricles."""
        moved = resample(labels.astype(np.float32), moving[1], transform, grid.shape, grid.matrix, tmp_path, "nearestNeighbor")
        own = np.isin(moved, VENTRICLES)
        return float(np.isin(moved, FLUID)[subcortical].mean()), 2 * (own & ventricles).sum() / (own.sum() + ventricles.sum())

    before = lie(Transform(np.eye(4)))
    alone = lie(deformable(template, moving, tmp_path, np.eye(4)))
    guided = lie(deformable(template, moving, tmp_path, np.eye(4), None, fluid))
    assert before[0] > 0.3
    assert guided[0] < 0.5 * before[0]
    assert guided[0] < alone[0] - 0.05
    assert guided[1] > alone[1] + 0.05
