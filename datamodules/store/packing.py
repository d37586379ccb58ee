"""Small boxes side by side in one file of the store: made by the first run that needs them, mapped by all others.

::

    <store>/boxes/<key>/image.npy     (scans, 2, *box.shape) float16
    <store>/boxes/<key>/labels.npy    (scans, *box.shape) uint8, only where label maps are read

A small box touches a little of many pages of every volume; packed, it takes no more memory than it has voxels. All runs of a
machine share it, since mapped files lie in the system's page cache once. A key is the hash of the volumes' keys and the box.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.files.atomic import content_sha256, locked, write_atomically
from datamodules.store.prepare import CHANNELS, ScanError
from datamodules.store.store import PreparedCohort, write_array
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
        ScanError: if a volume cannot be read, or a scan has no label map.
        OSError: if the file cannot be written.
    """
    target = prepared.folder / "boxes" / _key(prepared, box)
    return {kind: _open(prepared, box, kind, target / f"{kind}.npy") for kind in kinds}


def _key(prepared: PreparedCohort, box: Box) -> str:
    content = {"volumes": prepared.hash, "start": box.start, "stop": box.stop}
    return content_sha256(content)[:40]


def _open(prepared: PreparedCohort, box: Box, kind: str, path: Path) -> npt.NDArray[Any]:
    lead, dtype = ((len(CHANNELS),), np.dtype(np.float16)) if kind == "image" else ((), np.dtype(np.uint8))
    shape = (len(prepared.keys), *lead, *box.shape)
    if not path.is_file():
        with locked(prepared.folder / "locks" / f"{path.parent.name}-{kind}"):
            if not path.is_file():
                boxes = (prepared.crop(row, box, kind) for row in range(len(prepared.keys)))
                try:
                    write_atomically(path, lambda file: write_array(file, dtype, shape, boxes))
                except OSError as error:
                    problem = f"{error.strerror}; fix that, or add --data.memory mapped"
                    raise OSError(error.errno, problem, str(path)) from None
    try:
        packed = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if packed.dtype != dtype or packed.shape != shape:
        raise _damaged(path, f"{packed.dtype} {packed.shape}")
    return packed


def _damaged(path: Path, how: str) -> ScanError:
    return ScanError(f"{path} is damaged ({how}); delete it and run the command again")
