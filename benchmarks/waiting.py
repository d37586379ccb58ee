"""How much of a training epoch passes before the step can begin, input by input, on a cohort of 382 scans at 1 mm.

``waiting`` is the time until the loader handed out a batch, ``preparing`` what augmentation and region then take on the same
cores. The volumes are made and lie in the page cache, as they do from a run's second epoch on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.epochs import INPUTS
from benchmarks.fitting import fit, quiet
from benchmarks.made import SCANS, made_data, make_store
from benchmarks.scans import store_folder
from benchmarks.table import publish
from experiments.runtime.allocation import keep_freed_memory

LEAST_BATCHES = 3


def main(arguments: Sequence[str]) -> int:
    """Command line of ``waiting``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks waiting", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(INPUTS))
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=8.0, help="an input's epoch is cut off after about this")
    parser.add_argument("--quick", action="store_true", help="three batches of each input; nothing is kept")
    options = parser.parse_args(arguments)
    quiet()
    keep_freed_memory()
    rows = [measure(name, options) for name in options.inputs.split(",")]
    title = f"Waiting for data: shares of an epoch, {options.scans} scans at {options.spacing:g} mm, batch {options.batch}"
    notes = (
        "waiting: until a batch was there; preparing: augmentation and region, on the same cores",
        "step: forward, backward, optimiser; the rest is Lightning",
    )
    publish("waiting", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    prepared = make_store(store_folder(), options.scans, spacing_mm=options.spacing)
    data = made_data(prepared, name, options.batch)
    warm = fit(data, options.width, 1, batches=LEAST_BATCHES)[0]
    whole = len(data.train_dataloader())
    fitting = math.ceil(options.seconds / (warm.wall / LEAST_BATCHES))
    batches = min(whole, LEAST_BATCHES if options.quick else max(LEAST_BATCHES, fitting))
    epoch = fit(data, options.width, 1, batches=batches)[0]
    return {
        "input": name,
        "batches": f"{batches} of {whole}",
        "ms_a_scan": 1000 * epoch.wall / batches / options.batch,
        "waiting": epoch.waiting / epoch.wall,
        "preparing": epoch.preparing / epoch.wall,
        "step": epoch.step / epoch.wall,
    }
