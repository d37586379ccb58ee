"""Prepared volumes on the node's own disk: copied once a node, shared by all its runs, left there for the next.

::

    <folder>/volumes/<key>/  as in the store; a volume's folder appears by one rename when it is complete

A volume is found by its content, so several studies and stores can share one folder.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from datamodules.files.atomic import locked
from datamodules.files.listing import list_folder
from datamodules.store.store import PreparedCohort
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
    """
    stop_if_interrupted()
    try:
        with locked(folder / ".lock", _wait_for_lock):
            copied = _copy_missing(prepared, folder)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        console.print(f"volumes are read from {prepared.folder}, not from {folder}: {reason}", markup=False)
        return prepared
    console.print(f"volumes are read from {folder}, {copied} of {len(set(prepared.keys))} were copied now", markup=False)
    return replace(prepared, folder=folder)


def _copy_missing(prepared: PreparedCohort, folder: Path) -> int:
    volumes = folder / "volumes"
    volumes.mkdir(exist_ok=True)
    missing = [key for key in dict.fromkeys(prepared.keys) if not (volumes / key).is_dir()]
    size = sum(file.stat().st_size for key in missing for file in list_folder(prepared.folder / "volumes" / key))
    free = shutil.disk_usage(volumes).free
    if size * (1 + SPARE) > free:
        raise OSError(f"{size / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free there")
    for key in missing:
        stop_if_interrupted()
        partial = volumes / f".{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(prepared.folder / "volumes" / key, partial)
            partial.rename(volumes / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return len(missing)


def _wait_for_lock() -> None:
    time.sleep(POLL_SECONDS)
    stop_if_interrupted()
