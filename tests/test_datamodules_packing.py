"""Packed boxes hold what the volumes hold, are written once, and are never taken for complete when they are not."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.store import packing
from datamodules.store.boxes import within
from datamodules.store.packing import can_pack, open_packed
from datamodules.store.prepare import ScanError
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from regions.grid import Box, Grid

SHAPE = (6, 7, 5)
BOX = Box((-1, 2, 1), (4, 6, 6))
"""Reaches outside the grid on two sides."""


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedCohort:
    rng = np.random.default_rng(0)
    scans = tuple(StoredScan((f"{name}-t1w", f"{name}-flair"), f"{name}-labels") for name in "abc")
    for scan in scans:
        for key, kind in scan.volumes.items():
            folder = tmp_path / "volumes" / key
            folder.mkdir(parents=True)
            image, labels = rng.normal(size=SHAPE).astype(np.float16), rng.integers(0, 9, SHAPE).astype(np.uint8)
            write_volume(folder, key, {kind: image if kind == "image" else labels}, {})
    return PreparedCohort(tmp_path, Grid.of(SHAPE, np.eye(4)), scans)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "boxes").rglob("*") if path.suffix == ".npy")


def test_packed_boxes_are_those_of_the_volumes(prepared: PreparedCohort) -> None:
    images, (labels,) = open_packed(prepared, BOX, "image"), open_packed(prepared, BOX, "labels")
    for row in range(3):
        assert np.array_equal([image[row] for image in images], prepared.crop(row, BOX))
        assert np.array_equal(labels[row], prepared.crop(row, BOX, "labels"))
    for image in images:
        assert image.dtype == np.float16
        assert not image.flags.writeable
        assert not image[:, 0].any(), "the box begins beside the grid"


def test_they_are_written_once_and_for_each_box_and_cohort(prepared: PreparedCohort, monkeypatch: pytest.MonkeyPatch) -> None:
    open_packed(prepared, BOX, "image")
    first = files(prepared.folder)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_array", lambda *_: pytest.fail("packed again"))
        open_packed(prepared, BOX, "image")
    open_packed(prepared, Box((0, 0, 0), (2, 2, 2)), "image")
    open_packed(prepared.of_rows((1, 0, 2)), BOX, "image")
    assert len(files(prepared.folder)) == 2 * 3
    assert set(first) < set(files(prepared.folder))


def test_other_images_of_the_same_scans_are_not_packed_again(prepared: PreparedCohort) -> None:
    open_packed(prepared, BOX, "image")
    before = files(prepared.folder)
    (flair,) = open_packed(prepared.showing(["flair"]), BOX, "image")
    assert files(prepared.folder) == before
    assert np.array_equal(flair[1], prepared.crop(1, BOX)[1])
    assert np.array_equal(prepared.showing(["flair", "t1w"]).crop(1, BOX), prepared.crop(1, BOX)[::-1])


def test_a_box_that_is_cut_short_is_named(prepared: PreparedCohort) -> None:
    open_packed(prepared, BOX, "image")
    path = files(prepared.folder)[0]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(
        ScanError, match=rf"^{path} does not hold what was written; delete {path.parent}, the same command makes"
    ):
        open_packed(prepared, BOX, "image")


def test_what_is_half_written_leaves_nothing(prepared: PreparedCohort) -> None:
    shutil.rmtree(prepared.folder / "volumes" / "c-t1w")
    with pytest.raises(ScanError, match="is gone"):
        open_packed(prepared, BOX, "image")
    assert not files(prepared.folder)


def test_a_full_disk_is_said_with_the_way_around(prepared: PreparedCohort, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; fix that, or add --data\.memory mapped"):
        open_packed(prepared, BOX, "image")
    assert not files(prepared.folder)


def _open(prepared: PreparedCohort) -> float:
    return float(open_packed(prepared, BOX, "image")[0].astype(np.float64).sum())


def test_processes_that_start_at_once_share_one_file(prepared: PreparedCohort) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.map(_open, [prepared] * 6)
    assert set(sums) == {_open(prepared)}
    assert len(files(prepared.folder)) == 2


def test_a_store_that_is_not_there_cannot_be_packed(tmp_path: Path) -> None:
    assert can_pack(tmp_path)
    assert not can_pack(tmp_path / "nowhere")


def test_a_box_within_another_is_found_in_its_array() -> None:
    inner = Box((0, 3, 2), (2, 5, 4))
    assert within(inner, BOX) == Box((1, 1, 1), (3, 3, 3))
