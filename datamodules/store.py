"""Prepared volumes on disk: made once, found by content, shared by all inputs, folds and processes.

::

    <store>/volumes/<key>/image.npy      (2, I, J, K) float16, memory-mapped
    <store>/volumes/<key>/labels.npy     (I, J, K) uint8, only where the scan has a label map
    <store>/volumes/<key>/scan.json      brain volume, overlap with the template's brain
    <store>/sources/<cohort>.json        size, times and SHA-256 of each source file, to see changes without reading

A key is the SHA-256 of the source files' bytes, the grid and the version of the code, so a changed byte gives another key. A
volume's folder appears by one rename when it is complete; a lock per key keeps processes from making the same one twice, and
falls with its process. No file holds pickled objects.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.atomic import write_text
from datamodules.cohort import Exclusion, Scan
from datamodules.transforms import CODE_VERSION, ScanError, prepare_scan, study_grid
from regions.grid import Box, Grid

Stamp = tuple[int, int, int]


class BrokenScansError(ScanError):
    """Scans whose files cannot be used; ``broken`` lists them all."""

    def __init__(self, broken: Sequence[Exclusion]) -> None:
        self.broken = tuple(broken)
        told = "\n".join(f"  {one.patient}/{one.session}: {one.detail}" for one in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        super().__init__(
            f"{len(broken)} scan(s) cannot be used; mend them, or exclude them with --broken exclude (they are counted):\n{told}{more}"
        )


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
        path = self.folder / "volumes" / self.keys[row] / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            if name == "labels":
                raise ScanError("mask mode 'subject' needs a label map (dseg) for every scan; one has none") from None
            raise ScanError(f"{path} is gone; run the command again to prepare it anew") from None
        except ValueError as error:
            raise ScanError(f"{path} is damaged ({error}); delete {path.parent} and run the command again") from None

    def crop(self, row: int, box: Box, name: str = "image") -> npt.NDArray[Any]:
        """Copy a box out of a volume, zero where the box reaches outside the grid.

        Returns:
            (2, *box.shape) float16 for ``image``, box.shape uint8 for ``labels``.
        """
        whole = self._map(row, name)
        inside = [(max(a, 0), min(b, n)) for a, b, n in zip(box.start, box.stop, self.grid.shape, strict=True)]
        source = tuple(slice(a, b) for a, b in inside)
        target = tuple(slice(a - s, b - s) for (a, b), s in zip(inside, box.start, strict=True))
        out = np.zeros((*whole.shape[:-3], *box.shape), dtype=whole.dtype)
        out[..., target[0], target[1], target[2]] = whole[..., source[0], source[1], source[2]]
        return out


def open_store(
    scans: Sequence[Scan], folder: Path, workers: int = 1, on_scan: Callable[[int, int], None] | None = None
) -> PreparedCohort:
    """Find the prepared volume of every scan, and make those that are missing.

    Args:
        scans: The cohort's usable scans.
        folder: The store; one folder can serve many cohorts.
        workers: Threads that prepare scans.
        on_scan: Called with (done, to do) after each scan that was prepared.

    Raises:
        BrokenScansError: naming all scans whose files cannot be used; the others are kept.
        OSError: if the folder cannot be written.
    """
    grid = study_grid(scans[0].t1w)
    hashes = _source_hashes(scans, folder)
    keys = tuple(_key(scan, grid, hashes) for scan in scans)
    missing = {key: scan for key, scan in zip(keys, scans, strict=True) if not (folder / "volumes" / key).is_dir()}
    broken: list[Exclusion] = []

    def make(item: tuple[str, Scan]) -> Exclusion | None:
        key, scan = item
        try:
            _make(scan, grid, folder, key)
        except ScanError as error:
            return Exclusion(scan.patient, scan.session, "image cannot be used", str(error))
        return None

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, result in enumerate(pool.map(make, missing.items()), start=1):
            broken += [result] if result else []
            if on_scan:
                on_scan(done, len(missing))
    if broken:
        raise BrokenScansError(broken)
    return PreparedCohort(folder, grid, keys)


def _sources(scan: Scan) -> dict[str, Path]:
    files = {"t1w": scan.t1w, "flair": scan.flair, "mask": scan.mask, "labels": scan.labels}
    if scan.labels is not None and scan.dialect.endswith(".tsv"):
        files["dialect"] = Path(scan.dialect)
    return {name: path for name, path in files.items() if path is not None}


def _key(scan: Scan, grid: Grid, hashes: Mapping[str, str]) -> str:
    content = {
        "version": CODE_VERSION,
        "shape": grid.shape,
        "affine": grid.affine,
        "dialect": scan.dialect if "dialect" not in _sources(scan) else "table",
        "sources": {name: hashes[str(path)] for name, path in _sources(scan).items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:40]


def _source_hashes(scans: Sequence[Scan], folder: Path) -> dict[str, str]:
    """SHA-256 of every source file; a file is read again only when its size or a time stamp changed."""
    paths = sorted({str(path.resolve()) for scan in scans for path in _sources(scan).values()})
    record = folder / "sources" / f"{hashlib.sha256(chr(10).join(paths).encode()).hexdigest()[:24]}.json"
    known: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    stamps = {path: _stamp(path) for path in paths}
    changed = [path for path in paths if path not in known or tuple(known[path]["stamp"]) != stamps[path]]
    for path in changed:
        with open(path, "rb") as file:  # noqa: PTH123
            known[path] = {"stamp": stamps[path], "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if changed:
        write_text(record, json.dumps(known))
    by_resolved = {path: known[path]["sha256"] for path in paths}
    return {str(p): by_resolved[str(p.resolve())] for scan in scans for p in _sources(scan).values()}


def _stamp(path: str) -> Stamp:
    try:
        facts = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        raise ScanError(f"{path} is missing; restore the file or take the scan out") from None
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; it falls with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(scan: Scan, grid: Grid, folder: Path, key: str) -> None:
    target = folder / "volumes" / key
    with locked(folder / "locks" / key):
        if target.is_dir():
            return
        partial = target.with_name(f".{key}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        prepared = prepare_scan(scan, grid)
        partial.mkdir(parents=True)
        try:
            _save(partial / "image.npy", prepared.image)
            if prepared.labels is not None:
                _save(partial / "labels.npy", prepared.labels)
            facts = {"brain_ml": round(prepared.brain_ml, 3), "template_dice": round(prepared.template_dice, 4)}
            write_text(partial / "scan.json", json.dumps(facts) + "\n")
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
