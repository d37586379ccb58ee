"""The store of prepared volumes: made once, found by content, safe against several processes, kills and full disks."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.cohort.records import Scan
from datamodules.store import store as store_module
from datamodules.store.prepare import ScanError
from datamodules.store.prepared import PreparedCohort
from datamodules.store.sources import sources_of
from datamodules.store.store import BrokenScansError, open_store
from datamodules.store.writing import write_array
from experiments.study.study import Study
from regions.grid import Box

Make = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def three(make_scan: Make, tmp_path: Path) -> list[Scan]:
    """Three hand-made scans of three patients."""
    made = [make_scan(tmp_path / "scans", f"sub-{n}", seed=n) for n in range(3)]
    return [Scan(f"sub-{n}", "", m.images, 2.0, 0, 0, m.mask, m.labels) for n, m in enumerate(made)]


def prepared_count(scans: list[Scan], folder: Path) -> tuple[PreparedCohort, int]:
    calls: list[tuple[int, int]] = []
    prepared = open_store(scans, folder, 2, lambda done, total: calls.append((done, total)))
    assert calls == [(n, len(calls)) for n in range(1, len(calls) + 1)]
    return prepared, len(calls)


def volumes(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "volumes").iterdir())


def test_second_open_makes_and_reads_nothing(three: list[Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, made = prepared_count(three, tmp_path / "store")
    assert made == 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("a source was read again"))
    monkeypatch.setattr(store_module, "prepare_scan", lambda *_: pytest.fail("a volume was made again"))
    second, made = prepared_count(three, tmp_path / "store")
    assert (second, made) == (first, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before
    open_store(three[1:], tmp_path / "store")


@pytest.mark.parametrize("filled", [(), (0,), (3, 4, 11), range(13)], ids=["nothing", "start", "some", "all"])
@pytest.mark.parametrize("shape", [(13, 1024), (13, 1500), (13, 3)])
def test_an_array_with_empty_pages_is_the_file_that_numpy_writes(
    shape: tuple[int, int], filled: Sequence[int], tmp_path: Path
) -> None:
    array = np.zeros(shape, np.float32)
    array[list(filled), 1] = 1
    for name, parts in (("own", array), ("whole", [array])):
        with (tmp_path / f"{name}.npy").open("xb") as file:
            write_array(file, array.dtype, array.shape, parts)
    np.save(tmp_path / "numpy.npy", array)
    assert len({(tmp_path / f"{name}.npy").read_bytes() for name in ("own", "whole", "numpy")}) == 1


def test_empty_pages_take_no_room_on_the_disk(tmp_path: Path) -> None:
    array = np.zeros(2**22, np.uint8)
    array[2**21] = 1
    with (tmp_path / "x.npy").open("xb") as file:
        write_array(file, array.dtype, array.shape, [array])
    taken = (tmp_path / "x.npy").stat().st_blocks * 512
    if taken >= 2**22:
        pytest.skip("this file system has no holes")
    assert taken <= 2**16


def test_image_and_labels_are_read_only_maps(study: Study) -> None:
    image, labels = study.prepared.image(0), study.prepared.labels(0)
    assert (image.dtype, image.shape) == (np.float16, (2, *study.prepared.grid.shape))
    first, second = study.prepared.maps(0)
    assert isinstance(first, np.memmap)
    assert np.array_equal(second, image[1])
    assert (labels.dtype, labels.shape) == (np.uint8, study.prepared.grid.shape)
    assert ((image[0] != 0) >= (labels > 0)).all()
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1


def test_crop_pads_with_zeros(study: Study) -> None:
    whole = np.pad(study.prepared.image(3), [(0, 0), (4, 4), (4, 4), (4, 4)])
    found = study.prepared.crop(3, Box((-2, 5, -4), (10, 12, 40)))
    np.testing.assert_array_equal(found[..., :33], whole[:, 2:14, 9:16, :33])
    assert found.shape == (2, 12, 7, 44)
    labels = study.prepared.crop(3, Box((5, 5, 5), (9, 9, 9)), "labels")
    np.testing.assert_array_equal(labels, study.prepared.labels(3)[5:9, 5:9, 5:9])


@pytest.mark.parametrize("kind", ["t1w", "flair", "mask", "labels"])
def test_changed_source_gives_a_new_key_for_that_scan_only(
    three: list[Scan], tmp_path: Path, write_nifti: Write, kind: str
) -> None:
    first = open_store(three, tmp_path / "store")
    path = sources_of(three[1])[kind]
    content = path.read_bytes()
    import nibabel as nib

    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    place = tuple(np.argwhere(array != 0)[100])
    array[place] = 0 if kind == "mask" else (16 if array[place] != 16 else 3) if kind == "labels" else array[place] + 1
    write_nifti(path, array)
    second, made = prepared_count(three, tmp_path / "store")
    assert [a != b for a, b in zip(first.keys, second.keys, strict=True)] == [False, True, False]
    assert made == 1
    path.write_bytes(content)
    assert prepared_count(three, tmp_path / "store") == (first, 0)


def test_change_behind_equal_size_and_time_is_seen(three: list[Scan], tmp_path: Path) -> None:
    first = open_store(three, tmp_path / "store")
    path = three[0].images["t1w"]
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[4:8] = b"\x01\x02\x03\x04"  # time in the gzip header: other bytes, same voxels
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    second = open_store(three, tmp_path / "store")
    assert [a != b for a, b in zip(first.keys, second.keys, strict=True)] == [True, False, False]
    np.testing.assert_array_equal(first.image(0), second.image(0))


def test_new_code_rebuilds_volumes(three: list[Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(three, tmp_path / "store")
    monkeypatch.setattr(store_module, "CODE_VERSION", 999)
    assert not set(open_store(three, tmp_path / "store").keys) & set(first.keys)


def test_record_holds_the_sources_of_all_cohorts(three: list[Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scan in three:
        open_store([scan], tmp_path / "store")
    assert len(json.loads((tmp_path / "store/sources.json").read_text())) == 12
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("a source was read again"))
    assert prepared_count(three, tmp_path / "store")[1] == 0


def test_place_and_name_of_a_file_do_not_matter(three: list[Scan], tmp_path: Path) -> None:
    first = open_store(three, tmp_path / "store")
    (tmp_path / "scans").rename(tmp_path / "moved scans")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "moved scans" / three[0].images["t1w"].name)
    moved = []
    for scan in three:
        files = {kind: tmp_path / "moved scans" / path.name for kind, path in sources_of(scan).items()}
        images = {kind: files.pop(kind) for kind in scan.images}
        moved.append(replace(scan, images=images, mask=files["mask"], labels=files["labels"]))
    moved[0] = replace(moved[0], images={**moved[0].images, "t1w": tmp_path / "link.nii.gz"})
    assert prepared_count(moved, tmp_path / "store") == (first, 0)


def test_dialect_and_label_table_are_part_of_the_key(three: list[Scan], tmp_path: Path) -> None:
    table = tmp_path / "ids.tsv"
    names = [f"{n}\tBrain-Stem" for n in range(1, 256)]
    table.write_text("index\tname\n" + "\n".join(names) + "\n")
    keys = [open_store([replace(three[0], dialect=d)], tmp_path / "store").keys for d in ("freesurfer", "synthseg", str(table))]
    table.write_text("index\tname\n" + "\n".join(names).replace("Brain-Stem", "Pons", 1) + "\n")
    keys.append(open_store([replace(three[0], dialect=str(table))], tmp_path / "store").keys)
    assert len(set(keys)) == 4


def test_broken_scans_are_all_named_and_the_others_kept(
    three: list[Scan], tmp_path: Path, write_nifti: Write, make_scan: Make
) -> None:
    fourth = make_scan(tmp_path / "scans", "sub-3", seed=3)
    three.append(Scan("sub-3", "ses-1", fourth.images, 2.0, 0, 0, fourth.mask, fourth.labels))
    three[0].images["t1w"].write_bytes(three[0].images["t1w"].read_bytes()[:-40])
    three[1].images["flair"].unlink()
    assert three[3].mask is not None
    write_nifti(three[3].mask, np.zeros(fourth.arrays["mask"].shape, np.uint8))
    with pytest.raises(BrokenScansError) as caught:
        open_store(three, tmp_path / "store")
    assert [(one.patient, one.session, one.reason) for one in caught.value.broken] == [
        ("sub-1", "", "image cannot be used"),
        ("sub-0", "", "image cannot be used"),
        ("sub-3", "ses-1", "image cannot be used"),
    ]
    first, *lines = str(caught.value).splitlines()
    assert first == "3 scans cannot be used; fix them, or exclude them with --broken exclude (they are counted):"
    told = [
        r"sub-1: .*sub-1_flair.nii.gz cannot be read (No such file or directory); restore the file or take the scan out",
        r"sub-0: .*sub-0_t1w.nii.gz cannot be read (",
        r"sub-3/ses-1: .*sub-3_mask.nii.gz holds nothing but the value 0",
    ]
    assert [all(part in line for part in text.split(".*")) for line, text in zip(lines, told, strict=True)] == [True] * 3
    assert len(volumes(tmp_path / "store")) == 3
    assert prepared_count([three[2]], tmp_path / "store")[1] == 0


def test_one_image_under_two_patients_is_refused(three: list[Scan], tmp_path: Path) -> None:
    shutil.copy(three[0].images["t1w"], three[2].images["t1w"])
    with pytest.raises(
        BrokenScansError, match=r"byte for byte an image of sub-2; one patient under two names would leak"
    ) as caught:
        open_store(three, tmp_path / "store")
    assert {one.patient for one in caught.value.broken} == {"sub-0", "sub-2"}


def test_scan_of_another_size_is_named(three: list[Scan], tmp_path: Path, write_nifti: Write) -> None:
    for kind in ("t1w", "flair", "mask", "labels"):
        import nibabel as nib

        path = sources_of(three[0])[kind]
        array, affine = np.asarray(nib.load(path).dataobj), nib.load(path).affine
        write_nifti(path, array, affine @ np.diag([0.9, 0.9, 0.9, 1]))
    with pytest.raises(BrokenScansError, match=r"sub-0: .* has voxels of 7.2 x 7.2 x 7.2 mm, the study 8 x 8 x 8 mm") as caught:
        open_store(three, tmp_path / "store")
    assert len(caught.value.broken) == 1


def test_source_that_changes_while_it_is_read(three: list[Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = store_module.prepare_scan

    def meddle(scan: Scan, grid: Any) -> Any:
        prepared = make(scan, grid)
        scan.images["flair"].write_bytes(scan.images["flair"].read_bytes() + b"\0")
        return prepared

    monkeypatch.setattr(store_module, "prepare_scan", meddle)
    with pytest.raises(BrokenScansError, match=r"flair.nii.gz changed while it was read; run the command again"):
        open_store(three[:1], tmp_path / "store")
    assert not (tmp_path / "store/volumes").exists() or not volumes(tmp_path / "store")


def test_planted_pickle_does_not_run(three: list[Scan], tmp_path: Path) -> None:
    prepared = open_store(three, tmp_path / "store")
    path = tmp_path / "store/volumes" / prepared.scans[0].images[0] / "image.npy"

    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'harm'}",)

    with path.open("wb") as file:
        np.save(file, np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(ScanError, match=r"image.npy does not hold what was written; delete "):
        prepared.image(0)
    import pickle

    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ScanError, match=r"image.npy does not hold what was written"):
        prepared.image(0)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", "half", "shape"])
def test_damaged_volume_is_named_and_rebuilt_when_deleted(three: list[Scan], tmp_path: Path, content: Any) -> None:
    prepared = open_store(three, tmp_path / "store")
    image, path = prepared.image(0).copy(), tmp_path / "store/volumes" / prepared.scans[0].images[0] / "image.npy"
    whole = path.read_bytes()
    path.unlink()
    if content == "shape":
        np.save(path, image[0, :, :-1])
    else:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(
        ScanError, match=rf"image.npy does not hold what was written; delete {path.parent}, the same command makes"
    ):
        prepared.image(0)
    path.unlink()
    with pytest.raises(ScanError, match=r"image.npy is gone; run the command again to prepare it"):
        prepared.image(0)
    again, made = prepared_count(three, tmp_path / "store")
    assert made == 1
    np.testing.assert_array_equal(again.image(0), image)


def test_scan_without_labels_is_named_by_its_line(three: list[Scan], tmp_path: Path) -> None:
    prepared = open_store([three[0], replace(three[1], labels=None)], tmp_path / "store")
    prepared.labels(0)
    with pytest.raises(
        ScanError, match=r"needs a label map \(dseg\) for every scan; line 3 of the study's cohort.tsv has none"
    ):
        prepared.labels(1)


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}', "\ud800"])
def test_damaged_record_of_sources_is_rebuilt(three: list[Scan], tmp_path: Path, content: str) -> None:
    first = open_store(three, tmp_path / "store")
    record = tmp_path / "store/sources.json"
    good = json.loads(record.read_text())
    record.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert prepared_count(three, tmp_path / "store") == (first, 0)
    assert json.loads(record.read_text()) == good


def test_full_disk_leaves_nothing_half_written(three: list[Scan], tmp_path: Path) -> None:
    open_store(three[:1], tmp_path / "store")
    before = volumes(tmp_path / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot be written: .*image.npy") as caught:
            open_store(three, tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value.filename).endswith("image.npy")
    assert volumes(tmp_path / "store") == before
    assert not list((tmp_path / "store").rglob("*.partial"))
    assert prepared_count(three, tmp_path / "store")[1] == 2


def test_store_that_cannot_be_written(three: list[Scan], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(OSError, match=r"file") as caught:
        open_store(three, tmp_path / "file" / "store")
    assert caught.value.filename is not None
