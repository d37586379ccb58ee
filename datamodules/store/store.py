"""Prepared volumes on disk: made once, found by content, shared by all inputs, folds and processes.

::

    <store>/volumes/<key>/image.npy      (2, I, J, K) float16, memory-mapped
    <store>/volumes/<key>/labels.npy     (I, J, K) uint8, only where the scan has a label map
    <store>/volumes/<key>/scan.json      brain volume, overlap with the template's brain
    <store>/volumes/<key>/checksums.json see ``datamodules.store.checksums``
    <store>/sources.json                 see ``datamodules.store.sources``
    <store>/grids.json                   see ``datamodules.store.headers``

A key is the SHA-256 of the source files' bytes, the grid and the version of the code, so a changed byte gives another key. A
volume's folder appears by one rename when it is complete; a lock per key keeps processes from making the same one twice, and
falls with its process. A process compares each file with its checksum before it uses it. No file holds pickled objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.records import Exclusion, Scan
from datamodules.files.atomic import content_sha256, locked, new_folder
from datamodules.store.boxes import crop_to_box
from datamodules.store.checksums import complete, damage, verify
from datamodules.store.headers import KnownGrids
from datamodules.store.prepare import CODE_VERSION, ScanError, prepare_scan, study_grid
from datamodules.store.sources import Source, hash_sources, refuse_changed, sources_of, unusable_sources
from datamodules.store.writing import write_volume
from regions.grid import Box, Grid

FLUSHING = 2
"""Volumes that wait for the disk while others are prepared and written."""


class BrokenScansError(ScanError):
    """Scans whose files cannot be used; ``broken`` lists them all."""

    def __init__(self, broken: Sequence[Exclusion]) -> None:
        self.broken = tuple(broken)
        listed = "\n".join(f"  {exclusion.name}: {exclusion.detail}" for exclusion in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        what = f"{len(broken)} scan{'s' if len(broken) > 1 else ''} cannot be used"
        super().__init__(f"{what}; fix them, or exclude them with --broken exclude (they are counted):\n{listed}{more}")


@dataclass(frozen=True)
class PreparedCohort:
    """Prepared volumes of a cohort's scans, in the cohort's order."""

    folder: Path
    grid: Grid
    keys: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the keys, in order."""
        return hashlib.sha256("\n".join(self.keys).encode()).hexdigest()

    def remarks(self, scans: Sequence[Scan]) -> list[str]:
        """What a user should know of the volumes of these scans, the cohort's."""
        facts = [(self.volume(row) / "scan.json").read_text(encoding="utf-8", errors="replace") for row in range(len(scans))]
        names = [scan.name for scan, text in zip(scans, facts, strict=True) if '"labels_rounded"' in text]
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        noise = "label maps with values beside whole numbers, as rounding in a file leaves them, taken as the nearest"
        return [f"{noise}: {len(names)} ({listed})"] if names else []

    def volume(self, row: int) -> Path:
        """The folder of one scan's files."""
        return self.folder / "volumes" / self.keys[row]

    def facts(self, row: int) -> dict[str, float]:
        """``brain_ml`` and ``template_dice`` of one scan.

        Raises:
            FileNotFoundError: if the scan is not in the store.
        """
        path = self.volume(row) / "scan.json"
        verify(path)
        facts: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return facts

    def image(self, row: int) -> npt.NDArray[np.float16]:
        """The volume (2, I, J, K) float16 of one scan, memory-mapped and read-only."""
        return self._map(row, "image")

    def labels(self, row: int) -> npt.NDArray[np.uint8]:
        """The label map (I, J, K) uint8 of one scan, memory-mapped and read-only.

        Raises:
            ScanError: if the scan has none.
        """
        return self._map(row, "labels")

    def _map(self, row: int, name: str) -> Any:
        path = self.volume(row) / f"{name}.npy"
        try:
            verify(path)
        except FileNotFoundError:
            if name == "labels" and path.parent.is_dir():
                problem = f"line {row + 2} of the study's cohort.tsv has none"
                raise ScanError(f"mask mode 'subject' needs a label map (dseg) for every scan; {problem}") from None
            raise ScanError(f"{path} is gone; run the command again to prepare it") from None
        array = np.lib.format.open_memmap(path, mode="r")
        if array.shape[-3:] != self.grid.shape:
            raise damage(path)
        return array

    def crop(self, row: int, box: Box, name: str = "image") -> npt.NDArray[Any]:
        """Copy a box out of a volume, zero where the box reaches outside the grid.

        Returns:
            (2, *box.shape) float16 for ``image``, box.shape uint8 for ``labels``.
        """
        return crop_to_box(self._map(row, name), box)


def open_store(
    scans: Sequence[Scan],
    folder: Path,
    workers: int = 1,
    on_scan: Callable[[int, int], None] | None = None,
    grid: Grid | None = None,
) -> PreparedCohort:
    """Find the prepared volume of every scan, and make those that are missing.

    Args:
        scans: The cohort's usable scans.
        folder: The store; one folder can serve many cohorts.
        workers: Scans that are prepared at once, while `FLUSHING` more wait for the disk.
        on_scan: Called with (done, to do) after each scan that was prepared.
        grid: The voxels on which the volumes lie; None takes those that most of the scans have. An external cohort is given the
            grid of the study whose models it meets.

    Raises:
        BrokenScansError: naming all scans whose files cannot be used; the others are kept.
        OSError: if the folder cannot be written.
    """
    sources, unreadable = hash_sources(scans, folder / "sources.json", workers)
    if grid is None:
        known = KnownGrids(folder / "grids.json", sources)
        grid = study_grid([scan.reference for scan in scans], grid_of=known)
        known.save()
    broken = unusable_sources(scans, sources, unreadable)
    gone = {exclusion.name for exclusion in broken}
    keys = {scan.name: _key(scan, grid, sources) for scan in scans if scan.name not in gone}
    wanted = {keys[scan.name]: scan for scan in scans if scan.name in keys}
    missing = {key: scan for key, scan in wanted.items() if not _complete(folder / "volumes" / key, scan)}

    working = BoundedSemaphore(max(workers, 1))

    def make(item: tuple[str, Scan]) -> Exclusion | None:
        key, scan = item
        try:
            _make(scan, grid, folder, key, sources, working)
        except ScanError as error:
            return Exclusion(scan.patient, scan.session, "image cannot be used", str(error))
        return None

    with ThreadPoolExecutor(max(workers, 1) + FLUSHING) as pool:
        for done, result in enumerate(pool.map(make, missing.items()), start=1):
            broken += [result] if result else []
            if on_scan:
                on_scan(done, len(missing))
    if broken:
        raise BrokenScansError(broken)
    return PreparedCohort(folder, grid, tuple(keys[scan.name] for scan in scans))


def _key(scan: Scan, grid: Grid, sources: Mapping[str, Source]) -> str:
    files = sources_of(scan)
    content = {
        "version": CODE_VERSION,
        "shape": grid.shape,
        "affine": grid.affine,
        "dialect": "table" if "dialect" in files else scan.dialect,
        "sources": {name: sources[str(path)].sha256 for name, path in files.items()},
    }
    return content_sha256(content)[:40]


def _complete(volume: Path, scan: Scan) -> bool:
    return complete(volume, ["image.npy", "scan.json", *(["labels.npy"] if scan.labels else [])])


def _make(
    scan: Scan, grid: Grid, folder: Path, key: str, sources: Mapping[str, Source], working: AbstractContextManager[Any]
) -> None:
    target = folder / "volumes" / key
    with locked(folder / "locks" / key):
        if _complete(target, scan):
            return
        with new_folder(target) as new, working:
            prepared = prepare_scan(scan, grid)
            refuse_changed(scan, sources)
            facts = {"brain_ml": round(prepared.brain_ml, 3), "template_dice": round(prepared.template_dice, 4)}
            facts |= {"labels_rounded": prepared.labels_rounded} if prepared.labels_rounded else {}
            write_volume(new, key, {"image": prepared.image, "labels": prepared.labels}, facts)
