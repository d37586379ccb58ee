"""Where the time of a training step goes, by input: read, augment, forward, backward, optimiser, in milliseconds per scan.

Needs no scans: the volumes are made (``benchmarks.made``). Run with ``python -m benchmarks parts --inputs brainstem,global``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from statistics import median

import torch

from benchmarks.fitting import module
from benchmarks.made import made_data, make_store
from benchmarks.scans import store_folder
from datamodules.store.prepared import PreparedCohort
from experiments.runtime.allocation import keep_freed_memory

PARTS = ("read", "augment", "forward", "backward", "step", "total")


def main(arguments: Sequence[str]) -> int:
    """Command line of ``parts``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks parts", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", default="brainstem,subcortical_gray_matter,ventricles,global")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4, help="batches that are measured, after two that are not")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=1.0, help="side of a voxel in mm")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: time on the processor, for a busy machine"
    )
    parser.add_argument("--memory", choices=("packed", "mapped"), default="packed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    prepared = make_store(store_folder(), options.batch * 2 * 7 // 5 + 7, spacing_mm=options.spacing)
    conditions = f"{options.precision}, {options.clock} time, {options.threads} threads"
    print(f"ms per scan, batch {options.batch}, width {options.width}, {conditions}")
    print(f"{'input':24s}" + "".join(f"{part:>10s}" for part in PARTS))
    for name in options.inputs.split(","):
        took = measure(prepared, name, options)
        print(f"{name:24s}" + "".join(f"{took[part]:10.2f}" for part in PARTS), flush=True)
    return 0


def measure(prepared: PreparedCohort, name: str, options: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds per scan of each part of a training step."""
    now = time.process_time if options.clock == "cpu" else time.perf_counter
    data = made_data(prepared, name, options.batch, memory=options.memory)
    network = module(options.width)
    optimizer = network.configure_optimizers()["optimizer"]
    cast = torch.autocast("cpu", torch.bfloat16) if options.precision == "bfloat16" else nullcontext()
    loader = data.train_dataloader()
    times: list[list[float]] = []
    epoch = 0
    while len(times) < options.batches + 2:
        batches = iter(loader)
        while len(times) < options.batches + 2:
            clock = [now()]
            batch = next(batches, None)
            if batch is None:
                break
            clock.append(now())
            batch = data.finish(batch, epoch)
            clock.append(now())
            with cast:
                loss = network._loss(network(batch["image"]), batch["label"])
            clock.append(now())
            loss.backward()
            clock.append(now())
            optimizer.step()
            optimizer.zero_grad()
            clock.append(now())
            scale = 1000 / len(batch["label"])
            times.append([(b - a) * scale for a, b in pairwise(clock)] + [(clock[-1] - clock[0]) * scale])
        epoch += 1
    return dict(zip(PARTS, map(median, zip(*times[2:], strict=True)), strict=True))
