"""Whatever is done to a prepared file: the process that reads it first says so, and so does reading all of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import volume_of
from rich.console import Console

from datamodules.cohort.records import Scan
from datamodules.store import checksums
from datamodules.store.checksums import CHECKSUMS, damaged_files, recorded
from datamodules.store.coarse import coarsened
from datamodules.store.packing import open_packed
from datamodules.store.prepare import ScanError
from datamodules.store.prepared import Kind, PreparedCohort
from datamodules.store.store import open_store
from experiments.runtime.staging import stage
from experiments.study.study import Study
from regions.grid import Box

BOX = Box((4, 4, 4), (12, 14, 10))
Read = Callable[[PreparedCohort], Any]


def flipped(position: float) -> Callable[[Path, Path], None]:
    def damage(path: Path, _: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return damage


def header(path: Path, _: Path) -> None:
    content, words = path.read_bytes(), {b"f2": b"i2", b"|u1": b"|i1", b"brain_ml": b"brain_mm", b".npy": b".npx"}
    for word, other in words.items():
        content = content[:64].replace(word, other) + content[64:]
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path, Path], Any]] = {
    "first byte": flipped(0),
    "middle byte": flipped(0.5),
    "last byte": flipped(1),
    "header": header,
    "truncated": lambda path, _: os.truncate(path, path.stat().st_size - 1),
    "cut in half": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path, _: os.truncate(path, 0),
    "extended": lambda path, _: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "zeros after the header": lambda path, _: path.write_bytes(path.read_bytes()[:128].ljust(path.stat().st_size, b"\0")),
    "swapped": lambda path, other: (other.rename(path.with_name("x")), path.rename(other), path.with_name("x").rename(path)),
}


def packed(prepared: PreparedCohort) -> Any:
    """Boxes of all scans, and those of the scans in another order: files of equal shape."""
    boxes = [open_packed(each, BOX, kind) for each in (prepared, prepared.of_rows((1, 0))) for kind in ("image", "labels")]
    return boxes[:2]


def coarse(prepared: PreparedCohort) -> Any:
    averaged = coarsened(prepared, 12.0)
    return averaged.image(0), averaged.labels(0), averaged.image(1)


def staged(prepared: PreparedCohort) -> Any:
    copy = stage(prepared, prepared.folder / "node", Console(quiet=True))
    assert copy.folder == prepared.folder / "node"
    return copy.image(0), copy.labels(0), copy.facts(0)


def volumes(prepared: PreparedCohort) -> Any:
    return prepared.image(0), prepared.labels(0), prepared.facts(0)


KINDS: dict[str, tuple[Read, str, str]] = {
    "image": (volumes, "volumes", "image.npy"),
    "labels": (volumes, "volumes", "labels.npy"),
    "facts": (volumes, "volumes", "scan.json"),
    "record": (volumes, "volumes", CHECKSUMS),
    "packed image": (packed, "boxes", "image.npy"),
    "packed labels": (packed, "boxes", "labels.npy"),
    "packed record": (packed, "boxes", CHECKSUMS),
    "coarse image": (coarse, "averaged-2/volumes", "image.npy"),
    "coarse labels": (coarse, "averaged-2/volumes", "labels.npy"),
    "coarse record": (coarse, "averaged-2/volumes", CHECKSUMS),
    "staged image": (staged, "node/volumes", "image.npy"),
    "staged labels": (staged, "node/volumes", "labels.npy"),
    "staged facts": (staged, "node/volumes", "scan.json"),
    "staged record": (staged, "node/volumes", CHECKSUMS),
}


@dataclass(frozen=True)
class Lab:
    """Two scans in a store of their own."""

    scans: tuple[Scan, ...]
    prepared: PreparedCohort

    def folders(self, where: str, name: str = "image.npy") -> tuple[Path, Path]:
        """The folder that a read of the first scan uses, and another of its kind."""
        kind: Kind = "labels" if name == "labels.npy" else "image"
        if where == "boxes":
            orders = (self.prepared, self.prepared.of_rows((1, 0)))
            first, second = (Path(str(open_packed(each, BOX, kind)[0].filename)).parent for each in orders)
            return first, second
        root = replace(self.prepared, folder=(self.prepared.folder / where).parent)
        return volume_of(root, 0, kind), volume_of(root, 1, kind)


@pytest.fixture
def lab(study: Study, tmp_path: Path) -> Lab:
    scans = [(scan, key) for scan, key in zip(study.cohort.scans, study.prepared.keys, strict=True) if scan.labels][:2]
    store = tmp_path / "store"
    return Lab(tuple(scan for scan, _ in scans), open_store([scan for scan, _ in scans], store, grid=study.prepared.grid))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


CASES = [(kind, damage) for kind in KINDS for damage in DAMAGES if kind.endswith(("image", "labels")) or "after" not in damage]


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_every_damage_to_every_kind_of_file_is_named_and_mended(
    lab: Lab, kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, where, name = KINDS[kind]
    read(lab.prepared)
    folder, other = lab.folders(where, name)
    before, others = contents(folder), contents(other)
    assert not damaged_files([folder, other])
    DAMAGES[damage](folder / name, other / name)
    assert contents(folder) != before
    monkeypatch.setattr(checksums, "_verified", set())  # as in a process that begins now
    with pytest.raises(ScanError) as caught:
        read(lab.prepared)
    path = Path(str(caught.value).split()[0])
    assert str(caught.value) == f"{path} does not hold what was written; delete {folder}, the same command makes it again"
    assert path.parent == folder
    damaged = damaged_files([folder, other], workers=2)
    assert {path.parent for path in damaged} == ({folder, other} if damage == "swapped" else {folder})
    if name != CHECKSUMS:
        assert path.name == name
        assert {path.name for path in damaged} == {name}
    for broken in {path.parent for path in damaged}:
        shutil.rmtree(broken)
    open_store(lab.scans, lab.prepared.folder, grid=lab.prepared.grid)
    read(lab.prepared)
    assert contents(folder) == before
    assert contents(other) == others


@pytest.mark.parametrize("where", ["volumes", "boxes", "averaged-2/volumes", "node/volumes"])
def test_folders_that_changed_names_are_named(lab: Lab, where: str) -> None:
    read = next(read for read, place, _ in KINDS.values() if place == where)
    read(lab.prepared)
    first, second = lab.folders(where)
    DAMAGES["swapped"](first, second)
    with pytest.raises(ScanError, match="does not hold what was written"):
        read(lab.prepared)
    assert {path.parent for path in damaged_files([first, second])} == {first, second}


def test_a_file_is_read_once_by_a_process_and_again_when_it_changed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    whole = checksums._checksum
    monkeypatch.setattr(checksums, "_checksum", lambda path, name: looked.append(path.name) or whole(path, name))
    for _ in range(3):
        lab.prepared.image(0)
        lab.prepared.crop(0, BOX)
    assert looked == ["image.npy"] * 2
    path = volume_of(lab.prepared, 0) / "image.npy"
    path.write_bytes(path.read_bytes())
    lab.prepared.image(0)
    assert looked == ["image.npy"] * 3


@pytest.mark.parametrize(("where", "names"), [("volumes", {"image.npy", "scan.json"}), ("boxes", {"image.npy"})])
def test_what_an_earlier_version_wrote_is_made_again_under_its_name(lab: Lab, where: str, names: set[str]) -> None:
    open_packed(lab.prepared, BOX, "image")
    folder = lab.folders(where)[0]
    before = contents(folder)
    (folder / CHECKSUMS).unlink()
    flipped(1)(folder / "image.npy", folder)
    again = open_store(lab.scans, lab.prepared.folder, grid=lab.prepared.grid)
    open_packed(lab.prepared, BOX, "image")
    assert again == lab.prepared
    assert contents(folder) == before
    assert set(recorded(folder)) == names


def test_a_volume_without_a_record_is_not_trusted(lab: Lab) -> None:
    (volume_of(lab.prepared, 0) / CHECKSUMS).unlink()
    with pytest.raises(
        ScanError, match=rf"^{volume_of(lab.prepared, 0)} has no checksums.json; make check for its study prepares"
    ):
        lab.prepared.image(0)


def test_boxes_are_not_packed_of_damaged_volumes_and_these_are_not_averaged_or_staged(lab: Lab) -> None:
    flipped(0.5)(volume_of(lab.prepared, 0) / "image.npy", lab.prepared.folder)
    for read in (packed, coarse, staged):
        with pytest.raises(ScanError, match=rf"{volume_of(lab.prepared, 0) / 'image.npy'} does not hold what was written"):
            read(lab.prepared)
    made = {path.parent for path in lab.prepared.folder.rglob("image.npy")} - {
        volume_of(lab.prepared, row, channel=channel) for row in (0, 1) for channel in (0, 1)
    }
    assert made == set()


def test_packed_boxes_take_label_maps_in_later(lab: Lab) -> None:
    image = np.array(open_packed(lab.prepared, BOX, "image")[0])
    (labels,) = open_packed(lab.prepared, BOX, "labels")
    assert np.array_equal(open_packed(lab.prepared, BOX, "image")[0], image)
    assert np.array_equal(labels[1], lab.prepared.crop(1, BOX, "labels"))
    assert set(recorded(lab.folders("boxes", "labels.npy")[0])) == {"labels.npy"}


@pytest.mark.parametrize("where", ["volumes", "boxes", "averaged-2/volumes"])
def test_a_disk_that_is_full_for_the_record_leaves_nothing(lab: Lab, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make() -> Any:
        open_store(lab.scans, lab.prepared.folder, grid=lab.prepared.grid)
        return next(read for read, place, _ in KINDS.values() if place == where)(lab.prepared)

    if where == "volumes":
        shutil.rmtree(lab.prepared.folder / "volumes")
    with monkeypatch.context() as patch:
        patch.setattr(checksums.Path, "write_text", full)
        with pytest.raises(OSError, match=r"cannot be written: No space left on device"):
            make()
    folder = lab.prepared.folder / where
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    make()
    assert not damaged_files(list(lab.folders(where)))
