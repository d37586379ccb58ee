"""From the files of one scan to a prepared volume: positions, intensities, and scans that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.records import Scan
from datamodules.files.volumes import read_stored
from datamodules.store.placement import placement
from datamodules.store.prepare import TINY, Prepared, ScanError, normalised, prepare_scan, study_grid
from regions.atlas import template_on
from regions.grid import Grid

Write = Callable[..., Path]
Make = Callable[..., Any]


def scan_of(made: Any, **changes: Any) -> Scan:
    return replace(Scan("sub-a", "", made.images, 2.0, 0, 0, made.mask, made.labels), **changes)


@pytest.fixture(scope="module")
def grid(made_scan: Any) -> Grid:
    return study_grid([made_scan.t1w])


@pytest.fixture(scope="module")
def prepared(made_scan: Any, grid: Grid) -> Prepared:
    return prepare_scan(scan_of(made_scan), grid)


def placed(array: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """Put an array on a grid voxel by voxel, by world position alone; slow and plain on purpose."""
    out = np.zeros(grid.shape, array.dtype)
    index = np.argwhere(np.ones(array.shape, bool))
    world = index @ affine[:3, :3].T + affine[:3, 3]
    target = np.rint((world - grid.origin) / grid.spacing).astype(int)
    inside = ((target >= 0) & (target < grid.shape)).all(axis=1)
    out[tuple(target[inside].T)] = array[tuple(index[inside].T)]
    return out


def test_grid_has_room_for_the_template_and_keeps_the_voxels(made_scan: Any, grid: Grid) -> None:
    steps = (np.array(grid.origin) - made_scan.affine[:3, 3]) / 8
    np.testing.assert_allclose(steps, np.rint(steps))
    outline = template_on(Grid.of((40, 45, 40), made_scan.affine - np.pad([[80.0], [80], [80]], ((0, 1), (3, 0)))))
    assert (template_on(grid) > 0).sum() == (outline > 0).sum()


def test_voxels_land_at_their_world_position(made_scan: Any, prepared: Prepared, grid: Grid) -> None:
    np.testing.assert_array_equal(prepared.labels, placed(made_scan.arrays["labels"], made_scan.affine, grid))
    brain = placed(made_scan.arrays["mask"], made_scan.affine, grid).astype(bool)
    for channel, kind in enumerate(DEFAULT_IMAGES):
        image = placed(made_scan.arrays[kind], made_scan.affine, grid).astype(np.float64)
        expected = (image - image[brain].mean()) / image[brain].std(ddof=1)
        np.testing.assert_allclose(prepared.image[channel][brain], expected[brain], atol=2e-3)


def test_z_score_and_exact_zeros(made_scan: Any, prepared: Prepared, grid: Grid) -> None:
    brain = placed(made_scan.arrays["mask"], made_scan.affine, grid).astype(bool)
    assert prepared.image.dtype == np.float16
    assert prepared.image.shape == (2, *grid.shape)
    for channel in prepared.image.astype(np.float64):
        assert abs(channel[brain].mean()) < 1e-3
        assert abs(channel[brain].std(ddof=1) - 1) < 1e-3
    assert (prepared.image[:, ~brain] == 0).all()
    assert (prepared.image[:, brain] != 0).all()
    assert prepared.brain_ml == pytest.approx(brain.sum() * 0.512)
    assert prepared.template_dice > 0.8


def test_voxel_at_the_mean_is_not_zero(make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid) -> None:
    made = make_scan(tmp_path)
    brain = made.arrays["mask"] > 0
    image = np.zeros(brain.shape, np.float32)
    image[brain] = 100
    first, second = np.argwhere(brain)[:2]
    image[tuple(first)], image[tuple(second)] = 99, 101
    write_nifti(made.t1w, image)
    found = prepare_scan(scan_of(made), grid).image[0]
    assert (found[placed(brain, made.affine, grid)] != 0).all()
    assert np.abs(found).max() > 10


@pytest.mark.parametrize(
    ("dtype", "factor", "offset"), [(np.float32, 70000, 0), (np.int16, 50, -1000), (np.float64, 1e-6, 0), (np.uint16, 90, 0)]
)
def test_scale_of_intensities_does_not_matter(
    make_scan: Make,
    write_nifti: Write,
    tmp_path: Path,
    grid: Grid,
    prepared: Prepared,
    dtype: type,
    factor: float,
    offset: float,
) -> None:
    made = make_scan(tmp_path)
    brain = made.arrays["mask"] > 0
    for kind in DEFAULT_IMAGES:
        write_nifti(getattr(made, kind), np.where(brain, made.arrays[kind] * factor + offset, 0).astype(dtype))
    found = prepare_scan(scan_of(made), grid).image
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.astype(float), prepared.image.astype(float), atol=5e-3)


def test_without_a_mask_the_brain_is_what_is_not_zero(made_scan: Any, grid: Grid, prepared: Prepared) -> None:
    np.testing.assert_array_equal(prepare_scan(scan_of(made_scan, mask=None, labels=None), grid).image, prepared.image)


@pytest.mark.parametrize("signs", [(-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_orientation_of_storage_does_not_matter(
    make_scan: Make,
    write_nifti: Write,
    tmp_path: Path,
    grid: Grid,
    prepared: Prepared,
    signs: tuple[int, ...],
    order: tuple[int, ...],
) -> None:
    made = make_scan(tmp_path)
    for kind in ("t1w", "flair", "mask", "labels"):
        array, affine = made.arrays[kind], made.affine.copy()
        for axis in range(3):
            if signs[axis] < 0:
                array = np.flip(array, axis)
                affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
                affine[:3, axis] *= -1
        affine[:, :3] = affine[:, order]
        write_nifti(getattr(made, kind), np.ascontiguousarray(np.transpose(array, order)), affine)
    assert study_grid([made.t1w]) == grid
    found = prepare_scan(scan_of(made), grid)
    np.testing.assert_array_equal(found.image, prepared.image)
    np.testing.assert_array_equal(found.labels, prepared.labels)


@pytest.mark.parametrize(("before", "after"), [((3, 0, 2), (0, 4, 1)), ((-3, 0, 2), (-1, 1, 0)), ((2, -1, 5), (-1, 3, 0))])
def test_exactly_shifted_grid_gives_the_same_volume(
    make_scan: Make,
    write_nifti: Write,
    tmp_path: Path,
    grid: Grid,
    prepared: Prepared,
    before: tuple[int, ...],
    after: tuple[int, ...],
) -> None:
    made = make_scan(tmp_path)
    affine = made.affine.copy()
    affine[:3, 3] -= 8 * np.array(before)
    sides = list(zip(before, after, strict=True))
    for kind in ("t1w", "flair", "mask", "labels"):
        padded = np.pad(made.arrays[kind], [(max(a, 0), max(b, 0)) for a, b in sides])
        cut = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(sides, padded.shape, strict=True))
        write_nifti(getattr(made, kind), padded[cut], affine)
        assert np.count_nonzero(padded[cut]) == np.count_nonzero(made.arrays[kind])
    assert study_grid([made.t1w]) == grid
    found = prepare_scan(scan_of(made), grid)
    np.testing.assert_array_equal(found.image, prepared.image)
    np.testing.assert_array_equal(found.labels, prepared.labels)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PIR", "SAL", "LPI"])
def test_placement_is_that_of_torchio(made_scan: Any, write_nifti: Write, tmp_path: Path, grid: Grid, codes: str) -> None:
    import nibabel as nib
    import torchio as tio
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    image = nib.Nifti1Image(made_scan.arrays["t1w"][2:, :-3], made_scan.affine + np.pad([[16.0], [0], [0]], ((0, 1), (3, 0))))
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    volume = read_stored(write_nifti(tmp_path / "t1w.nii.gz", np.ascontiguousarray(image.dataobj), image.affine))
    found = placement(volume, grid)(volume.array)
    own = tio.ToCanonical()(tio.ScalarImage(tmp_path / "t1w.nii.gz"))
    first = np.rint((np.array(grid.origin) - own.affine[:3, 3]) / grid.spacing).astype(int)
    after = np.array(own.spatial_shape) - first - grid.shape
    sides = np.stack([first, after], axis=1).ravel()
    placed = tio.Crop(tuple(np.maximum(sides, 0).tolist()))(tio.Pad(tuple(np.maximum(-sides, 0).tolist()))(own))
    np.testing.assert_array_equal(found, placed.numpy()[0])
    assert found.any()
    assert found.flags.c_contiguous


@pytest.mark.parametrize("count", [2, 40000, 100001])
def test_z_scores_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).normal(300, 70, count).astype(np.float32)
    scores = (values - np.float32(values.mean(dtype=np.float64))) / np.float32(values.std(dtype=np.float64, ddof=1))
    np.testing.assert_array_equal(normalised(values), scores.astype(np.float16))
    assert normalised(np.array([-1, 0, 1], np.int16)).tolist() == [-1.0, TINY, 1.0]


def moved(made: Any, write_nifti: Write, affine: np.ndarray) -> Scan:
    for kind in ("t1w", "flair", "mask", "labels"):
        write_nifti(getattr(made, kind), made.arrays[kind], affine)
    return scan_of(made)


@pytest.mark.parametrize(
    ("shift", "zoom", "told"),
    [
        ((0.4, 0, 0), 1.0, r"t1w.nii.gz lies 0.40 mm beside the voxels of the study's other scans; prepare all scans alike"),
        ((0, 0, -3.9), 1.0, r"t1w.nii.gz lies 3.90 mm beside the voxels"),
        ((0, 0, 0), 7 / 8, r"t1w.nii.gz has voxels of 7 x 7 x 7 mm, the study 8 x 8 x 8 mm; prepare all scans at one size"),
        ((0, 0, 0), 1.0008, r"t1w.nii.gz lies 0\.\d\d mm beside the voxels"),
        ((800, 0, 0), 1.0, r"t1w.nii.gz lies wholly outside the MNI152 template's brain; register it to MNI152"),
        ((0, 8e9, 0), 1.0, r"t1w.nii.gz lies wholly outside the MNI152 template's brain"),
        (
            (64, 64, 0),
            1.0,
            r"t1w.nii.gz: its brain overlaps the MNI152 template's by Dice 0.\d\d, 0.5 is needed; register it to MNI152",
        ),
    ],
)
def test_scan_that_does_not_fit_the_grid(
    make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid, shift: tuple[float, ...], zoom: float, told: str
) -> None:
    made = make_scan(tmp_path)
    affine = made.affine @ np.diag([zoom, zoom, zoom, 1])
    affine[:3, 3] += shift
    with pytest.raises(ScanError, match=told):
        prepare_scan(moved(made, write_nifti, affine), grid)


def test_oblique_scan_is_refused(make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid) -> None:
    made = make_scan(tmp_path)
    affine = made.affine.copy()
    affine[0, 1] = 0.5
    scan = moved(made, write_nifti, affine)
    with pytest.raises(ScanError, match=r"t1w.nii.gz: The image is oblique"):
        prepare_scan(scan, grid)
    with pytest.raises(ScanError, match=r"t1w.nii.gz: The image is oblique"):
        study_grid([scan.reference])


@pytest.mark.parametrize("kind", ["flair", "mask", "labels"])
def test_other_image_shifted_or_mirrored(make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid, kind: str) -> None:
    made = make_scan(tmp_path)
    shifted, mirrored = made.affine.copy(), made.affine @ np.diag([-1.0, 1, 1, 1])
    shifted[1, 3] += 8
    mirrored[0, 3] *= -1
    for affine, gap in ((shifted, "8.00"), (mirrored, "160.00")):
        write_nifti(getattr(made, kind), made.arrays[kind], affine)
        with pytest.raises(ScanError, match=rf"{kind}.nii.gz lies up to {gap} mm from sub-a_t1w.nii.gz"):
            prepare_scan(scan_of(made), grid)


def test_empty_mask_full_head_and_constant_brain(make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid) -> None:
    made = make_scan(tmp_path)
    brain = made.arrays["mask"] > 0
    write_nifti(made.mask, np.zeros_like(made.arrays["mask"]))
    with pytest.raises(ScanError, match=r"mask.nii.gz holds nothing but the value 0"):
        prepare_scan(scan_of(made), grid)
    write_nifti(made.mask, made.arrays["mask"])
    write_nifti(made.flair, np.where(brain, 7, made.arrays["labels"] * 0 + 1).astype(np.float32))
    with pytest.raises(
        ScanError, match=r"flair.nii.gz has one value only inside the brain; export it again or fix the brain mask"
    ):
        prepare_scan(scan_of(made), grid)
    head = np.where(brain, made.arrays["t1w"], 5).astype(np.float32)
    write_nifti(made.t1w, head)
    with pytest.raises(
        ScanError, match=r"t1w.nii.gz: no brain mask, and 100% of the image is not zero; give a mask or extract the brain"
    ):
        prepare_scan(scan_of(made, mask=None), grid)
    head[:, :, -3:] = 0
    head[:1] = 0
    write_nifti(made.t1w, head)
    write_nifti(made.flair, made.arrays["flair"])
    with pytest.raises(ScanError, match=r"its brain has \d{4} ml, 2500 ml at most are plausible; give a brain mask"):
        prepare_scan(scan_of(made, mask=None), grid)


@pytest.mark.parametrize(
    ("dialect", "ids", "expected"),
    [
        ("synthseg", {3: 1005}, {3: 3}),
        ("freesurfer", {2: 3011}, {2: 2}),
        ("samseg", {77: 99}, {77: 77}),
        ("bids-generic", None, None),
    ],
)
def test_label_map_dialects(
    make_scan: Make,
    write_nifti: Write,
    tmp_path: Path,
    grid: Grid,
    dialect: str,
    ids: dict[int, int] | None,
    expected: dict[int, int] | None,
) -> None:
    made = make_scan(tmp_path)
    theirs = made.arrays["labels"].astype(np.int16)
    theirs[10, 12, 11] = 77 if dialect == "samseg" else theirs[10, 12, 11]
    own = theirs.copy()
    if ids is None:
        theirs, own = (theirs > 0) * np.int16(10), (theirs > 0) * np.int16(16)
    for scheme, foreign in (ids or {}).items():
        theirs[theirs == scheme] = foreign
    write_nifti(made.labels, theirs)
    found = prepare_scan(scan_of(made, dialect=dialect), grid).labels
    np.testing.assert_array_equal(found, placed(own, made.affine, grid))
    assert expected is None or set(expected.values()) <= set(np.unique(own))


def test_label_table_and_labels_that_are_not_understood(
    make_scan: Make, write_nifti: Write, tmp_path: Path, grid: Grid
) -> None:
    made = make_scan(tmp_path)
    table = tmp_path / "ids.tsv"
    table.write_text("index\tname\n1\tBrain-Stem\n")
    write_nifti(made.labels, (made.arrays["labels"] > 0).astype(np.uint8))
    found = prepare_scan(scan_of(made, dialect=str(table)), grid).labels
    assert found is not None
    assert set(np.unique(found)) == {0, 16}
    with pytest.raises(ScanError, match=r"labels.nii.gz: Unknown label dialect 'freesurfr' \(did you mean 'freesurfer'\?"):
        prepare_scan(scan_of(made, dialect="freesurfr"), grid)
    write_nifti(made.labels, np.where(made.arrays["labels"] > 0, 250, 0).astype(np.uint8))
    with pytest.raises(ScanError, match=r"labels.nii.gz: Label ids that 'synthseg' does not know: 250 \(voxels: \d+\)"):
        prepare_scan(scan_of(made, dialect="synthseg"), grid)
    write_nifti(made.labels, made.arrays["labels"].astype(np.float32) + 0.25)
    with pytest.raises(ScanError, match=r"labels.nii.gz: A label map has whole numbers only"):
        prepare_scan(scan_of(made), grid)


def test_most_scans_decide_the_grid(make_scan: Make, write_nifti: Write, tmp_path: Path, made_scan: Any, grid: Grid) -> None:
    odd = make_scan(tmp_path, "odd")
    moved(odd, write_nifti, odd.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert study_grid([tmp_path / "broken.nii.gz", odd.t1w, made_scan.t1w, made_scan.flair]) == grid
    assert study_grid([odd.t1w, made_scan.t1w]).spacing == (4.0, 4.0, 4.0)
    with pytest.raises(ScanError, match=r"broken.nii.gz cannot be read"):
        study_grid([tmp_path / "broken.nii.gz"])
