"""Pictures of a map: only what lies above 1 is coloured, where it belongs, and regions are outlined without being hidden."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from experiments.explaining.group_maps import on_grid, ratio, write_nifti
from experiments.explaining.pictures import read_map
from experiments.rendering.heat import coloured, cuts, nearest, picture_png, ramp, upper_limit
from regions.atlas import load_template, region_mask
from regions.catalog import REGIONS
from regions.grid import Box, Grid

GRID = Grid.of((40, 48, 40), [[4, 0, 0, -78], [0, 4, 0, -110], [0, 0, 4, -70], [0, 0, 0, 1]])


def test_only_values_above_one_are_coloured() -> None:
    gray = np.full((1, 4), 0.5)
    picture = coloured(gray, np.array([[0.0, 1.0, 2.0, 3.0]]), 3.0)
    assert picture[0, 0].tolist() == picture[0, 1].tolist() == [127, 127, 127]
    assert picture[0, 3].tolist() == ramp(np.array(1.0)).astype(int).tolist()
    assert picture[0, 2, 0] > picture[0, 2, 2]


def test_a_map_without_contrast_stays_pale() -> None:
    assert upper_limit(np.array([0.5, 1.1, 1.2])) == 2
    assert upper_limit(np.zeros(3)) == 2
    assert upper_limit(np.linspace(1, 9, 1000)) == pytest.approx(9, abs=0.1)


def test_the_planes_run_through_what_is_strongest_and_outline_the_region() -> None:
    inside = region_mask(REGIONS["brainstem"], GRID)
    planes = cuts(np.where(inside, 4.0, 1.0).astype(np.float32), GRID, ["brainstem"])
    fine, labels = load_template()[1], load_template()[0]
    stem = REGIONS["brainstem"].select(labels)
    for plane in planes:
        axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane.plane]
        index = round((plane.position_mm - fine.origin[axis]) / fine.spacing[axis])
        cut = np.take(stem, index, axis=axis).T[::-1]
        assert cut.any(), plane.title
        picture = plane.picture.astype(int)
        orange = picture[..., 0] - picture[..., 2] > 30
        assert orange[cut].mean() > 0.8
        assert orange[~cut].mean() < 0.1
    assert [plane.plane for plane in planes] == ["axial", "coronal", "sagittal"]


def test_left_in_the_picture_is_left_in_the_brain() -> None:
    values = np.ones(GRID.shape, np.float32)
    values[:18] = 5.0
    axial = cuts(values, GRID)[0].picture.astype(int)
    warm = (axial[..., 0] - axial[..., 2]).mean(axis=0)
    assert warm[: warm.size // 3].mean() > warm[-warm.size // 3 :].mean() + 20


def test_a_voxel_is_found_again_on_a_finer_grid_and_nothing_beyond_the_coarse_one() -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2) + 1
    coarse = Grid.of((2, 2, 2), [[4, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    fine = Grid.of((8, 5, 5), [[1, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = nearest(values, coarse, fine)
    assert found[2, 0, 0] == 1
    assert found[7, 4, 4] == 8
    assert not nearest(values, coarse, Grid.of((3, 3, 3), [[1, 0, 0, 50], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])).any()


def test_a_box_lies_where_it_was_cut_from_and_a_file_reads_back_equal(tmp_path) -> None:  # type: ignore[no-untyped-def]
    whole = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    box = Box((-2, 4, 30), (6, 12, 44))
    cut = np.zeros(box.shape, np.float32)
    cut[2:, :, :10] = whole[:6, 4:12, 30:40]
    back = on_grid(cut, box, GRID.shape)
    assert np.array_equal(back[:6, 4:12, 30:40], whole[:6, 4:12, 30:40])
    assert np.count_nonzero(back) == 6 * 8 * 10
    write_nifti(tmp_path / "map.nii.gz", back, GRID)
    first = (tmp_path / "map.nii.gz").read_bytes()
    values, grid = read_map(tmp_path / "map.nii.gz")
    assert np.array_equal(values, back)
    assert grid == GRID
    write_nifti(tmp_path / "map.nii.gz", back, GRID)
    assert (tmp_path / "map.nii.gz").read_bytes() == first


def test_a_ratio_is_smoothed_within_the_input_and_zero_outside() -> None:
    inside = region_mask(REGIONS["global"], GRID)
    second = np.where(inside, 2.0, 50.0).astype(np.float32)
    found = ratio(np.where(inside, 6.0, -90.0).astype(np.float32), second, inside)
    assert not found[~inside].any()
    assert found[inside] == pytest.approx(3.0, rel=1e-4)
    assert not ratio(second, np.zeros_like(second), inside).any()


def test_the_picture_of_an_input_is_a_png_with_all_planes() -> None:
    planes = cuts(np.ones(GRID.shape, np.float32), GRID)
    image = Image.open(io.BytesIO(picture_png(planes, "global", 2.0)))
    assert image.width > 2 * sum(plane.picture.shape[1] for plane in planes)
    assert image.mode == "RGB"
