"""A zoo of broken images: each ends in one plain sentence about the right file, and takes no other scan with it."""

from __future__ import annotations

import errno
import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import volume_of

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.files.volumes import ScanError, read_volume
from datamodules.quality import contrast as contrast_module
from datamodules.quality.contrast import contrast_order
from datamodules.store import sources as sources_module
from datamodules.store.sources import sources_of
from datamodules.store.store import BrokenScansError, open_store
from experiments.study.study import Study

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]
Damage = Callable[["Patient"], Scan | None]


class Patient:
    """The scan that gets damaged, with its arrays and the means to write them again."""

    def __init__(self, made: Any, write: Write) -> None:
        self.scan = Scan("sub-broken", "", made.images, 2.0, 0, 0, made.mask, made.labels)
        self.arrays: dict[str, Array] = made.arrays
        self.affine: Array = made.affine
        self.write = write

    def put(self, kind: str, array: Array, affine: Array | None = None) -> None:
        self.write(sources_of(self.scan)[kind], array, self.affine if affine is None else affine)

    def moved(self, kinds: tuple[str, ...], affine: Array) -> None:
        for kind in kinds:
            self.put(kind, self.arrays[kind], affine)


ALL = ("t1w", "flair", "mask", "labels")


def shifted(affine: Array, *mm: float) -> Array:
    moved = affine.copy()
    moved[:3, 3] += mm
    return moved


def truncated(one: Patient) -> None:
    whole = one.scan.images["flair"].read_bytes()
    one.scan.images["flair"].write_bytes(whole[: len(whole) // 2])


def flipped_bit(one: Patient) -> None:
    plain = gzip.decompress(one.scan.images["t1w"].read_bytes())
    content = bytearray(gzip.compress(plain, compresslevel=0))
    content[-500] ^= 4
    one.scan.images["t1w"].write_bytes(content)


def overflown(one: Patient) -> None:
    one.put("t1w", (one.arrays["t1w"] * 80).astype(np.int64).astype(np.int16))


def not_finite(one: Patient) -> None:
    one.put("flair", np.where(one.arrays["flair"] > 300, np.nan, one.arrays["flair"]))


def mirrored(one: Patient) -> None:
    turned = one.affine @ np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = one.affine[0, 3] + 8 * (one.arrays["t1w"].shape[0] - 1)
    one.put("flair", one.arrays["flair"], turned)


def header(one: Patient, change: Callable[[Any], None]) -> None:
    image = nib.load(one.scan.images["t1w"])
    copy = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    change(copy)
    nib.save(copy, one.scan.images["t1w"])


def no_codes(one: Patient) -> None:
    header(one, lambda image: (image.set_sform(None, 0), image.set_qform(None, 0)))


def two_places(one: Patient) -> None:
    header(one, lambda image: (image.set_sform(one.affine, 4), image.set_qform(shifted(one.affine, 30, 0, 0), 4)))


def oblique(one: Patient) -> None:
    turned = one.affine.copy()
    turned[0, 1] = 0.4
    one.moved(ALL, turned)


def with_skull(one: Patient) -> Scan:
    one.put("t1w", one.arrays["t1w"] + 5)
    return replace(one.scan, mask=None)


def other_voxels(one: Patient) -> None:
    one.moved(ALL, one.affine @ np.diag([0.75, 0.75, 0.75, 1]))


def huge(one: Patient) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), one.affine)
    image.header.set_data_shape((30000, 30000, 30000))
    one.scan.images["t1w"].write_bytes(gzip.compress(image.header.binaryblock + bytes(400)))


def same_twice(one: Patient) -> None:
    shutil.copyfile(one.scan.images["t1w"], one.scan.images["flair"])


def strange_labels(one: Patient) -> None:
    one.put("labels", np.where(one.arrays["labels"] > 0, 249, 0).astype(np.uint8))


def in_a_circle(one: Patient) -> None:
    one.scan.images["flair"].unlink()
    one.scan.images["flair"].symlink_to(one.scan.images["flair"])


ZOO: dict[str, tuple[Damage, str]] = {
    "truncated gzip": (truncated, r"flair.nii.gz cannot be read \(.*\); restore the file or take the scan out"),
    "flipped bit": (flipped_bit, r"t1w.nii.gz cannot be read \(CRC check failed"),
    "empty file": (lambda one: one.scan.images["t1w"].write_bytes(b"") and None, r"t1w.nii.gz cannot be read"),
    "text file": (lambda one: one.scan.images["t1w"].write_text("PatientName") and None, r"t1w.nii.gz cannot be read"),
    "file gone": (lambda one: one.scan.images["flair"].unlink(), r"flair.nii.gz cannot be read \(No such file"),
    "link in a circle": (in_a_circle, r"flair.nii.gz cannot be read \(Too many levels of symbolic links"),
    "wrong affine": (
        lambda one: one.put("flair", one.arrays["flair"], shifted(one.affine, 0, 16, 0)),
        r"flair.nii.gz lies up to 16.00 mm from .*t1w.nii.gz, 0.1 mm are allowed; register them",
    ),
    "mirrored x": (mirrored, r"flair.nii.gz lies up to 160.00 mm from .*, or store both in one orientation"),
    "sform and qform disagree": (
        two_places,
        r"t1w.nii.gz gives two positions of its voxels: sform and qform are 30.0 mm apart",
    ),
    "neither sform nor qform": (no_codes, r"t1w.nii.gz does not say where its voxels lie \(no sform, no qform\)"),
    "oblique": (oblique, r"t1w.nii.gz: The image is oblique"),
    "not in MNI space": (lambda one: one.moved(ALL, shifted(one.affine, 64, 64, 0)), r"register it to MNI152"),
    "far away": (
        lambda one: one.moved(ALL, shifted(one.affine, 800, 0, 0)),
        r"lies wholly outside the MNI152 template",
    ),
    "half a voxel beside": (lambda one: one.moved(ALL, shifted(one.affine, 4, 0, 0)), r"lies 4.00 mm beside the voxels of"),
    "other voxel size": (other_voxels, r"voxels of 6 x 6 x 6 mm, the study 8 x 8 x 8 mm; prepare all scans at one size"),
    "other shape": (
        lambda one: one.put("flair", one.arrays["flair"][1:]),
        r"flair.nii.gz has shape \(19, 25, 22\), .* \(20, 25, 22\); register them",
    ),
    "4D FLAIR": (
        lambda one: one.put("flair", np.stack([one.arrays["flair"]] * 2, -1)),
        r"flair.nii.gz has shape \(20, 25, 22, 2\); a single 3D volume is needed",
    ),
    "2D slice": (lambda one: one.put("t1w", one.arrays["t1w"][..., 9:10]), r"has shape \(20, 25, 1\); a single 3D volume"),
    "int16 overflow": (overflown, r"t1w.nii.gz holds values from -3\d{4} to 3\d{4}, both ends of int16: .*export it again"),
    "NaN": (not_finite, r"flair.nii.gz holds voxels that are not finite \(NaN or infinite\): \d+"),
    "all zero": (lambda one: one.put("t1w", np.zeros_like(one.arrays["t1w"])), r"t1w.nii.gz holds nothing but the value 0"),
    "complex": (
        lambda one: one.put("t1w", one.arrays["t1w"].astype(np.complex64)),
        r"holds complex64 voxels; plain numbers are needed",
    ),
    "skull still on": (with_skull, r"t1w.nii.gz: no brain mask, and 100% of the image is not zero; .*extract the brain"),
    "empty brain mask": (
        lambda one: one.put("mask", np.zeros_like(one.arrays["mask"])),
        r"mask.nii.gz holds nothing but the value 0",
    ),
    "flat brain": (
        lambda one: one.put("flair", np.where(one.arrays["mask"] > 0, 7, 1).astype(np.float32)),
        r"flair.nii.gz has one value only inside the brain",
    ),
    "T1w given as FLAIR": (same_twice, r"flair.nii.gz is byte for byte the T1w; give the scan's own FLAIR"),
    "labels of another program": (strange_labels, r"labels.nii.gz: Label ids that 'freesurfer' does not know: 249"),
    "header of a giant": (huge, r"has shape \(30000, 30000, 30000\); a single 3D volume is needed"),
}


@pytest.fixture
def good(made_scan: Any) -> Scan:
    return Scan("sub-good", "", made_scan.images, 2.0, 0, 0, made_scan.mask, made_scan.labels)


@pytest.mark.parametrize("kind", ZOO)
def test_damage_is_told_and_the_other_scan_is_kept(
    kind: str, make_scan: Callable[..., Any], write_nifti: Write, good: Scan, tmp_path: Path
) -> None:
    damage, told = ZOO[kind]
    one = Patient(make_scan(tmp_path / "my scans", "sub-broken", seed=1), write_nifti)
    scan = damage(one) or one.scan
    with pytest.raises(BrokenScansError, match=told) as caught:
        open_store([good, replace(good, patient="sub-other", **other_files(make_scan, tmp_path)), scan], tmp_path / "store")
    (broken,) = caught.value.broken
    assert (broken.patient, broken.reason) == ("sub-broken", "image cannot be used")
    assert "\n" not in broken.detail
    assert len(list((tmp_path / "store" / "volumes").iterdir())) == 5  # T1w and FLAIR of both, and their label map


def other_files(make_scan: Callable[..., Any], tmp_path: Path) -> dict[str, Any]:
    made = make_scan(tmp_path / "other", "sub-other", seed=2)
    return {"images": made.images, "mask": made.mask, "labels": made.labels}


def test_zoo_is_large_enough() -> None:
    assert len(ZOO) >= 25


def swapped(scan: Scan) -> Scan:
    return replace(scan, images={"t1w": scan.images["flair"], "flair": scan.images["t1w"]})


def test_swapped_images_are_refused_unless_somebody_looked(study: Study, tmp_path: Path) -> None:
    kept, one = study.cohort.scans[:2]
    told = r"white matter is brighter than cortex in sub-.*_T1w.nii.gz rather than here \(by \d\.\d SD\); swap the two, or"
    with pytest.raises(BrokenScansError, match=told):
        open_store([kept, swapped(one)], tmp_path / "store")
    looked = replace(swapped(one), covariates={"contrast": "Checked"})
    assert len(open_store([kept, looked], tmp_path / "store").keys) == 2


def test_swapping_changes_only_the_sign_of_the_contrast(study: Study) -> None:
    orders = []
    for row in range(8):
        t1w, flair = study.prepared.image(row)
        brain, grid = t1w != 0, study.prepared.grid
        orders.append(contrast_order(t1w, flair, brain, grid))
        assert contrast_order(flair, t1w, brain, grid) == -orders[-1]
        assert contrast_order(3 * t1w.astype(float) + 40, flair, brain, grid) == pytest.approx(orders[-1], rel=1e-3)
    assert min(orders) > 0.5


@pytest.mark.parametrize("count", [1, 2, 7, 8, 4001])
def test_median_of_the_contrast_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    assert contrast_module._median(values) == np.median(values)


@pytest.mark.parametrize("session", ["", "ses-2"])
def test_one_image_under_two_names(good: Scan, tmp_path: Path, session: str) -> None:
    shutil.copyfile(good.images["t1w"], tmp_path / "copy.nii.gz")
    twin = replace(
        good,
        patient=good.patient if session else "sub-twin",
        session=session,
        images=good.images | {"t1w": tmp_path / "copy.nii.gz"},
    )
    own = r"copy.nii.gz is byte for byte an image of sub-good; each session needs its own"
    other = r"copy.nii.gz is byte for byte an image of sub-good; one patient under two names would leak into the test"
    with pytest.raises(BrokenScansError, match=own if session else other):
        open_store([good, twin], tmp_path / "store")


def test_file_without_permission(good: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> tuple[int, int, int]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(sources_module, "_stamp", refuse)
    with pytest.raises(BrokenScansError, match=r"t1w.nii.gz cannot be read \(Permission denied\); restore the file"):
        open_store([good], tmp_path / "store")


def test_full_disk_leaves_nothing_that_looks_complete(good: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("datamodules.files.atomic.os.fsync", full)
        with pytest.raises(OSError, match=r"cannot be written: No space left on device"):
            open_store([good], tmp_path / "store")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".npy", ".json", ".partial")]
    store = open_store([good], tmp_path / "store")
    assert np.isfinite(store.image(0)).all()


@pytest.mark.parametrize("kept", ["image.npy", "labels.npy", "scan.json", "checksums.json"])
def test_half_a_volume_is_rebuilt(good: Scan, tmp_path: Path, kept: str) -> None:
    volume = volume_of(open_store([good], tmp_path / "store"), 0, "labels" if kept == "labels.npy" else "image")
    for path in volume.iterdir():
        if path.name != kept:
            path.unlink()
    (volume.with_name(f".{volume.name}.partial")).mkdir()
    store = open_store([good], tmp_path / "store")
    assert store.image(0).shape[1:] == store.labels(0).shape


def test_broken_scans_are_counted_in_the_flow(good: Scan, tmp_path: Path) -> None:
    table = tmp_path / "cohort.tsv"
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    row = f"{good.images['t1w']}\t{good.images['flair']}\t2\t5\t{good.mask}"
    bad = f"{tmp_path / 'bad.nii.gz'}\t{good.images['flair']}\t4\t5\t{good.mask}"
    table.write_text(f"patient\tt1w\tflair\tedss\tdays\tmask\nP1\t{row}\nP1b\t{bad}\n")
    cohort = read_cohort(table, Target())
    with pytest.raises(BrokenScansError) as caught:
        open_store(cohort.scans, tmp_path / "store")
    flow: Any = cohort.without(caught.value.broken).flow()
    assert {one["patient"] for one in flow["excluded"][0]["who"]} == {"P1", "P1b"}
    assert flow["found"]["scans"] == 2


def test_rotation_that_is_none(tmp_path: Path, made_scan: Any) -> None:
    image = nib.load(made_scan.t1w)
    image.header["qform_code"] = image.header["sform_code"] = 2
    image.header["quatern_b"] = image.header["quatern_c"] = 3.0
    (tmp_path / "x.nii").write_bytes(image.header.binaryblock + bytes(4) + bytes(4 * 11000))
    with pytest.raises(ScanError, match=r"x.nii cannot be read \(.*\)|does not say where"):
        read_volume(tmp_path / "x.nii")
