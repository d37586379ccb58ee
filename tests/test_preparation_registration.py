"""Images and matrices on their way into ANTs and back, and the numbers that registration tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_fixtures import rigid
from scipy.ndimage import gaussian_filter

from datamodules.batches.augmentation import Augmentation
from datamodules.batches.augmenter import mirror_of
from datamodules.files.volumes import ScanError, Volume
from datamodules.preparation.agreement import mutual_information, placement, refuse_copy, rigid_gap, scaling
from datamodules.preparation.brain import BrainMask
from datamodules.preparation.images import PREPARED_GRID, check_axes, from_ants, isotropic, prepared_grid, smoothed, to_ants
from datamodules.preparation.registration import (
    Transform,
    deformable,
    linear,
    moved_mm,
    plainly_named,
    read_matrix,
    resample,
    write_matrix,
)
from datamodules.preparation.scan import Registered, on_grid
from datamodules.preparation.starts import centred, search_start
from datamodules.quality.measure import template_image
from regions.atlas import template_on
from regions.grid import Grid

OBLIQUE = rigid((5, -8, 12), (-40.0, -60, -30)) @ np.diag([-1.5, 2.0, 3.0, 1])
SHAPE = (20, 22, 24)


def picture(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(1, 2, SHAPE).astype(np.float32)


def test_an_image_goes_through_ants_unchanged() -> None:
    array, affine = from_ants(to_ants(picture(), OBLIQUE))
    assert np.array_equal(array, picture())
    assert np.allclose(affine, OBLIQUE, atol=1e-9)


@pytest.mark.parametrize("side", [1.0, 1.5, 2.0, 3.0, 3.7, 4.0])
def test_prepared_voxels_of_any_side_cover_the_template_and_mirror_whole(side: float) -> None:
    grid = prepared_grid(side)
    assert grid.spacing == pytest.approx((side, side, side))
    first, last = np.array(grid.origin), np.array(grid.origin) + (np.array(grid.shape) - 1) * side
    template_first = np.array(PREPARED_GRID.origin)
    template_last = template_first + np.array(PREPARED_GRID.shape) - 1
    assert (first <= template_first + 1e-6).all()
    assert (last >= template_last - 1e-6).all()
    assert (template_first - first < side).all()
    assert (last - template_last < side).all()
    assert mirror_of(grid, Augmentation()) == grid.shape[0] - 1
    assert (grid == PREPARED_GRID) == (side == 1)


def test_smoothing_makes_a_narrow_line_as_wide_as_the_larger_voxel() -> None:
    line = np.zeros((41, 3, 3), np.float32)
    line[20] = 1
    found = smoothed(line, np.diag([1.0, 9, 9, 1]), 3.0)[:, 1, 1]
    width = 2.355 * np.sqrt((found * (np.arange(41) - 20.0) ** 2).sum())
    assert found.sum() == pytest.approx(1, abs=1e-4)
    assert np.hypot(width, 1) == pytest.approx(3, rel=0.02)
    assert np.array_equal(smoothed(line, np.diag([3.0, 9, 9, 1]), 3.0), line)


def test_a_matrix_goes_through_itk_unchanged(tmp_path: Path) -> None:
    matrix = rigid((3, 4, 5), (6, 7, 8)) @ np.diag([1.1, 0.9, 1.2, 1])
    assert np.allclose(read_matrix(write_matrix(matrix, tmp_path / "one.mat")), matrix, atol=1e-12)


def test_resampling_reads_at_the_transformed_points(tmp_path: Path) -> None:
    target = np.diag([1.5, 2.0, 3.0, 1.0])
    to_image = OBLIQUE @ np.linalg.inv(target)  # voxel n of the target lies on voxel n of the image
    for how in ("nearestNeighbor", "linear", "bSpline"):
        found = resample(picture(), OBLIQUE, Transform(to_image), SHAPE, target, tmp_path, how)
        assert np.allclose(found[1:-1, 1:-1, 1:-1], picture()[1:-1, 1:-1, 1:-1], atol=1e-4), how
    shifted = target.copy()
    shifted[0, 3] = 3 * 1.5
    found = resample(picture(), OBLIQUE, Transform(to_image), SHAPE, shifted, tmp_path, "nearestNeighbor")
    assert np.array_equal(found[1:16, 1:-1, 1:-1], picture()[4:19, 1:-1, 1:-1])
    assert not found[18:].any()


@pytest.mark.parametrize(
    "name", ["MS, 2024", "scans [old]", "old]", "all*", "which?", "two words", "Zürich", "it's 5% (b) {c}; #1"]
)
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    image = gaussian_filter(picture(), 2)
    folder = tmp_path / name
    folder.mkdir()
    with plainly_named(folder) as work:
        moved = linear("Rigid", (image, OBLIQUE), (image, OBLIQUE), work, np.eye(4))
        bent = deformable((image, OBLIQUE), (image, OBLIQUE), work, moved)
        assert bent.warp is not None
        assert (folder / bent.warp.name).is_file()
        found = resample(image, OBLIQUE, bent, SHAPE, OBLIQUE, work)
    assert np.abs(found - image)[2:-2, 2:-2, 2:-2].mean() < 0.1 * image.std()
    assert folder.is_dir()
    assert not work.exists() or work == folder


def test_interpolation_stays_within_the_images_range(tmp_path: Path) -> None:
    step = np.zeros(SHAPE, np.float32)
    step[10:] = 100
    found = resample(step, np.eye(4), Transform(rigid((0, 0, 0), (0.5, 0, 0))), SHAPE, np.eye(4), tmp_path)
    assert found.min() == 0
    assert found.max() == 100


def test_transforms_are_composed_in_the_order_of_the_points() -> None:
    first, second = rigid((10, 0, 0), (1, 2, 3)), rigid((0, 20, 0), (4, 5, 6))
    point = np.array([7.0, 8, 9, 1])
    assert np.allclose(Transform(first).then(second).matrix @ point, second @ (first @ point))


def test_a_coarse_copy_keeps_its_place_and_mean() -> None:
    ramp = np.indices((40, 30, 20))[0].astype(np.float32)
    coarse, affine = isotropic(ramp, np.diag([1.0, 1.5, 3.0, 1]), 2.0)
    assert coarse.shape == (20, 22, 30)
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 2.0)
    places = affine[0, 0] * np.arange(20) + affine[0, 3]
    assert np.allclose(coarse[2:-2, 10, 15], places[2:-2], atol=0.05)


def test_axes_that_are_not_at_right_angles_are_refused() -> None:
    skewed = np.eye(4)
    skewed[0, 1] = 0.2
    check_axes(Volume(Path("good.nii"), picture(), OBLIQUE))
    with pytest.raises(ScanError, match=r"bad\.nii: its voxel axes are not at right angles"):
        check_axes(Volume(Path("bad.nii"), picture(), skewed))


@pytest.mark.parametrize(
    ("degrees", "shift_mm"),
    [((25, -20, 15), (-10, 10, 31)), ((-40, 0, 0), (0, -60, 0))],
)
def test_a_start_is_found_wherever_the_head_lies(degrees: tuple[float, ...], shift_mm: tuple[float, ...]) -> None:
    grid = Grid.of((50, 60, 48), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))
    inside = template_on(grid) > 0
    fixed = (template_image(grid), grid.matrix)
    away = rigid(degrees, shift_mm)  # type: ignore[arg-type]
    moving = (-template_image(grid) + 2 * template_image(grid).max() * inside, away @ grid.matrix)
    points = moved_mm(grid.matrix, np.argwhere(inside)[::100].astype(float))
    beside = moved_mm(search_start(fixed, moving, inside), points) - moved_mm(away, points)
    assert np.linalg.norm(beside, axis=1).max() < 4


def test_a_start_allows_for_the_size_of_the_head_and_for_an_image_that_ends_inside_it() -> None:
    grid = Grid.of((50, 60, 48), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))
    inside = template_on(grid) > 0
    fixed = (template_image(grid), grid.matrix)
    away = rigid((20, 10, -10), (20, -15, 30)) @ np.diag([0.9, 0.9, 0.9, 1])
    points = moved_mm(grid.matrix, np.argwhere(inside)[::100].astype(float))
    for top in (48, 32):
        moving = (template_image(grid)[:, :, :top], away @ grid.matrix)
        beside = moved_mm(search_start(fixed, moving, inside, 0.9), points) - moved_mm(away, points)
        assert np.linalg.norm(beside, axis=1).max() < 4, top


def test_centres_of_mass_are_put_on_each_other() -> None:
    away = rigid((0, 0, 0), (40, 30, -20))
    assert np.allclose(centred((picture(), OBLIQUE), (picture(), away @ OBLIQUE)), away, atol=1e-6)


def test_a_flair_cuts_nothing_of_the_t1w_wherever_it_lies(tmp_path: Path) -> None:
    sides = np.diag([4.0, 4, 4, 1])
    sides[:3, 3] = -98, -134, -72
    grid = Grid.of((50, 60, 48), sides)
    t1w = Volume(Path("t1w.nii"), np.asarray(template_image(grid)) * (template_on(grid) > 0), grid.matrix)
    brain = BrainMask(template_on(grid) > 0, "given")
    found = []
    for shift in ((0, 0, 0), (10, -10, 60)):
        flair = Volume(Path("flair.nii"), t1w.array.max() - t1w.array, grid.matrix)
        away = Registered(t1w, {"flair": flair}, brain, Transform(np.eye(4)), {"flair": rigid((0, 0, 0), shift)}, {})
        found.append(on_grid(away, tmp_path))
    whole, cut = found
    assert cut.field.sum() < 0.75 * whole.field.sum()
    assert np.array_equal(whole.brain, cut.brain)
    assert np.array_equal(whole.images["t1w"], cut.images["t1w"])
    unseen = cut.brain & ~cut.field
    assert unseen.sum() > 100_000
    assert np.unique(cut.images["flair"][unseen]) == pytest.approx(
        [cut.images["flair"][cut.brain & cut.field].mean()], rel=1e-4
    )


def test_a_t1w_that_comes_as_flair_is_refused_before_any_registration() -> None:
    array = gaussian_filter(np.random.default_rng(0).normal(size=(40, 44, 30)), 2).astype(np.float32)
    t1w = Volume(Path("sub-1_T1w.nii.gz"), array, np.diag([2.0, 2, 3, 1]))
    again, where = isotropic(array, t1w.affine, 2.5)
    copies = [
        t1w,
        Volume(Path("flair.nii"), 3 * array + 5, t1w.affine),
        Volume(Path("flair.nii"), array, rigid((10, 0, 0), (30, 0, 0)) @ t1w.affine),
        Volume(Path("flair.nii"), again, where),
    ]
    for copy in copies:
        with pytest.raises(ScanError, match=r"shows sub-1_T1w.nii.gz again \(correlation (1.00|0.9\d), 0.95 at most"):
            refuse_copy(t1w, copy)
    other = gaussian_filter(np.random.default_rng(1).normal(size=array.shape), 2).astype(np.float32)
    refuse_copy(t1w, Volume(Path("flair.nii"), 0.7 * array + other, t1w.affine))


def test_numbers_of_a_known_transform() -> None:
    turn = rigid((0, 0, 30), (0, 0, 0))
    told = scaling(turn @ np.diag([0.5, 1, 1, 1]))
    assert told["determinant"] == pytest.approx(2)
    assert told["turned_degrees"] == pytest.approx(30)
    gap = rigid_gap(rigid((0, 0, 10), (3, 4, 0)), np.zeros(3))
    assert gap == {"flair_moved_mm": pytest.approx(5), "flair_turned_degrees": pytest.approx(10)}


def test_mutual_information_of_equal_and_unrelated_images() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    other = np.random.default_rng(1).normal(size=20_000)
    assert mutual_information(values, -values) == pytest.approx(np.log(32), abs=1e-3)
    assert mutual_information(values, np.exp(values)) == pytest.approx(np.log(32), abs=1e-3)
    assert mutual_information(values, other) < 0.05
    assert np.isnan(mutual_information(values[:10], other[:10]))


def test_placement_counts_within_the_field_of_view() -> None:
    grid = Grid.of((40, 47, 38), np.array([[5.0, 0, 0, -98], [0, 5, 0, -134], [0, 0, 5, -72], [0, 0, 0, 1]]))
    outline, image = template_on(grid) > 0, template_image(grid)
    field = np.ones(grid.shape, bool)
    field[:, :, 25:] = False
    told = placement({"t1w": image, "flair": image}, image, outline & field, field, grid)
    assert told["dice_in_field"] == 1
    assert told["template_unseen"] == pytest.approx(outline[:, :, 25:].sum() / outline.sum())
    assert told["template_mi"] > 2
    assert told["pair_mi"] > 2


def test_the_prepared_grid_holds_the_template() -> None:
    low, high = np.argwhere(template_on(PREPARED_GRID) > 0).min(axis=0), np.argwhere(template_on(PREPARED_GRID) > 0).max(axis=0)
    assert (template_on(PREPARED_GRID) > 0).sum() == pytest.approx(1_856_700, rel=0.001)
    assert low.min() >= 0
    assert (high < np.array(PREPARED_GRID.shape)).all()
