"""Grids, gaps between affines, and boxes around a region."""

import numpy as np
import pytest

from regions.grid import Box, EmptyRegionError, Grid, SpaceError, region_box, space_gap_mm

SHAPE = (20, 22, 24)
AFFINE = np.array([[2.0, 0, 0, -19], [0, 3, 0, -30], [0, 0, 1.5, -12], [0, 0, 0, 1]])


def test_the_gap_is_the_largest_distance_between_corners() -> None:
    shifted = AFFINE.copy()
    shifted[:3, 3] += [3, 4, 0]
    assert space_gap_mm(SHAPE, AFFINE, AFFINE) == 0
    assert space_gap_mm(SHAPE, AFFINE, shifted) == pytest.approx(5)


def test_a_mirrored_affine_is_as_far_apart_as_the_volume_is_wide() -> None:
    mirrored = AFFINE.copy()
    mirrored[0] = [-2, 0, 0, 19]
    assert space_gap_mm(SHAPE, AFFINE, mirrored) == pytest.approx(40)


def test_a_scaled_affine_differs_most_at_the_far_corner() -> None:
    scaled = AFFINE.copy()
    scaled[0, 0] = 2.01
    assert space_gap_mm(SHAPE, AFFINE, scaled) == pytest.approx(0.195)


def test_a_grid_knows_its_spacing_origin_and_affine() -> None:
    grid = Grid.of(SHAPE, AFFINE)
    assert grid.spacing == (2, 3, 1.5)
    assert grid.origin == (-19, -30, -12)
    assert grid.voxel_mm3 == 9
    assert np.array_equal(grid.matrix, AFFINE)


def test_rounding_noise_gives_the_same_grid() -> None:
    noisy = AFFINE.copy()
    noisy[0, 1], noisy[2, 3] = 1e-8, -12 + 1e-9
    assert Grid.of(SHAPE, noisy) == Grid.of(SHAPE, AFFINE.astype(np.float32))
    assert hash(Grid.of(SHAPE, noisy)) == hash(Grid.of(SHAPE, AFFINE))


@pytest.mark.parametrize(("axis", "code"), [(0, "LAS"), (1, "RPS"), (2, "RAI")])
def test_a_mirrored_axis_is_refused_with_what_to_do(axis: int, code: str) -> None:
    mirrored = AFFINE.copy()
    mirrored[axis] *= -1
    with pytest.raises(SpaceError, match=rf"stored as {code}, not RAS. Apply torchio.ToCanonical\(\) first"):
        Grid.of(SHAPE, mirrored)


def test_permuted_axes_are_refused() -> None:
    with pytest.raises(SpaceError, match="stored as ARS, not RAS"):
        Grid.of(SHAPE, AFFINE[:, [1, 0, 2, 3]])


def test_an_oblique_image_is_refused_with_the_distance() -> None:
    oblique = AFFINE.copy()
    oblique[0, 1] = 0.1
    with pytest.raises(SpaceError, match=r"oblique: its corners lie 2.15 mm from .* 0.1 mm are allowed"):
        Grid.of(SHAPE, oblique)
    assert Grid.of(SHAPE, oblique, tolerance_mm=3.0) == Grid.of(SHAPE, AFFINE)


def test_a_flat_volume_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"three sides of at least 1 voxel, not \(20, 0, 24\)"):
        Grid((20, 0, 24), Grid.of(SHAPE, AFFINE).affine)


def test_a_hand_made_grid_must_be_straight_and_positive() -> None:
    def rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
        return tuple(map(tuple, matrix.tolist()))

    with pytest.raises(SpaceError, match="axis-aligned"):
        Grid(SHAPE, rows(AFFINE[:, [1, 0, 2, 3]]))
    with pytest.raises(SpaceError, match="spacing must be positive"):
        Grid(SHAPE, rows(AFFINE * [[-1], [1], [1], [1]]))


def box_of(multiple: int, x_origin: float = -19.0, where: tuple[int, int, int] = (3, 4, 5)) -> tuple[Box, Grid]:
    affine = AFFINE.copy()
    affine[0, 3] = x_origin
    grid = Grid.of(SHAPE, affine)
    mask = np.zeros(SHAPE, bool)
    mask[where] = True
    mask[6, 9, 15] = True
    return region_box(mask, grid, multiple), grid


def test_a_box_with_multiple_one_is_tight_and_symmetric() -> None:
    box, _ = box_of(1)
    assert box == Box((3, 4, 5), (17, 10, 16))
    assert box.shape == (14, 6, 11)


@pytest.mark.parametrize("multiple", [2, 4, 8, 16])
@pytest.mark.parametrize("x_origin", [-19.0, -20.0, -18.0, -5.0])
def test_a_box_holds_the_mask_and_its_mirror_image_in_multiples(multiple: int, x_origin: float) -> None:
    box, grid = box_of(multiple, x_origin)
    assert all(side % multiple == 0 for side in box.shape)
    assert all(start <= low for start, low in zip(box.start, (3, 4, 5), strict=True))
    assert all(stop > high for stop, high in zip(box.stop, (6, 9, 15), strict=True))
    middle = grid.origin[0] + grid.spacing[0] * (box.start[0] + box.stop[0] - 1) / 2
    assert abs(middle) <= grid.spacing[0] / 2 + 1e-9
    farthest = max(abs(grid.origin[0] + grid.spacing[0] * voxel) for voxel in (3, 6))
    ends = [grid.origin[0] + grid.spacing[0] * voxel for voxel in (box.start[0], box.stop[0] - 1)]
    assert ends[0] <= -farthest
    assert ends[1] >= farthest


def test_an_even_box_is_symmetric_exactly_where_x_0_lies_between_voxels() -> None:
    box, grid = box_of(8)
    ends = [grid.origin[0] + grid.spacing[0] * voxel for voxel in (box.start[0], box.stop[0] - 1)]
    assert ends[0] == -ends[1]


def test_a_box_may_reach_outside_its_grid() -> None:
    box, _ = box_of(16)
    assert box.start[1] < 0


def test_a_mask_at_the_edge_keeps_its_mirror_image() -> None:
    box, _ = box_of(1, where=(0, 0, 0))
    assert (box.start[0], box.stop[0]) == (0, 20)


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(EmptyRegionError, match="empty mask has no box"):
        region_box(np.zeros(SHAPE, bool), Grid.of(SHAPE, AFFINE), 8)


@pytest.mark.parametrize(
    ("least_side", "multiple", "shape"), [(1, 1, (14, 6, 11)), (10, 1, (14, 10, 11)), (12, 8, (16, 16, 16))]
)
def test_a_box_has_sides_of_the_least_at_least(least_side: int, multiple: int, shape: tuple[int, int, int]) -> None:
    tight, grid = box_of(1)
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*ends) for ends in zip(tight.start, tight.stop, strict=True))] = True
    box = region_box(mask, grid, multiple, least_side)
    assert box.shape == shape
    assert all(a <= b for a, b in zip(box.start, tight.start, strict=True))
    assert all(a >= b for a, b in zip(box.stop, tight.stop, strict=True))


def test_a_box_needs_a_mask_of_the_grid() -> None:
    with pytest.raises(ValueError, match="they must be equal"):
        region_box(np.ones((2, 3, 4), bool), Grid.of(SHAPE, AFFINE), 8)


def test_a_box_needs_a_positive_multiple() -> None:
    with pytest.raises(ValueError, match="multiple of 1 or more voxels, not 0"):
        region_box(np.ones(SHAPE, bool), Grid.of(SHAPE, AFFINE), 0)
