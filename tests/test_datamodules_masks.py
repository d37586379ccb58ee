"""Masks and label maps as programs store them: the same scan gives the same stored bytes; real fractions are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.files.volumes import Volume, marked, read_stored
from datamodules.store.store import BrokenScansError, open_store
from experiments.study.study import StudyOptions, open_cohort
from regions.labels import NOISE

Array = np.ndarray[Any, Any]
Make = Callable[..., Any]


def scaled(array: Array, slope: float, inter: float = 0.0) -> nib.Nifti1Image:
    """An image whose header scales the stored whole numbers."""
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(slope, inter)
    return image


AFFINE = np.eye(4)


def soft_edge(mask: Array) -> Array:
    """Shares from 0 to 1 of which more than half is where the mask is: 0.9 or 1 inside, up to 0.45 in the shell around it."""
    near = np.zeros(mask.shape)
    for axis in range(3):
        for step in (-1, 1):
            near = np.maximum(near, np.roll(mask, step, axis))
    alternating = np.indices(mask.shape).sum(0) % 5 == 0
    return np.where(mask, np.where(alternating, 0.9, 1.0), 0.45 * near)


FORMS: dict[str, Callable[[Array], Array]] = {
    "0/1 uint8": lambda m: m.astype(np.uint8),
    "0/1 int16": lambda m: m.astype(np.int16),
    "0/1 float32": lambda m: m.astype(np.float32),
    "0/1 float64": lambda m: m.astype(np.float64),
    "0/255 uint8": lambda m: (m * 255).astype(np.uint8),
    "0/255 float32": lambda m: (m * 255).astype(np.float32),
    "0/255 with noise": lambda m: (m * 254.9999 + 1e-5).astype(np.float32),
    "0/100 int16": lambda m: (m * 100).astype(np.int16),
    "0/2 uint8": lambda m: (m * 2).astype(np.uint8),
    "0/0.004 float32": lambda m: (m / 255).astype(np.float32),
    "soft 0..1 float32": lambda m: soft_edge(m).astype(np.float32),
    "soft 0..1 with overshoot": lambda m: (soft_edge(m) * 1.08 - 0.02).astype(np.float32),
    "soft 0..255 uint8": lambda m: np.rint(soft_edge(m) * 255).astype(np.uint8),
    "soft 0..255 float32": lambda m: (soft_edge(m) * 255).astype(np.float32),
    "soft 0..100 uint8": lambda m: np.rint(soft_edge(m) * 100).astype(np.uint8),
    "labels 2 and 41": lambda m: np.where(np.indices(m.shape)[0] < 10, 2, 41).astype(np.uint8) * m.astype(np.uint8),
}
SCALED: dict[str, Callable[[Array], nib.Nifti1Image]] = {
    "0/255 scaled to 0/1": lambda m: scaled((m * 255).astype(np.uint8), 1 / 255),
    "0/1 scaled to 0/255": lambda m: scaled(m.astype(np.uint8), 255),
    "0/1 scaled to 0/0.004": lambda m: scaled(m.astype(np.uint8), 1 / 255),
    "soft 0..1 in int16": lambda m: scaled(np.rint(soft_edge(m) * 32767).astype(np.int16), 1 / 32767),
    "soft 0..255 in int16 with an intercept": lambda m: scaled(
        np.rint(soft_edge(m) * 65535 - 32768).astype(np.int16), 255 / 65535, 32768 * 255 / 65535
    ),
}


@pytest.fixture(scope="module")
def made(make_scan: Make, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_scan(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def expected(made: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return stored(scan_of(made), tmp_path_factory.mktemp("store"))


def scan_of(made: Any, **files: Path) -> Scan:
    return replace(Scan("sub-a", "", made.images, 2.0, 0, 0, made.mask, made.labels), **files)


def stored(scan: Scan, folder: Path) -> dict[str, bytes]:
    """The stored files of a scan, without what says that labels were rounded, and without the checksums of all."""
    prepared = open_store([scan], folder)
    volumes = {f"{kind}-{n}": folder / "volumes" / key for n, (key, kind) in enumerate(prepared.scans[0].volumes.items())}
    files = {name: next(volume.glob("*.npy")).read_bytes() for name, volume in volumes.items()}
    return files | {"facts": json.dumps(prepared.facts(0)).encode()}


@pytest.mark.parametrize("form", [*FORMS, *SCALED])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_every_form_of_a_mask_gives_the_same_bytes(
    made: Any, expected: dict[str, bytes], tmp_path: Path, form: str, suffix: str
) -> None:
    mask = made.arrays["mask"] > 0
    image = SCALED[form](mask) if form in SCALED else nib.Nifti1Image(FORMS[form](mask), made.affine)
    image.set_sform(made.affine, 2)
    image.set_qform(made.affine, 2)
    path = tmp_path / f"mask{suffix}"
    nib.save(image, path)
    assert (marked(read_stored(path)) == mask).all()
    assert stored(scan_of(made, mask=path), tmp_path / "store") == expected


@pytest.mark.parametrize("ids", [(0, 2, 3, 4, 41, 42, 43, 251, 255), (0, 2, 41, 1002, 2035), (0, 1, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_label_map_as_mask_marks_all_its_labels(ids: tuple[int, ...], dtype: type) -> None:
    labels = np.random.default_rng(0).choice(ids, (12, 12, 12)).astype(dtype)
    np.testing.assert_array_equal(marked(Volume(Path("x"), labels, AFFINE)), labels > 0)


def test_half_of_a_soft_mask_is_outside() -> None:
    shares = np.array([[[0.0, 0.25, 0.5, 0.51, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]]])
    for array in (shares, (shares * 255).round().astype(np.uint8), (shares * 100).astype(np.float32)):
        soft = marked(Volume(Path("x"), array.astype(array.dtype), AFFINE)).ravel().tolist()
        assert soft[3:] == [True] * 7
        assert soft[:2] == [False] * 2


NOISY: dict[str, Callable[[Array], Array]] = {
    "float32, a little more": lambda a: (a + 1e-4 * (a > 0)).astype(np.float32),
    "float64, a little less": lambda a: a - 1e-7 * (a > 0),
    "about zero too": lambda a: (a + np.random.default_rng(0).normal(0, 0.01, a.shape).clip(-0.05, 0.05)).astype(np.float32),
}


def put_labels(made: Any, path: Path, array: Array) -> Path:
    nib.save(nib.Nifti1Image(array, made.affine), path)
    return path


@pytest.mark.parametrize("form", NOISY)
def test_noise_of_storage_is_rounded_and_told(made: Any, expected: dict[str, bytes], tmp_path: Path, form: str) -> None:
    scan = scan_of(made, labels=put_labels(made, tmp_path / "labels.nii.gz", NOISY[form](made.arrays["labels"].astype(float))))
    assert stored(scan, tmp_path / "store") == expected
    for _ in range(2):  # made, and found again
        (remark,) = open_store([scan], tmp_path / "store").remarks([scan])
        assert remark.endswith("taken as the nearest: 1 (sub-a)")


def test_a_header_that_scales_is_rounded_too(made: Any, expected: dict[str, bytes], tmp_path: Path) -> None:
    labels, slope = made.arrays["labels"].astype(float), 0.013
    image = nib.Nifti1Image(np.rint(labels / slope).astype(np.int16), made.affine)
    image.header.set_slope_inter(slope, 0)
    nib.save(image, tmp_path / "labels.nii.gz")
    scan = scan_of(made, labels=tmp_path / "labels.nii.gz")
    assert stored(scan, tmp_path / "store") == expected
    assert len(open_store([scan], tmp_path / "store").remarks([scan])) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_whole_numbers_of_any_type_need_no_remark(made: Any, expected: dict[str, bytes], tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "labels.nii.gz"
    image = nib.Nifti1Image(made.arrays["labels"].astype(dtype), made.affine, dtype=dtype)
    nib.save(image, path)
    scan = scan_of(made, labels=path)
    assert stored(scan, tmp_path / "store") == expected
    assert open_store([scan], tmp_path / "store").remarks([scan]) == []


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda a: a + 0.5 * (a > 0), r"\d+\.5"),
        (lambda a: (a + np.roll(a, 1, 0)) / 2, r"\d+\.5"),
        (lambda a: a * 0.9 + np.roll(a, 1, 0) * 0.1, r"[\d.]+"),
        (lambda a: (a > 0) * 0.7, r"0\.7"),
        (lambda a: a + 1.5 * NOISE * (a == 16), r"16\.15"),
    ],
    ids=["halves", "interpolated", "slightly interpolated", "probabilities", "one structure"],
)
def test_real_fractions_are_refused_with_file_value_and_way_out(
    made: Any, tmp_path: Path, change: Callable[[Array], Array], value: str
) -> None:
    path = put_labels(made, tmp_path / "odd_dseg.nii.gz", change(made.arrays["labels"].astype(float)).astype(np.float32))
    with pytest.raises(
        BrokenScansError,
        match=rf"odd_dseg.nii.gz: A label map has whole numbers only, found {value} \(\d+ voxels are between labels\).*"
        r"Resample the original label map with nearest neighbour",
    ):
        open_store([scan_of(made, labels=path)], tmp_path / "store")


def test_remarks_name_ten_scans_and_reach_the_flow(make_scan: Make, tmp_path: Path) -> None:
    rows = []
    for n in range(13):
        scan = make_scan(tmp_path / "scans", f"p{n:02d}", seed=n)
        if n < 12:
            put_labels(scan, scan.labels, scan.arrays["labels"] + np.float32(0.001))
        rows.append(f"p{n:02d}\t{scan.t1w}\t{scan.flair}\t{scan.mask}\t{scan.labels}\t2.0\t1")
    table = tmp_path / "cohort.tsv"
    table.write_text("\n".join(["patient\tt1w\tflair\tmask\tlabels\tedss\tdays", *rows]) + "\n")
    cohort, prepared = open_cohort(StudyOptions(table, tmp_path / "study", tmp_path / "store", Target()))
    (remark,) = prepared.remarks(cohort.scans)
    assert "12 (p00, p01" in remark
    assert remark.endswith("p09, ...)")
    assert cohort.flow()["remarks"] == [remark]
