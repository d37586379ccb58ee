"""Small boxes side by side in one file of the store: made by the first run that needs them, mapped by all others.

::

    <store>/boxes/<key>/image.npy     (scans, *box.shape) float16, one image of each scan
    <store>/boxes/<key>/labels.npy    (scans, *box.shape) uint8, only where label maps are read
    <store>/boxes/<key>/checksums.json

A small box touches a little of many pages of every volume; packed, it takes no more memory than it has voxels. All runs of a
machine share it, since mapped files lie in the system's page cache once. A key is the hash of the volumes' keys and the box;
each image, and the label maps, have their own, so studies of other images share what they have in common.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.files.atomic import content_sha256, locked, naming, new_folder
from datamodules.store.boxes import crop_to_box
from datamodules.store.checksums import complete, verify, write_checksums
from datamodules.store.prepared import Kind, PreparedCohort
from datamodules.store.writing import write_array
from regions.grid import Box


def can_pack(folder: Path) -> bool:
    """Whether boxes can be written into a store; a shared store may be read-only."""
    return os.access(folder, os.W_OK | os.X_OK)


def open_packed(prepared: PreparedCohort, box: Box, kind: Kind) -> list[npt.NDArray[Any]]:
    """The boxes of all scans of a cohort, memory-mapped and read-only; packed where they are not yet.

    Args:
        prepared: The store's volumes, in cohort order.
        box: What is read of each; zero where it reaches outside the grid.
        kind: ``image`` or ``labels``.

    Returns:
        An array for each image, or one of the label maps; its first axis is the cohort's.

    Raises:
        ScanError: if a volume or a packed file is not what was written, or a scan has no label map.
        OSError: if the file cannot be written.
    """
    return [_packed(prepared, box, kind, channel) for channel in range(len(prepared.names) if kind == "image" else 1)]


def _packed(prepared: PreparedCohort, box: Box, kind: Kind, channel: int) -> npt.NDArray[Any]:
    keys = [scan.images[channel] if kind == "image" else scan.labels for scan in prepared.scans]
    content = {"volumes": content_sha256(keys), "start": box.start, "stop": box.stop}
    target = prepared.folder / "boxes" / content_sha256(content)[:40]
    path = target / f"{kind}.npy"
    if not complete(target, [path.name]):
        with locked(prepared.folder / "locks" / target.name):
            if not complete(target, [path.name]):
                boxes = (crop_to_box(prepared.maps(row, kind)[channel], box) for row in range(len(keys)))
                _pack(boxes, (len(keys), *box.shape), path)
    verify(path)
    return np.lib.format.open_memmap(path, mode="r")


def _pack(boxes: Iterable[npt.NDArray[Any]], shape: Sequence[int], path: Path) -> None:
    try:
        with new_folder(path.parent) as new:
            with (new / path.name).open("xb") as file, naming(path):
                dtype = np.float16 if path.stem == "image" else np.uint8
                content = write_array(file, dtype, shape, boxes)
            write_checksums(new, path.parent.name, {path.name: content})
    except OSError as error:
        problem = f"{error.strerror}; fix that, or add --data.memory mapped"
        raise OSError(error.errno, problem, str(error.filename)) from None
