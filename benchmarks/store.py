"""Building the store against nibabel reading the same files in as many processes: how near it comes to decompression alone."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.scans import SCANS, SCRATCH, cohort_folder, ensure_cohort
from benchmarks.table import publish, spread
from datamodules.cohort import Scan


def main(arguments: Sequence[str]) -> int:
    """Command line of ``store``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks store", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="one repetition; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repetitions = 1
    scans = ensure_cohort(cohort_folder(options.spacing), SCANS, options.spacing)
    read, built = [], []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        reading(pool, scans[: options.workers])  # starts the processes and puts the imports behind
        reading(pool, scans)  # files into the page cache
        for repetition in range(options.repetitions):
            for kind in ("read", "build") if repetition % 2 == 0 else ("build", "read"):
                if kind == "read":
                    read.append(reading(pool, scans))
                else:
                    built.append(building(scans, options.workers))
    ratio = spread([a / b for a, b in zip(read, built, strict=True)])
    rows = [
        {"what": "nibabel reads T1w, FLAIR, brain mask and label map", "ms_a_scan": 1000 * spread(read)[0] / len(scans)},
        {"what": "regionwise builds the store", "ms_a_scan": 1000 * spread(built)[0] / len(scans)},
    ]
    title = f"Building the store, {len(scans)} scans at {options.spacing:g} mm, {options.workers} workers"
    notes = (
        f"{options.repetitions} repetitions in turn; the store is also hashed, checked, normalised and written",
        f"speed against nibabel: {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})",
    )
    facts = {"speed_share": ratio, "options": vars(options)}
    publish("store", title, rows, notes, save=not options.quick and options.spacing == 1, **facts)
    return 0


def reading(pool: ProcessPoolExecutor, scans: Sequence[Scan]) -> float:
    """Seconds in which the pool reads all files of the scans with nibabel."""
    began = time.perf_counter()
    list(pool.map(read_scan, scans))
    return time.perf_counter() - began


def read_scan(scan: Scan) -> int:
    """Read a scan's files as arrays and return the number of bytes."""
    import nibabel as nib
    import numpy as np

    files = [path for path in (scan.t1w, scan.flair, scan.mask, scan.labels) if path is not None]
    return sum(np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj).nbytes for path in files)


def building(scans: Sequence[Scan], workers: int) -> float:
    """Seconds to build the store in an empty folder, in this process as ``make fold`` does."""
    from datamodules.store import open_store

    folder = SCRATCH / "building"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    open_store(scans, folder, workers)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds
