"""The shipped label map and what it becomes on other grids."""

from pathlib import Path

import numpy as np
import pytest

from regions.atlas import (
    EmptyRegionError,
    Grid,
    dilated,
    load_template,
    region_box,
    region_coverage,
    region_mask,
    template_dice,
    template_on,
)
from regions.catalog import REGIONS, Region
from regions.dialects import STRUCTURES
from regions.measure import region_volumes

MNI = np.array([[1.0, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]])
MNI_SHAPE = (197, 233, 189)
SCANS = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "mni"


def grid_at(spacing: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Grid:
    """Cover the template with voxels of another size, x = 0 in the middle of one."""
    sides = (np.array(MNI_SHAPE) / spacing).astype(int) + 1
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [-spacing * (sides[0] // 2), -134, -72]
    affine[:3, 3] += shift
    return Grid.of(tuple(sides.tolist()), affine)


def fsl_grid() -> Grid:
    """Return the 182 x 218 x 182 grid of FSL's MNI152 after ToCanonical.

    It is stored with x = 90 - i. Read from the other end, the first voxel is the old voxel 181, at x = 90 - 181 = -91.
    """
    return Grid.of((182, 218, 182), [[1, 0, 0, -91], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])


def test_the_label_map_is_uint8_ras_1_mm_with_known_ids() -> None:
    labels, grid = load_template()
    assert labels.dtype == np.uint8
    assert labels.shape == grid.shape
    assert grid.spacing == (1, 1, 1)
    assert set(np.unique(labels).tolist()) <= {0, *STRUCTURES}
    assert not labels.flags.writeable


@pytest.mark.parametrize(
    ("label", "low", "high"),
    [
        (2, 255, 270),
        (41, 255, 270),
        (3, 320, 345),
        (42, 320, 345),
        (16, 25, 28),
        (4, 11, 13.5),
        (43, 11, 13.5),
        (10, 8, 10),
        (49, 8, 10),
        (17, 5, 6),
        (53, 5, 6),
    ],
)
def test_structures_of_the_template_have_plausible_volumes(label: int, low: float, high: float) -> None:
    assert low < (load_template()[0] == label).sum() / 1000 < high


def test_left_and_right_are_balanced_and_on_their_sides() -> None:
    labels, grid = load_template()
    x = grid.origin[0] + np.arange(grid.shape[0])
    pairs = [(2, 41), (3, 42), (4, 43), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54), (26, 58)]
    for left, right in pairs:
        volumes = [(labels == label).sum() for label in (left, right)]
        centres = [float((labels == label).sum(axis=(1, 2)) @ x) / (labels == label).sum() for label in (left, right)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.05)
        assert centres[0] < -5
        assert centres[0] == pytest.approx(-centres[1], abs=1.0)


def test_the_map_lies_on_the_brain_of_nilearns_template() -> None:
    from nilearn.datasets import load_mni152_brain_mask

    mask = load_mni152_brain_mask(resolution=1)
    ours = template_on(Grid.of(mask.shape, mask.affine)) > 0
    theirs = mask.get_fdata() > 0
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.985


def test_white_matter_is_brighter_than_gray_and_gray_than_ventricles_in_the_template() -> None:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    grid, values = Grid.of(image.shape, image.affine), image.get_fdata()
    white, gray, fluid = (
        np.median(values[region_mask(REGIONS[name], grid)]) for name in ("white_matter", "gray_matter", "ventricles")
    )
    assert white > 1.15 * gray > 1.15 * 1.3 * fluid


def test_the_template_on_its_own_grid_is_the_map_itself() -> None:
    labels, grid = load_template()
    assert np.array_equal(template_on(grid), labels)


def test_every_world_point_has_the_same_label_on_fsls_grid() -> None:
    rng = np.random.default_rng(0)
    grid = fsl_grid()
    full = template_on(Grid.of(MNI_SHAPE, MNI))
    points = rng.integers([-80, -115, -70], [80, 85, 85], size=(500, 3))
    here = tuple((points - np.array(grid.origin)).astype(int).T)
    there = tuple((points - MNI[:3, 3]).astype(int).T)
    assert np.array_equal(template_on(grid)[here], full[there])
    assert (template_on(grid) > 0).sum() == (load_template()[0] > 0).sum()


@pytest.mark.parametrize("shift", [(0.3, -0.2, 0.4), (0.0, 0.0, 0.0)])
def test_a_fraction_of_a_voxel_changes_nothing_at_equal_spacing(shift: tuple[float, float, float]) -> None:
    labels, grid = load_template()
    moved = grid.matrix
    moved[:3, 3] += shift
    assert np.array_equal(template_on(Grid.of(grid.shape, moved)), labels)


def test_a_finer_grid_repeats_the_labels() -> None:
    labels, grid = load_template()
    fine = Grid.of((8, 10, 12), [[0.5, 0, 0, -10.25], [0, 0.5, 0, -20.25], [0, 0, 0.5, 9.75], [0, 0, 0, 1]])
    start = (np.array([-10, -20, 10]) - grid.origin).astype(int)
    part = labels[start[0] : start[0] + 4, start[1] : start[1] + 5, start[2] : start[2] + 6]
    assert np.array_equal(template_on(fine), part.repeat(2, 0).repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(("spacing", "tolerance"), [(2.0, 0.03), (3.0, 0.05)])
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.0, 1.3, -0.7)])
def test_coarse_grids_keep_the_volume_of_every_region(
    spacing: float, tolerance: float, shift: tuple[float, float, float]
) -> None:
    coarse = grid_at(spacing, shift)
    found = region_volumes(template_on(coarse), coarse.voxel_mm3, REGIONS.values())
    true = region_volumes(load_template()[0], 1.0, REGIONS.values())
    for name in REGIONS:
        assert found[name].ml == pytest.approx(true[name].ml, rel=tolerance)


def test_a_coarse_voxel_takes_the_label_that_fills_most_of_its_brain() -> None:
    labels, source = load_template()
    coarse = grid_at(3.0)
    result = template_on(coarse)
    picked = np.argwhere(result > 0)[:: max(1, int((result > 0).sum() // 200))]
    for voxel in picked:
        low = np.round(np.array(coarse.origin) + 3 * voxel - 1 - source.origin).astype(int)
        part = labels[tuple(slice(max(start, 0), start + 3) for start in low)]
        counts = np.bincount(part.ravel(), minlength=256)
        counts[0] = 0
        assert counts[result[tuple(voxel)]] == counts.max()
        assert counts.sum() >= 13


def test_a_grid_far_away_is_empty() -> None:
    for spacing in (1.0, 3.0):
        far = Grid.of((20, 22, 24), np.diag([spacing, spacing, spacing, 1]) + np.outer([1, 0, 0, 0], [0, 0, 0, 500]))
        assert not template_on(far).any()


def test_results_are_cached_and_protected() -> None:
    grid = grid_at(3.0)
    assert template_on(grid) is template_on(grid_at(3.0))
    mask = region_mask(REGIONS["brainstem"], grid)
    assert mask is region_mask(REGIONS["brainstem"], grid)
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0, 0] = True


def test_a_mask_is_where_the_labels_are() -> None:
    grid = grid_at(3.0)
    assert np.array_equal(region_mask(REGIONS["global"], grid), template_on(grid) > 0)
    assert np.array_equal(region_mask(REGIONS["brainstem"], grid), template_on(grid) == 16)


def test_a_volume_without_the_region_is_refused_with_its_extent() -> None:
    top = Grid.of((60, 70, 24), [[3, 0, 0, -90], [0, 3, 0, -126], [0, 0, 3, 30], [0, 0, 0, 1]])
    with pytest.raises(EmptyRegionError, match=r"'brainstem' lies outside .* \(-90, -126, 30\) to \(87, 81, 99\) mm"):
        region_mask(REGIONS["brainstem"], top)
    assert region_mask(REGIONS["gray_matter"], top).any()


def test_coverage_is_the_share_of_the_region_in_the_volume() -> None:
    assert region_coverage(REGIONS["global"], fsl_grid()) == 1
    left = Grid.of((100, 218, 182), [[1, 0, 0, -100], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
    assert region_coverage(REGIONS["gray_matter"], left) == pytest.approx(0.5, abs=0.02)


def test_a_mask_grows_by_millimetres_not_voxels() -> None:
    mask = np.zeros((20, 22, 24), bool)
    mask[10, 11, 12] = True
    grown = dilated(mask, (1.0, 2.0, 4.0), 4.0)
    assert [int(np.ptp(index)) for index in np.nonzero(grown)] == [8, 4, 2]
    assert grown[6, 11, 12]
    assert grown[10, 13, 12]
    assert grown[10, 11, 13]
    assert not grown[10, 12, 13]


def test_growing_at_the_edge_stays_in_the_volume() -> None:
    mask = np.zeros((20, 22, 24), bool)
    mask[0, 21, 0] = True
    assert dilated(mask, (1.0, 1.0, 1.0), 1.0).sum() == 4


def test_growing_by_nothing_changes_nothing() -> None:
    mask = np.zeros((4, 5, 6), bool)
    assert dilated(mask, (1.0, 1.0, 1.0), 0.0) is mask
    assert not dilated(mask, (1.0, 1.0, 1.0), 3.0).any()


def test_shrinking_is_refused() -> None:
    with pytest.raises(ValueError, match="grown by 0 mm or more, not -1 mm"):
        region_mask(REGIONS["brainstem"], grid_at(3.0), -1.0)


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("grid", [fsl_grid(), Grid.of(MNI_SHAPE, MNI), grid_at(3.0)])
def test_a_flip_maps_each_regions_box_to_itself(name: str, grid: Grid) -> None:
    mask = region_mask(REGIONS[name], grid)
    box = region_box(mask, grid, 16)
    assert all(side % 16 == 0 for side in box.shape)
    inside = [slice(max(start, 0), max(stop, 0)) for start, stop in zip(box.start, box.stop, strict=True)]
    assert mask[tuple(inside)].sum() == mask.sum()
    ends = [grid.origin[0] + grid.spacing[0] * end for end in (box.start[0], box.stop[0] - 1)]
    assert abs(ends[0] + ends[1]) <= grid.spacing[0] + 1e-9


@pytest.mark.skipif(not SCANS.is_dir(), reason="the Ljubljana scans are not beside this checkout")
@pytest.mark.parametrize("patient", ["sub-07", "sub-19"])
def test_every_region_lies_in_real_brains(patient: str) -> None:
    """The two brains were moved to MNI152 but not scaled: they fill 60 % of the template, and its middle best."""
    import nibabel as nib
    from nibabel.funcs import as_closest_canonical

    image = as_closest_canonical(nib.load(SCANS / patient / "anat" / f"{patient}_space-MNI152_desc-brain_T1w.nii.gz"))
    grid = Grid.of(image.shape, image.affine)
    assert grid == fsl_grid()
    brain = np.asarray(image.dataobj) != 0
    filled = {name: brain[region_mask(region, grid)].mean() for name, region in REGIONS.items()}
    assert min(filled.values()) > 0.5
    assert min(filled["subcortical_gray_matter"], filled["ventricles"]) > 0.9
    assert brain[region_mask(REGIONS["global"], grid)].sum() > 0.99 * brain.sum()
    assert 0.7 < template_dice(brain, grid) < 0.8


def test_dice_is_one_for_the_template_and_falls_with_a_shift() -> None:
    grid = grid_at(3.0)
    brain = template_on(grid) > 0
    assert template_dice(brain, grid) == 1
    near, far = (template_dice(np.roll(brain, steps, axis=0), grid) for steps in (2, 5))
    assert 1 > near > 0.9 > far > 0.8
    assert template_dice(np.zeros(grid.shape, bool), grid) == 0


def test_dice_needs_a_mask_of_the_grid() -> None:
    with pytest.raises(ValueError, match="they must be equal"):
        template_dice(np.ones((2, 3, 4), bool), grid_at(3.0))


def test_boxes_of_labels_are_those_of_scipy() -> None:
    from scipy.ndimage import find_objects

    from regions.atlas import _boxes_of

    labels, _ = load_template()
    boxes = {label: box for label, box in enumerate(find_objects(labels.astype(np.int32)), start=1) if box is not None}
    assert list(_boxes_of(labels).items()) == list(boxes.items())


def test_a_region_of_labels_that_the_template_has_not_is_named_as_such() -> None:
    callosum = Region("callosum", (251, 255), "corpus callosum", "test")
    with pytest.raises(EmptyRegionError, match="'callosum' is nowhere: the label map of the template has no voxel of 251, 255"):
        region_mask(callosum, load_template()[1])
