"""What the checksums of prepared files cost: when the store is built, and in a process's first epoch, which compares them.

Turns with and without checksums alternate. All times are those of the processor, in all threads, so that a busy machine can
measure them; ``share`` is what checksums take of a turn.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import xxhash

from benchmarks.epochs import INPUTS
from benchmarks.fitting import fit, quiet
from benchmarks.scans import SCRATCH, Bench, open_bench
from benchmarks.table import publish
from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from datamodules.store import checksums, writing
from datamodules.store.store import open_store
from experiments.runtime.allocation import keep_freed_memory
from regions.catalog import REGIONS

TRAINING = 10
"""Scans of an epoch, each a file of its own."""
BUILT = SCRATCH / "checked"


def main(arguments: Sequence[str]) -> int:
    """Command line of ``checksums``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks checksums", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(INPUTS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="one repetition; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repetitions = 1
    quiet()
    keep_freed_memory()
    bench = open_bench(TRAINING, options.spacing)
    rows = [row("building the store", options.repetitions, partial(build, bench, options.workers))]
    for name in options.inputs.split(","):
        data = data_of(bench, name, options.batch)
        rows.append(row(f"first epoch, {name}", options.repetitions, partial(fit, data, options.width, 1)))
    title = f"Checksums: {TRAINING} training scans at {options.spacing:g} mm, batch {options.batch}, {options.workers} workers"
    notes = (
        f"medians of {options.repetitions} turns of each kind; processor time; share: of the turn with checksums",
        "ratio: a turn with checksums over the one without after it; files in the page cache, brainstem packed, others mapped",
    )
    publish("checksums", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def row(what: str, repetitions: int, turn: Callable[[], object]) -> dict[str, Any]:
    """Measure turns with and without checksums.

    Args:
        what: What a turn does.
        repetitions: Turns of each kind.
        turn: Does it, with files that were not opened before.
    """
    turn()
    shares, ratios, inside = [], [], []
    for _ in range(repetitions):
        with checking(True) as seconds:
            checked = cpu_seconds(turn)
        with checking(False):
            unchecked = cpu_seconds(turn)
        inside.append(1000 * sum(seconds) / TRAINING)
        shares.append(sum(seconds) / checked)
        ratios.append(checked / unchecked)
    return {
        "what": what, "checksum_ms_a_scan": median(inside), "share": median(shares),
        "ratio": median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
    }  # fmt: skip


@contextmanager
def checking(on: bool) -> Iterator[list[float]]:
    """Compute all checksums anew, or none; yields the seconds that each part took."""
    known, seconds = checksums._verified.copy(), list[float]()

    def timed(compute: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*arguments: Any) -> Any:
            began = time.thread_time()
            result = compute(*arguments) if on else None
            seconds.append(time.thread_time() - began)
            return result

        return computed

    def digest(content: bytes = b"") -> Any:
        whole = xxhash.xxh3_128(content)
        return SimpleNamespace(update=timed(whole.update), hexdigest=whole.hexdigest)

    if on:
        checksums._verified.clear()
    with (
        patch.object(checksums, "_checksum", timed(checksums._checksum)),
        patch.object(writing, "xxhash", SimpleNamespace(xxh3_128=digest)),
    ):
        yield seconds
    checksums._verified.update(known)


def cpu_seconds(turn: Callable[[], object]) -> float:
    """Processor seconds of a turn, in all threads."""
    began = time.process_time()
    turn()
    return time.process_time() - began


def build(bench: Bench, workers: int) -> None:
    """Build the store of the training scans in an empty folder."""
    shutil.rmtree(BUILT, ignore_errors=True)
    open_store(bench.scans[:TRAINING], BUILT, workers)


def data_of(bench: Bench, name: str, batch: int) -> BrainMRIDataModule:
    """The data of an input, from the places that a cohort of 382 scans has."""
    memory: Any = "packed" if name == "brainstem" else "mapped"
    return BrainMRIDataModule(
        bench.prepared, bench.patients, bench.labels, bench.splits, 0, REGIONS[name], batch_size=batch,
        augmentation=Augmentation(), memory=memory,
    )  # fmt: skip
