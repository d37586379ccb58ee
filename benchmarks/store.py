"""Building the store against nibabel reading the same files in as many processes: how near it comes to decompression alone."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, mmap
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.scans import SCRATCH, cohort_folder, ensure_cohort
from benchmarks.table import publish, spread
from datamodules.cohort.records import Scan
from datamodules.files.volumes import read_stored
from datamodules.store.store import open_store
from experiments.runtime.allocation import keep_freed_memory

SCANS = 48
"""Enough that the start and the last flush, which a cohort has once, weigh little."""
BUILT = SCRATCH / "building"
FETCHED = 2 << 30
"""Bytes taken before each turn."""
WHAT = {
    "peer": "nibabel reads the files",
    "read": "regionwise reads and checks them",
    "build": "regionwise builds the store: hash, read, check, normalise, write, flush to disk",
}


@dataclass(frozen=True)
class Cost:
    """Seconds for all scans: on the clock, and of the CPU in all threads and processes."""

    wall: float
    cpu: float


def main(arguments: Sequence[str]) -> int:
    """Command line of ``store``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks store", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="one repetition; nothing is kept")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # as the commands do, before any thread has memory of its own
    if options.quick:
        options.repetitions = 1
    scans = ensure_cohort(cohort_folder(options.spacing, SCANS), SCANS, options.spacing)
    measured: dict[str, list[Cost]] = {"peer": [], "read": [], "build": []}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        ways: dict[str, Callable[[], Cost]] = {
            "peer": lambda: peer_reading(pool, scans),
            "read": lambda: own_reading(scans, options.workers),
            "build": lambda: building(scans, options.workers),
        }
        peer_reading(pool, scans[: options.workers])  # starts the processes and puts the imports behind
        shutil.rmtree(BUILT, ignore_errors=True)
        for way in ways.values():
            way()  # files into the page cache, imports, and what is kept of the template
        for repetition in range(options.repetitions):
            for kind in list(ways)[:: 1 if repetition % 2 == 0 else -1]:
                shutil.rmtree(BUILT, ignore_errors=True)
                fetch_memory()
                measured[kind].append(ways[kind]())
    rows = [row(what, measured[kind], measured["peer"], len(scans)) for kind, what in WHAT.items()]
    title = f"Building the store, {len(scans)} scans at {options.spacing:g} mm, {options.workers} workers"
    notes = (
        f"{options.repetitions} repetitions in turn; medians; a share is the peer's seconds divided by the row's, of one turn",
        "all read T1w, FLAIR, brain mask and label map; nibabel in processes, regionwise in threads of one process",
        "before each turn 2 GB of memory are taken and left again, so that none is fetched from a virtual machine's host",
    )
    publish("store", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def row(what: str, costs: Sequence[Cost], peer: Sequence[Cost], scans: int) -> dict[str, Any]:
    """A row of the table: milliseconds per scan, and the speed as a share of the peer's."""
    return {
        "what": what,
        "wall_ms_a_scan": 1000 * spread([cost.wall for cost in costs])[0] / scans,
        "cpu_ms_a_scan": 1000 * spread([cost.cpu for cost in costs])[0] / scans,
        "speed_share_wall": spread([peer_cost.wall / cost.wall for peer_cost, cost in zip(peer, costs, strict=True)])[0],
        "speed_share_cpu": spread([peer_cost.cpu / cost.cpu for peer_cost, cost in zip(peer, costs, strict=True)])[0],
    }


def fetch_memory() -> None:
    """Take memory and leave it to the system again, as much as the system's cache needs for a store and more.

    A virtual machine may give memory that lies idle back to its host; where fetching a page again took 20 us, whoever wrote
    files first paid for it, and more than all that is measured here. Where memory is not lent this changes nothing.
    """
    with mmap(-1, FETCHED, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE):
        pass


def peer_reading(pool: ProcessPoolExecutor, scans: Sequence[Scan]) -> Cost:
    """What it costs the pool to read all files of the scans with nibabel."""
    began = time.perf_counter()
    cpu = sum(pool.map(read_scan, scans))
    return Cost(time.perf_counter() - began, cpu)


def read_scan(scan: Scan) -> float:
    """Read a scan's files as arrays with nibabel and return the CPU seconds that it took."""
    began = time.process_time()
    for path in files(scan):
        np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)
    return time.process_time() - began


def files(scan: Scan) -> list[Path]:
    """The images of a scan."""
    return [path for path in (*scan.images.values(), scan.mask, scan.labels) if path is not None]


def own_reading(scans: Sequence[Scan], workers: int) -> Cost:
    """What it costs regionwise to read the same files in threads, to their checksums, and to look for values that are none."""

    def read(scan: Scan) -> None:
        for path in files(scan):
            read_stored(path)

    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(read, scans))
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def building(scans: Sequence[Scan], workers: int) -> Cost:
    """What it costs to build the store in an empty folder, in this process as ``make fold`` does."""
    wall, cpu = time.perf_counter(), time.process_time()
    open_store(scans, BUILT, workers)
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)
