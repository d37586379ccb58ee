"""One contender in a process of its own: it takes orders from standard input and answers on standard output, a JSON line each.

An order is ``{"input", "workers", "batch", "width", "seconds"}``; the answer holds the seconds of each epoch. Datasets are kept
between orders, as a training keeps them between epochs. Started by ``benchmarks.epochs``.
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
from benchmarks.contenders import CONTENDERS
from benchmarks.epochs import INPUTS, REGION_BLIND
from benchmarks.fitting import fit, quiet
from benchmarks.scans import open_bench

MOST_EPOCHS = 20


def main(arguments: Sequence[str]) -> int:
    """Answer orders until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks child")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--spacing", type=float, required=True)
    parser.add_argument("--scans", type=int, required=True)
    options = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not reach the answers
    quiet()
    bench = open_bench(options.scans, options.spacing)
    known: dict[tuple[str, int], Any] = {}
    warm: set[str] = set()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        which = order["input"], order["workers"]
        if which not in known:
            known[which] = CONTENDERS[options.contender](bench, order["input"], order["batch"], order["workers"])
        if order["input"] not in warm:
            fit(known[which], order["width"], 1, batches=1)  # so that kernels are chosen and memory is at hand
            warm |= {*INPUTS} if options.contender == REGION_BLIND else {order["input"]}
        epochs = measure(known[which], order)
        print(json.dumps({"epochs": [asdict(epoch) for epoch in epochs]}), file=answers, flush=True)
    return 0


def measure(data: pl.LightningDataModule, order: dict[str, Any]) -> list[Epoch]:
    """Epochs that take ``seconds`` together, one at least; where there are more, the first is not counted."""
    first = fit(data, order["width"], 1)
    again = min(math.ceil(order["seconds"] / first[0].wall), MOST_EPOCHS)
    return first if again < 2 else fit(data, order["width"], again + 1)[1:]
