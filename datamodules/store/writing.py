"""The files of a volume, written with their checksums: arrays as .npy whose zeros take no room on a disk, facts as JSON."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from datamodules.files.atomic import naming
from datamodules.store.checksums import write_checksums

PAGE = 4096
"""Bytes of a block of most file systems; a hole is as large at least."""


def write_volume(
    folder: Path, key: str, arrays: Mapping[str, npt.NDArray[Any] | None], facts: Mapping[str, float] | None = None
) -> None:
    """Fill the new folder of a volume.

    Args:
        folder: Where its files lie now.
        key: What it will be called.
        arrays: Written as .npy by these names; None is not.
        facts: Written as scan.json; None is not.

    Raises:
        OSError: if a file cannot be written.
    """
    contents = {}
    for name, array in arrays.items():
        if array is not None:
            path = folder / f"{name}.npy"
            with naming(path), path.open("xb") as file:
                contents[path.name] = write_array(file, array.dtype, array.shape, [array])
    if facts is not None:
        path, text = folder / "scan.json", json.dumps(facts) + "\n"
        with naming(path):
            path.write_text(text, encoding="utf-8")
        contents[path.name] = xxhash.xxh3_128(text.encode())
    write_checksums(folder, key, contents)


def write_array(
    file: BinaryIO, dtype: npt.DTypeLike, shape: Sequence[int], parts: Iterable[npt.NDArray[Any]]
) -> xxhash.xxh3_128:
    """Write an array in C order as .npy, part by part, zeros as holes of the file; an error keeps its reason: a full disk.

    Args:
        file: An empty file.
        dtype: Type of the voxels.
        shape: Shape of the whole.
        parts: Arrays in C order of that type, which follow each other in memory.

    Returns:
        The XXH3 of the file's bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    file.write(start.getvalue())
    digest = xxhash.xxh3_128(start.getvalue())
    for part in parts:
        content = part.reshape(-1).view(np.uint8)
        digest.update(content.data)
        write_sparsely(file, content)
    file.truncate(file.tell())
    return digest


def write_sparsely(file: BinaryIO, content: npt.NDArray[np.uint8]) -> None:
    """Write bytes (n,) and pass over whole pages of zeros, of which a volume has a quarter: they take no room on a disk.

    A file that ends with such a page needs to be truncated to its length, ``file.tell()``, after the last call.
    """
    lead = min(-file.tell() % PAGE, content.size)
    count = (content.size - lead) // PAGE
    pages, rest = content[lead : lead + count * PAGE].view(np.uint64).reshape(count, PAGE // 8), content[lead + count * PAGE :]
    file.write(content[:lead].data)
    empty = np.bitwise_or.reduce(pages, axis=1) == 0
    holes = np.flatnonzero(np.diff(empty, prepend=False, append=False)).reshape(-1, 2)
    done = 0
    for start, stop in holes.tolist():
        file.write(pages[done:start].data)
        file.seek((stop - start) * PAGE, os.SEEK_CUR)
        done = stop
    file.write(pages[done:].data)
    file.write(rest.data)
