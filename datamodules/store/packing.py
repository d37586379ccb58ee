"""Small boxes side by side in one file of the store: made by the first run that needs them, mapped by all others.

::

    <store>/boxes/<key>/image.npy     (scans, 2, *box.shape) float16
    <store>/boxes/<key>/labels.npy    (scans, *box.shape) uint8, only where label maps are read
    <store>/boxes/<key>/checksums.json

A small box touches a little of many pages of every volume; packed, it takes no more memory than it has voxels. All runs of a
machine share it, since mapped files lie in the system's page cache once. A key is the hash of the volumes' keys and the box.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.files.atomic import content_sha256, locked, naming, new_folder
from datamodules.store.checksums import complete, verify, write_checksums
from datamodules.store.prepare import CHANNELS
from datamodules.store.store import PreparedCohort
from datamodules.store.writing import write_array
from regions.grid import Box


def can_pack(folder: Path) -> bool:
    """Whether boxes can be written into a store; a shared store may be read-only."""
    return os.access(folder, os.W_OK | os.X_OK)


def open_packed(prepared: PreparedCohort, box: Box, kinds: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The boxes of all scans of a cohort, memory-mapped and read-only; packed where they are not yet.

    Args:
        prepared: The store's volumes, in cohort order.
        box: What is read of each; zero where it reaches outside the grid.
        kinds: ``image``, ``labels`` or both.

    Returns:
        For each kind an array whose first axis is the cohort's.

    Raises:
        ScanError: if a volume or a packed file is not what was written, or a scan has no label map.
        OSError: if the file cannot be written.
    """
    target = prepared.folder / "boxes" / _key(prepared, box)
    paths = {kind: target / f"{kind}.npy" for kind in kinds}
    names = [path.name for path in paths.values()]
    if not complete(target, names):
        with locked(prepared.folder / "locks" / target.name):
            if not complete(target, names):
                _pack(prepared, box, paths, target)
    for path in paths.values():
        verify(path)
    return {kind: np.lib.format.open_memmap(path, mode="r") for kind, path in paths.items()}


def _key(prepared: PreparedCohort, box: Box) -> str:
    content = {"volumes": prepared.hash, "start": box.start, "stop": box.stop}
    return content_sha256(content)[:40]


def _pack(prepared: PreparedCohort, box: Box, paths: Mapping[str, Path], target: Path) -> None:
    try:
        with new_folder(target) as new:
            contents = {}
            for kind, path in paths.items():
                lead, dtype = ((len(CHANNELS),), np.float16) if kind == "image" else ((), np.uint8)
                boxes = (prepared.crop(row, box, kind) for row in range(len(prepared.keys)))
                with (new / path.name).open("xb") as file, naming(path):
                    contents[path.name] = write_array(file, dtype, (len(prepared.keys), *lead, *box.shape), boxes)
            write_checksums(new, target.name, contents)
    except OSError as error:
        problem = f"{error.strerror}; fix that, or add --data.memory mapped"
        raise OSError(error.errno, problem, str(error.filename)) from None
