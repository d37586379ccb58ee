"""The volumes of a cohort in the store, to be read: images and label maps, mapped, compared with their checksums first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datamodules.cohort.images import DEFAULT_IMAGES, kind_of
from datamodules.cohort.records import Scan
from datamodules.files.atomic import content_sha256
from datamodules.files.volumes import ScanError
from datamodules.store.boxes import crop_to_box
from datamodules.store.checksums import complete, damage, verify
from regions.grid import Box, Grid

Kind = Literal["image", "labels"]
FILES: Mapping[str, Sequence[str]] = MappingProxyType(
    {"image": ("image.npy", "scan.json"), "labels": ("labels.npy", "scan.json")}
)
"""What the folder of a volume holds, beside the checksums."""


@dataclass(frozen=True)
class StoredScan:
    """The volumes of one scan: the keys of its images in the study's order, and of its label map; empty where it has none."""

    images: tuple[str, ...]
    labels: str = ""

    @property
    def volumes(self) -> dict[str, Kind]:
        """What lies under each key."""
        kinds: dict[str, Kind] = dict.fromkeys(filter(None, self.images), "image")
        return kinds | ({self.labels: "labels"} if self.labels else {})


@dataclass(frozen=True)
class PreparedCohort:
    """Prepared volumes of a cohort's scans, in the cohort's order; ``names`` are those of the images."""

    folder: Path
    grid: Grid
    scans: tuple[StoredScan, ...]
    names: tuple[str, ...] = DEFAULT_IMAGES

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """For each scan what its volumes are, all together."""
        return tuple(
            content_sha256({**dict(zip(self.names, scan.images, strict=True)), "": scan.labels})[:40] for scan in self.scans
        )

    @property
    def hash(self) -> str:
        """SHA-256 over the keys, in order."""
        return hashlib.sha256("\n".join(self.keys).encode()).hexdigest()

    @property
    def volumes(self) -> dict[str, Kind]:
        """What lies under the keys of all volumes, each once."""
        return {key: kind for scan in self.scans for key, kind in scan.volumes.items()}

    @property
    def missing_channels(self) -> dict[int, tuple[int, ...]]:
        """Row of a scan that lacks some images -> which of ``names``."""
        absent = {
            row: tuple(column for column, key in enumerate(scan.images) if not key) for row, scan in enumerate(self.scans)
        }
        return {row: columns for row, columns in absent.items() if columns}

    @property
    def lacked(self) -> tuple[str, ...]:
        """The images that some scan lacks."""
        lacking = {column for columns in self.missing_channels.values() for column in columns}
        return tuple(name for column, name in enumerate(self.names) if column in lacking)

    def of_rows(self, rows: Iterable[int]) -> PreparedCohort:
        """Some of the scans."""
        return replace(self, scans=tuple(self.scans[row] for row in rows))

    def showing(self, names: Sequence[str]) -> PreparedCohort:
        """Some of the images of all scans, in another order if that is asked for."""
        columns = [self.names.index(name) for name in names]
        scans = tuple(replace(scan, images=tuple(scan.images[column] for column in columns)) for scan in self.scans)
        return replace(self, scans=scans, names=tuple(names))

    def missing(self, row: int) -> list[Path]:
        """The arrays of one scan that are not there, or not whole."""
        folders = {self.folder / "volumes" / key: kind for key, kind in self.scans[row].volumes.items()}
        return [folder / f"{kind}.npy" for folder, kind in folders.items() if not complete(folder, FILES[kind])]

    def remarks(self, scans: Sequence[Scan]) -> list[str]:
        """What a user should know of the volumes of these scans, the cohort's."""
        names = [scan.name for scan, stored in zip(scans, self.scans, strict=True) if stored.labels and self._rounded(stored)]
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        noise = "label maps with values beside whole numbers, as rounding in a file leaves them, taken as the nearest"
        return [f"{noise}: {len(names)} ({listed})"] if names else []

    def _rounded(self, stored: StoredScan) -> bool:
        path = self.folder / "volumes" / stored.labels / "scan.json"
        return '"labels_rounded"' in path.read_text(encoding="utf-8", errors="replace")

    def facts(self, row: int) -> dict[str, float]:
        """``brain_ml`` and ``template_dice`` of one scan.

        Raises:
            FileNotFoundError: if the scan is not in the store.
        """
        path = self.folder / "volumes" / self.scans[row].images[0] / "scan.json"
        verify(path)
        facts: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return facts

    def image(self, row: int) -> npt.NDArray[np.float16]:
        """The images (C, I, J, K) float16 of one scan; a single one is memory-mapped and read-only."""
        maps = self.maps(row)
        return maps[0][None] if len(maps) == 1 else np.stack(maps)

    def contrasts(self, row: int) -> dict[str, npt.NDArray[np.float16]]:
        """The contrasts that one scan has, by name: (I, J, K) float16 each, without masks and maps."""
        return {name: volume for name, volume in self.present(row).items() if kind_of(name) == "contrast"}

    def present(self, row: int) -> dict[str, npt.NDArray[np.float16]]:
        """The images that one scan has, by name: (I, J, K) float16 each."""
        there = zip(self.names, self.scans[row].images, self.maps(row), strict=True)
        return {name: np.asarray(volume) for name, key, volume in there if key}

    def labels(self, row: int) -> npt.NDArray[np.uint8]:
        """The label map (I, J, K) uint8 of one scan, memory-mapped and read-only.

        Raises:
            ScanError: if the scan has none.
        """
        return self.maps(row, "labels")[0]

    def has_labels(self, row: int | None = None) -> bool:
        """Whether a scan, or every scan, has a label map."""
        return all(scan.labels for scan in self.scans) if row is None else bool(self.scans[row].labels)

    def maps(self, row: int, kind: Kind = "image") -> list[npt.NDArray[Any]]:
        """The images of one scan, or its label map alone, each (I, J, K), memory-mapped and read-only.

        An image that the scan lacks is zero everywhere.

        Raises:
            ScanError: if a file is gone or not what was written, or the scan has no label map.
        """
        scan = self.scans[row]
        if kind == "labels" and not scan.labels:
            problem = f"line {row + 2} of the study's cohort.tsv has none"
            raise ScanError(f"mask mode 'subject' needs a label map (dseg) for every scan; {problem}")
        keys = scan.images if kind == "image" else (scan.labels,)
        blank = np.broadcast_to(np.float16(0), self.grid.shape)
        return [self.mapped(self.folder / "volumes" / key / f"{kind}.npy") if key else blank for key in keys]

    def mapped(self, path: Path) -> npt.NDArray[Any]:
        """A file of the store, (I, J, K), memory-mapped and read-only.

        Raises:
            ScanError: if it is gone or not what was written.
        """
        try:
            verify(path)
        except FileNotFoundError:
            raise ScanError(f"{path} is gone; run the command again to prepare it") from None
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        if array.shape != self.grid.shape:
            raise damage(path)
        return array

    def crop(self, row: int, box: Box, kind: Kind = "image") -> npt.NDArray[Any]:
        """Copy a box out of the volumes of a scan, zero where the box reaches outside the grid.

        Returns:
            (C, *box.shape) float16 for ``image``, box.shape uint8 for ``labels``.
        """
        boxes = [crop_to_box(volume, box) for volume in self.maps(row, kind)]
        return np.stack(boxes) if kind == "image" else boxes[0]
