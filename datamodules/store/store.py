"""Prepared volumes on disk: made once, found by content, shared by all inputs, folds and processes.

::

    <store>/volumes/<key>/image.npy      (I, J, K) float16, memory-mapped: one image of a scan
    <store>/volumes/<key>/labels.npy     (I, J, K) uint8, in its place: the label map of a scan that has one
    <store>/volumes/<key>/scan.json      brain volume, overlap with the template's brain; or of a label map, what was rounded
    <store>/volumes/<key>/checksums.json see ``datamodules.store.checksums``
    <store>/pairs/<key>/                 T1w and FLAIR were compared and are not swapped
    <store>/sources.json                 see ``datamodules.store.sources``
    <store>/grids.json                   see ``datamodules.store.headers``

A key is the SHA-256 of the source files' bytes (an image's own and those of the brain mask), the grid and the version of the
code, so a changed byte gives another key, and studies of other images share those that they have in common. A
volume's folder appears by one rename when it is complete; a lock per key keeps processes from making the same one twice, and
falls with its process. A process compares each file with its checksum before it uses it. No file holds pickled objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Literal

import numpy as np

from datamodules.cohort.images import DEFAULT_IMAGES, kind_of
from datamodules.cohort.records import Cohort, Exclusion, Scan
from datamodules.files.atomic import content_sha256, locked, new_folder
from datamodules.store.checksums import complete
from datamodules.store.headers import KnownGrids
from datamodules.store.prepare import CODE_VERSION, ScanError, has_pair, prepare_scan, study_grid
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.sources import Source, hash_sources, refuse_changed, sources_of, unusable_sources
from datamodules.store.writing import write_volume
from regions.grid import Grid

Broken = Literal["refuse", "exclude"]
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
    usable = [scan for scan in scans if scan.name not in gone]
    names = scans[0].names if scans else DEFAULT_IMAGES
    prepared = PreparedCohort(folder, grid, tuple(_stored(scan, grid, sources) for scan in usable), names)
    wanted = dict(zip(prepared.keys, enumerate(usable), strict=True))
    missing = [(row, scan) for row, scan in wanted.values() if _missing(prepared, row, scan)]

    working = BoundedSemaphore(max(workers, 1))

    def make(item: tuple[int, Scan]) -> Exclusion | None:
        row, scan = item
        try:
            _make(scan, prepared, row, sources, working)
        except ScanError as error:
            return Exclusion(scan.patient, scan.session, "image cannot be used", str(error))
        return None

    with ThreadPoolExecutor(max(workers, 1) + FLUSHING) as pool:
        for done, result in enumerate(pool.map(make, missing), start=1):
            broken += [result] if result else []
            if on_scan:
                on_scan(done, len(missing))
    if broken:
        raise BrokenScansError(broken)
    return prepared


def open_cohort_scans(
    cohort: Cohort, opener: Callable[[Sequence[Scan]], PreparedCohort], broken: Broken
) -> tuple[Cohort, PreparedCohort]:
    """The volumes of a cohort, without the scans that cannot be used where those are to be excluded.

    Args:
        cohort: The cohort.
        opener: Finds or makes the volumes of scans.
        broken: Whether scans whose files cannot be used are refused, or excluded and counted.

    Raises:
        BrokenScansError: naming them, if they are refused, or if no scan is left.
    """
    try:
        return cohort, opener(cohort.scans)
    except BrokenScansError as error:
        usable = cohort.without(error.broken)
        if broken == "refuse" or not usable.scans:
            raise
    return usable, opener(usable.scans)


def differing_voxels(scans: Sequence[Scan], grid: Grid) -> tuple[str, str] | None:
    """The voxels of scans and those of a grid in mm, as ``1 x 1 x 3``; None where they have one size."""
    own = study_grid([scan.reference for scan in scans])
    if np.allclose(own.spacing, grid.spacing, rtol=1e-3):
        return None
    theirs, ours = (" x ".join(f"{side:g}" for side in np.round(each.spacing, 3)) for each in (own, grid))
    return theirs, ours


def _stored(scan: Scan, grid: Grid, sources: Mapping[str, Source]) -> StoredScan:
    """The keys of a scan's volumes: an image depends on its file and on that which tells the brain."""
    files = {name: sources[str(path)].sha256 for name, path in sources_of(scan).items()}
    on_grid = {"version": CODE_VERSION, "shape": grid.shape, "affine": grid.affine}
    brain = {"mask": files["mask"]} if scan.mask is not None else {"not zero": files[next(iter(scan.images))]}
    keys = {name: _key(on_grid, image=files[name], kind=kind_of(name), brain=brain) for name in scan.images}
    images = tuple(keys.get(name, "") for name in scan.names)
    if scan.labels is None:
        return StoredScan(images)
    table = files.get("dialect")
    dialect = "table" if table else scan.dialect
    return StoredScan(images, _key(on_grid, labels=files["labels"], dialect=dialect, table=table))


def _key(on_grid: Mapping[str, Any], **content: Any) -> str:
    return content_sha256({**on_grid, **content})[:40]


def _pair(stored: StoredScan, names: Sequence[str]) -> str:
    """The key of a scan's T1w and FLAIR."""
    keys = dict(zip(names, stored.images, strict=True))
    return content_sha256([keys["t1w"], keys["flair"]])[:40]


def _missing(prepared: PreparedCohort, row: int, scan: Scan) -> list[Path]:
    """The files of a scan that are to be made; last what says that its T1w and FLAIR were compared."""
    pair = [prepared.folder / "pairs" / _pair(prepared.scans[row], prepared.names) / "scan.json"] if has_pair(scan) else []
    return prepared.missing(row) + [path for path in pair if not complete(path.parent, [path.name])]


def _make(
    scan: Scan, prepared: PreparedCohort, row: int, sources: Mapping[str, Source], working: AbstractContextManager[Any]
) -> None:
    stored, locks = prepared.scans[row], prepared.folder / "locks"
    with ExitStack() as held, ExitStack() as folders:
        for name in sorted({path.parent.name for path in _missing(prepared, row, scan)}):
            held.enter_context(locked(locks / name))
        missing = {path: folders.enter_context(new_folder(path.parent)) for path in _missing(prepared, row, scan)}
        if not missing:
            return
        with working:
            made = prepare_scan(scan, prepared.grid)
            refuse_changed(scan, sources)
            facts = {"brain_ml": round(made.brain_ml, 3), "template_dice": round(made.template_dice, 4)}
            arrays = dict(zip(filter(None, stored.images), made.image, strict=True))
            for path, new in missing.items():
                key = path.parent.name
                if key in arrays:
                    write_volume(new, key, {"image": arrays[key]}, facts)
                elif key == stored.labels:
                    rounded = {"labels_rounded": made.labels_rounded} if made.labels_rounded else {}
                    write_volume(new, key, {"labels": made.labels}, rounded)
                else:
                    write_volume(new, key, {}, {})
