"""Reading one image file: whatever cannot be used is named in one plain line."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.files.volumes import ScanError, Volume, canonical_grid, check_same_space, read_stored, read_volume
from regions.grid import SpaceError

SHAPE = (5, 6, 7)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(100, 10, SHAPE).astype(np.float32)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 3, 0, 7], [0, 0, 4, -11], [0, 0, 0, 1]])
Write = Callable[..., Path]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_values_and_affine_survive(tmp_path: Path, write_nifti: Write, dtype: str) -> None:
    top = min(70000, np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else 70000
    array = RNG.integers(0, top, SHAPE, endpoint=True).astype(dtype)
    array[0, 0, 0] = top
    volume = read_volume(write_nifti(tmp_path / "x.nii.gz", array, AFFINE))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array.astype(np.float32))
    np.testing.assert_array_equal(volume.affine, AFFINE)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("u1", "uint8"),
        ("i1", "int8"),
        (">i2", "int16"),
        ("u2", "uint16"),
        (">f4", "float32"),
        ("i4", "float32"),
        ("f8", "float32"),
    ],
)
def test_stored_type_is_kept_where_float32_holds_it(
    tmp_path: Path, write_nifti: Write, name: str, dtype: str, kept: str
) -> None:
    array = RNG.integers(0, 100, SHAPE).astype(dtype)
    found = read_stored(write_nifti(tmp_path / name, array, AFFINE)).array
    assert found.dtype == np.dtype(kept)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_scaled_values_are_those_of_nibabel(tmp_path: Path, name: str) -> None:
    image = nib.Nifti1Image(RNG.integers(-900, 900, SHAPE).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.37, 12.5)
    image.header["vox_offset"] = 352
    content = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = read_stored(tmp_path / name).array
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(nib.load(tmp_path / name).dataobj, dtype=np.float32))
    np.testing.assert_allclose(found, 0.37 * np.asarray(image.dataobj) + 12.5, rtol=1e-5)


def test_mgz_is_read(tmp_path: Path) -> None:
    array = RNG.integers(0, 200, SHAPE).astype(np.int16)
    nib.save(nib.MGHImage(array, AFFINE.astype(np.float32)), tmp_path / "x.mgz")
    found = read_stored(tmp_path / "x.mgz")
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, AFFINE)


def test_gzip_in_several_members_and_with_padding(tmp_path: Path, write_nifti: Write) -> None:
    plain = write_nifti(tmp_path / "x.nii", IMAGE, AFFINE).read_bytes()
    packed = gzip.compress(plain[:500]) + gzip.compress(plain[500:] + b"more") + bytes(7)
    (tmp_path / "x.nii.gz").write_bytes(packed)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, IMAGE)


def test_damage_behind_the_last_voxel_is_seen(tmp_path: Path, write_nifti: Write) -> None:
    packed = write_nifti(tmp_path / "x.nii.gz", IMAGE, AFFINE).read_bytes()
    for damaged in (packed[:-1], packed[:-8] + bytes(8), packed + b"no gzip"):
        (tmp_path / "x.nii.gz").write_bytes(damaged)
        with pytest.raises(ScanError, match=r"x\.nii\.gz cannot be read \(.+\); restore the file or take the scan out"):
            read_volume(tmp_path / "x.nii.gz")


def test_single_volume_in_four_dimensions_is_one_volume(tmp_path: Path, write_nifti: Write) -> None:
    assert read_volume(write_nifti(tmp_path / "x.nii", IMAGE[..., None, None], AFFINE)).array.shape == SHAPE


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.stack([IMAGE, IMAGE], -1), r"has shape \(5, 6, 7, 2\); a single 3D volume is needed"),
        (IMAGE[:, :, :1], r"has shape \(5, 6, 1\); a single 3D volume is needed"),
        (IMAGE[:, :, 0], r"has shape \(5, 6.*\); a single 3D volume is needed"),
        (np.where(IMAGE > 110, np.nan, IMAGE), r"holds voxels that are not finite \(NaN or infinite\): \d+; export it again"),
        (np.where(IMAGE[1, 2, 3] == IMAGE, -np.inf, IMAGE), r"holds voxels that are not finite .*: 1;"),
        (
            np.where(IMAGE[1, 2, 3] == IMAGE, 1e300, IMAGE.astype(float)),
            r"holds voxels that are not finite .*: 1;",
        ),
        (np.zeros(SHAPE, np.int16), r"holds nothing but the value 0; export it again"),
        (np.full(SHAPE, 42.5), r"holds nothing but the value 42\.5; export it again"),
        (IMAGE.astype(np.complex64), r"holds complex64 voxels; plain numbers are needed"),
        (np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), r"holds .* voxels; plain numbers are needed"),
    ],
)
def test_volume_that_cannot_be_used(tmp_path: Path, write_nifti: Write, array: np.ndarray, told: str) -> None:
    path = write_nifti(tmp_path / "my scan.nii.gz", array, AFFINE)
    with pytest.raises(ScanError, match=rf"my scan\.nii\.gz {told}") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 200, 400, 0.5, 0.99])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_truncated_file(tmp_path: Path, write_nifti: Write, name: str, keep: float) -> None:
    path = write_nifti(tmp_path / name, IMAGE, AFFINE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(ScanError, match=rf"{name} cannot be read \(.+\); restore the file or take the scan out") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_flipped_bit_in_compressed_voxels(tmp_path: Path, write_nifti: Write) -> None:
    content = gzip.compress(write_nifti(tmp_path / "x.nii", IMAGE, AFFINE).read_bytes(), compresslevel=0)
    damaged = bytearray(content)
    damaged[-200] ^= 1
    (tmp_path / "x.nii.gz").write_bytes(damaged)
    assert np.isfinite(nib.load(tmp_path / "x.nii.gz").get_fdata()).all()
    with pytest.raises(ScanError, match=r"x\.nii\.gz cannot be read \(CRC check failed"):
        read_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("content", [b"hello", b"\x1f\x8b\x08garbage", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(ScanError, match=r"x\.nii\.gz cannot be read"):
        read_volume(tmp_path / "x.nii.gz")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    for name in ("none.nii.gz", "folder.nii.gz"):
        with pytest.raises(ScanError, match=rf"{name} cannot be read \(.+\)"):
            read_volume(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path, write_nifti: Write) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", IMAGE, AFFINE)
    path.chmod(0)
    with pytest.raises(ScanError, match=r"Permission denied"):
        read_volume(path)


def test_compressed_header_that_asks_for_more_than_the_file_holds(tmp_path: Path) -> None:
    image = nib.Nifti1Image(IMAGE, AFFINE)
    image.header.set_data_shape((800, 800, 800))
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(image.header.binaryblock + bytes(4000)))
    with pytest.raises(ScanError, match=r"x\.nii\.gz cannot be read \(.+\); restore the file"):
        read_volume(tmp_path / "x.nii.gz")


def test_header_that_asks_for_too_much_memory(tmp_path: Path) -> None:
    image = nib.Nifti1Image(IMAGE, AFFINE)
    image.header.set_data_shape((30000, 30000, 30000))
    (tmp_path / "x.nii").write_bytes(image.header.binaryblock + bytes(400))
    with pytest.raises(ScanError, match=r"has shape \(30000, 30000, 30000\); a single 3D volume is needed"):
        read_volume(tmp_path / "x.nii")


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_affine_that_says_nothing(tmp_path: Path, write_nifti: Write, broken: float) -> None:
    path = write_nifti(tmp_path / "x.nii", IMAGE, AFFINE)
    content = bytearray(path.read_bytes())
    content[280:284] = np.float32(broken).tobytes()
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r"does not say where its voxels lie \(affine .*\); export it again"):
        read_volume(path)


def test_any_damaged_header_is_told_plainly(tmp_path: Path, write_nifti: Write) -> None:
    whole = write_nifti(tmp_path / "x.nii", IMAGE, AFFINE).read_bytes()
    rng, refused = np.random.default_rng(1), 0
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, 352, rng.integers(1, 6)):
            content[place] = rng.integers(0, 256)
        (tmp_path / "y.nii").write_bytes(content)
        with suppress(ScanError):
            read_volume(tmp_path / "y.nii")
            refused -= 1
        refused += 1
    assert refused > 50


def volume(array: np.ndarray, affine: np.ndarray, name: str = "other.nii.gz") -> Volume:
    return Volume(Path(name), array, affine)


REFERENCE = volume(IMAGE, AFFINE, "folder/t1.nii.gz")


def test_same_space_allows_rounding() -> None:
    nudged = AFFINE.copy()
    nudged[:3, 3] += 0.05
    check_same_space(REFERENCE, volume(IMAGE, nudged))


@pytest.mark.parametrize(("axis", "gap"), [(0, "2.00"), (1, "3.00"), (2, "4.00")])
def test_image_shifted_by_one_voxel(axis: int, gap: str) -> None:
    shifted = AFFINE.copy()
    shifted[axis, 3] += AFFINE[axis, axis]
    with pytest.raises(ScanError, match=rf"other.nii.gz lies up to {gap} mm from t1.nii.gz, 0.1 mm are allowed; register them"):
        check_same_space(REFERENCE, volume(IMAGE, shifted))


def test_mirrored_image_of_equal_shape() -> None:
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = AFFINE[0, 3] + 2 * (SHAPE[0] - 1)
    with pytest.raises(ScanError, match=r"lies up to 10.00 mm from t1.nii.gz, .* or store both in one orientation"):
        check_same_space(REFERENCE, volume(IMAGE, mirrored))


def test_image_of_another_shape() -> None:
    with pytest.raises(ScanError, match=r"other.nii.gz has shape \(5, 6, 6\), t1.nii.gz \(5, 6, 7\); register them"):
        check_same_space(REFERENCE, volume(IMAGE[..., :6], AFFINE))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_canonical_grid_is_that_of_the_turned_image(
    tmp_path: Path, write_nifti: Write, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    affine = AFFINE @ np.diag([*signs, 1.0])
    affine[:, :3] = affine[:, order]
    path = write_nifti(tmp_path / "x.nii", IMAGE, affine)
    turned = nib.as_closest_canonical(nib.load(path))
    grid = canonical_grid(path)
    assert grid.shape == turned.shape
    np.testing.assert_allclose(grid.matrix, turned.affine)


def test_oblique_image_has_no_grid(tmp_path: Path, write_nifti: Write) -> None:
    turned = AFFINE.copy()
    turned[0, 1] = 0.3
    with pytest.raises(SpaceError, match=r"oblique"):
        canonical_grid(write_nifti(tmp_path / "x.nii", IMAGE, turned))
