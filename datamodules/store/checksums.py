"""Checksums of the store's files: written with them, compared when a process first reads one.

``checksums.json`` in each folder holds the XXH3 (128 bits) of every file's bytes, followed by its folder's and its own name, so
that a file under another scan's name does not fit. A folder gets its name when this record is in it; one without a record, as
earlier versions wrote them, is incomplete and made again::

    {"image.npy": "<32 hexadecimal digits>", "labels.npy": "...", "scan.json": "..."}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xxhash

from datamodules.files.atomic import naming
from datamodules.files.volumes import ScanError

CHECKSUMS = "checksums.json"
_verified: set[tuple[str, int, int, int]] = set()


def write_checksums(folder: Path, name: str, contents: Mapping[str, xxhash.xxh3_128]) -> None:
    """Record the files of a new folder.

    Args:
        folder: Where its files lie now.
        name: What it will be called.
        contents: What each file was meant to hold, by its name.

    Raises:
        OSError: if the record cannot be written.
    """
    sums = {file: _sealed(content, f"{name}/{file}") for file, content in contents.items()}
    with naming(folder / CHECKSUMS):
        (folder / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")


def complete(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder has these files and the record of their checksums."""
    return all((folder / name).is_file() for name in (*names, CHECKSUMS))


def recorded(folder: Path) -> dict[str, str]:
    """The checksums of a folder's files by name; empty if the record is missing or damaged, so that none of them fits."""
    try:
        return {str(name): str(digest) for name, digest in json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def verify(path: Path) -> None:
    """Refuse a file of the store that is not what was written, when this process reads it for the first time.

    Raises:
        FileNotFoundError: if it is gone.
        ScanError: naming the file.
    """
    facts = path.stat()
    mark = (str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns)
    if mark in _verified:
        return
    if not (path.parent / CHECKSUMS).is_file():
        raise ScanError(f"{path.parent} has no {CHECKSUMS}; make check for its study prepares it again")
    if recorded(path.parent).get(path.name) != _checksum(path, path.parent.name):
        raise damage(path)
    _verified.add(mark)


def damage(path: Path) -> ScanError:
    """The error that names a file which is not what was written."""
    return ScanError(f"{path} does not hold what was written; delete {path.parent}, the same command makes it again")


def damaged_files(folders: Sequence[Path], workers: int = 1, on_folder: Callable[[int, int], None] | None = None) -> list[Path]:
    """Read all files of some folders of the store again: those that are gone or not what was written.

    Args:
        folders: Folders with a record; where it cannot be read, it stands for its files.
        workers: Threads that read.
        on_folder: Called with (done, to do) after each folder.
    """

    def look(folder: Path) -> list[Path]:
        files = {folder / name: digest for name, digest in recorded(folder).items()} or {folder / CHECKSUMS: ""}
        return [path for path, digest in files.items() if not path.is_file() or _checksum(path, folder.name) != digest]

    damaged = []
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, paths in enumerate(pool.map(look, folders), start=1):
            damaged += paths
            if on_folder:
                on_folder(done, len(folders))
    return damaged


def _checksum(path: Path, folder: str) -> str:
    """The checksum of a file in a folder of that name; the file is mapped, not copied."""
    content = xxhash.xxh3_128(np.memmap(path, mode="r").data if path.stat().st_size else b"")
    return _sealed(content, f"{folder}/{path.name}")


def _sealed(content: xxhash.xxh3_128, name: str) -> str:
    content.update(name.encode())
    return content.hexdigest()
