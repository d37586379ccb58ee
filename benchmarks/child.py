"""One contender in a process of its own: it takes orders from standard input and answers on standard output, a JSON line each.

An order is ``{"input", "scans", "workers", "batch", "width", "seconds"}``; the answer holds the seconds of each epoch. Datasets
are kept between orders, as a training keeps them between epochs. Started by ``benchmarks.epochs``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from benchmarks.clock import Epoch
from benchmarks.contenders import CONTENDERS, OWN_STEP
from benchmarks.fitting import fit, quiet
from benchmarks.scans import open_bench
from experiments.runtime.allocation import keep_freed_memory

MOST_EPOCHS = 20


def main(arguments: Sequence[str]) -> int:
    """Answer orders until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks child")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--spacing", type=float, required=True)
    options = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not reach the answers
    quiet()
    plain = options.contender not in OWN_STEP
    if not plain:
        keep_freed_memory()
    known: dict[tuple[str, int, int], Any] = {}
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        epochs = measure(known_data(known, options, order, plain), order, plain)
        print(json.dumps({"epochs": [asdict(epoch) for epoch in epochs]}), file=answers, flush=True)
    return 0


def known_data(
    known: dict[tuple[str, int, int], Any], options: argparse.Namespace, order: dict[str, Any], plain: bool
) -> pl.LightningDataModule:
    """The data of an order, made and trained on for one batch where it is new: kernels are chosen, memory is at hand."""
    which = order["input"], order["workers"], order["scans"]
    if which not in known:
        bench = open_bench(order["scans"], options.spacing)
        known[which] = CONTENDERS[options.contender](bench, order["input"], order["batch"], order["workers"])
        fit(known[which], order["width"], 1, batches=1, plain=plain)
    data: pl.LightningDataModule = known[which]
    return data


def measure(data: pl.LightningDataModule, order: dict[str, Any], plain: bool) -> list[Epoch]:
    """Epochs that take ``seconds`` together, one at least; where there are more, the first is not counted."""
    first = fit(data, order["width"], 1, plain=plain)
    again = min(math.ceil(order["seconds"] / first[0].wall), MOST_EPOCHS)
    return first if again < 2 else fit(data, order["width"], again + 1, plain=plain)[1:]
