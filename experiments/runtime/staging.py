"""Prepared volumes on the node's own disk: copied once a node, shared by all its runs, left there for the next.

::

    <folder>/volumes/<key>/  as in the store; a volume's folder appears by one rename when it is complete

A volume is found by its content, so several studies and stores can share one folder. The store's files are compared with their
checksums before they are copied, the copies when they are read.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from datamodules.files.atomic import locked, naming
from datamodules.files.listing import list_folder
from datamodules.store.checksums import CHECKSUMS, complete, damage, damaged_files, recorded
from datamodules.store.prepared import PreparedCohort
from experiments.runtime.interruption import stop_if_interrupted

POLL_SECONDS = 0.2
SPARE = 0.05
"""Share of the copied bytes that stays free beside them."""


def stage(prepared: PreparedCohort, folder: Path, console: Console) -> PreparedCohort:
    """Copy a cohort's prepared volumes to a folder, unless they are there; say so and keep the store when that cannot be done.

    Args:
        prepared: The cohort in the shared store.
        folder: Folder on the node's own disk.
        console: Where it is told.

    Returns:
        The same cohort, read from the folder, or from the store as before.

    Raises:
        Interrupted: if a signal comes while it copies or waits for another process that does.
        ScanError: if a file of the store is not what was written.
    """
    stop_if_interrupted()
    try:
        with locked(folder / ".lock", _wait_for_lock):
            copied = _copy_missing(prepared, folder)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        console.print(f"volumes are read from {prepared.folder}, not from {folder}: {reason}")
        return prepared
    console.print(f"volumes are read from {folder}, {copied} of {len(prepared.volumes)} were copied now")
    return replace(prepared, folder=folder)


def _copy_missing(prepared: PreparedCohort, folder: Path) -> int:
    volumes = folder / "volumes"
    volumes.mkdir(exist_ok=True)
    sources = {key: prepared.folder / "volumes" / key for key in prepared.volumes}
    missing = {key: source for key, source in sources.items() if not complete(volumes / key, recorded(source))}
    size = sum(file.stat().st_size for source in missing.values() for file in list_folder(source))
    free = shutil.disk_usage(volumes).free
    if size * (1 + SPARE) > free:
        raise OSError(f"{size / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free there")
    for key, source in missing.items():
        stop_if_interrupted()
        partial = volumes / f".{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for path in damaged_files([source]):
                raise damage(path)
            partial.mkdir()
            for name in (*recorded(source), CHECKSUMS):
                with naming(partial / name):
                    shutil.copyfile(source / name, partial / name)
            shutil.rmtree(volumes / key, ignore_errors=True)
            partial.rename(volumes / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return len(missing)


def _wait_for_lock() -> None:
    time.sleep(POLL_SECONDS)
    stop_if_interrupted()
