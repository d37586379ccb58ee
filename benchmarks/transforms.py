"""What TorchIO transforms (``data.transforms``) cost: seconds per scan in one process, and the share of an epoch spent waiting.

They are applied to whole 1 mm volumes whatever the input, in processes ahead of the step; what the step cannot hide is waiting.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torchio as tio

from benchmarks.fitting import fit, quiet
from benchmarks.made import made_data, make_store
from benchmarks.scans import store_folder
from benchmarks.table import publish
from datamodules.batches.transform_pool import TransformPool
from datamodules.batches.transform_task import TransformTask
from datamodules.store.prepared import PreparedCohort
from experiments.runtime.allocation import keep_freed_memory
from regions.grid import Box

TRANSFORMS = (tio.RandomBiasField, tio.RandomMotion, tio.RandomAffine)
INPUTS = ("brainstem", "global")
SCANS = 28


def main(arguments: Sequence[str]) -> int:
    """Command line of ``transforms``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transforms", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    options = parser.parse_args(arguments)
    quiet()
    keep_freed_memory()
    prepared = make_store(store_folder(), SCANS, spacing_mm=options.spacing)
    rows = [measure(prepared, kind(), options) for kind in TRANSFORMS]
    title = f"TorchIO transforms of training scans: {options.spacing:g} mm, batch {options.batch}"
    notes = ("seconds_a_scan: one process; waiting: share of an epoch before a batch was there, four processes at most",)
    publish("transforms", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def measure(prepared: PreparedCohort, transform: Any, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    pool = TransformPool(TransformTask(prepared, (transform,), 0, Box((0, 0, 0), prepared.grid.shape), with_labels=False))
    pool([0], 0)
    began = time.perf_counter()
    pool([0], 1)
    row: dict[str, Any] = {"transform": type(transform).__name__, "seconds_a_scan": time.perf_counter() - began}
    for name in INPUTS:
        data = made_data(prepared, name, options.batch, transforms=[transform])
        epoch = fit(data, options.width, 1, batches=options.batches)[0]
        row[f"waiting_{name}"] = epoch.waiting / epoch.wall
    return row
