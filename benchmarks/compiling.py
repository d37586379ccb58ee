"""What ``model.compile`` gains on a training step, what it costs before the first one, and after how many epochs that is paid.

Both ways train the same network on resident random tensors, step by step in turn. The cost is that of everything that a run
compiles: training and tuning pass, for both sizes that the batches of a part have (they differ by one scan). The kernels that
a compiler kept from earlier runs are put aside: a machine's first run is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import module, quiet, train_step
from benchmarks.made import SCANS, made_people, template_grid
from benchmarks.roofline import timed
from benchmarks.table import publish
from datamodules.store.boxes import region_step
from experiments.runtime.allocation import keep_freed_memory
from regions.catalog import REGIONS

MULTIPLE = 8


def main(arguments: Sequence[str]) -> int:
    """Command line of ``compiling``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compiling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(REGIONS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scans", type=int, default=SCANS, help="scans of the cohort whose epochs are counted")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=9, help="steps of each way")
    parser.add_argument("--quick", action="store_true", help="brainstem, three steps; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.inputs, options.steps = "brainstem", 3
    quiet()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as kept:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept
        rows = [measure(name, options) for name in options.inputs.split(",")]
    title = f"model.compile, training step at {options.spacing:g} mm, batch {options.batch}, float32, {options.device}"
    notes = (
        f"milliseconds of a step, medians of {options.steps} of each in turn; gain: median of the turns' ratios",
        f"warm-up: seconds before everything is compiled; paid after: epochs of {options.scans} scans",
    )
    publish("compiling", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    device = torch.device(options.device)
    _, box = region_step(REGIONS[name], template_grid(options.spacing), "template", 0.0, MULTIPLE)
    image = torch.randn(options.batch, 2, *box.shape, device=device)
    torch.compiler.reset()
    plain, compiled = (Training(image, options.width, compile=compile) for compile in (False, True))
    costs = [timed(way.everything, device) for way in (plain, compiled)]
    turns = [(timed(plain.step, device), timed(compiled.step, device)) for _ in range(options.steps)]
    usual, quick = (median(each) for each in zip(*turns, strict=True))
    patients, _, splits = made_people(options.scans)
    batches = -(-len(splits.partitions(0, patients)["train"]) // options.batch)
    warm_up, saved = costs[1] - costs[0], batches * (usual - quick)
    return {
        "input": name, "eager_ms": 1000 * usual, "compiled_ms": 1000 * quick, "gain": median(a / b for a, b in turns),
        "warm_up_s": warm_up, "paid_after_epochs": warm_up / saved if saved > 0 else None,
    }  # fmt: skip


class Training:
    """A network that is trained on one batch again and again."""

    def __init__(self, image: Tensor, width: int, compile: bool) -> None:
        self.image, self.network = image, module(width, compile=compile).to(image.device)
        self.optimizer = self.network.configure_optimizers()["optimizer"]
        self.label = torch.arange(len(image), device=image.device) % 2

    def step(self, scans: int | None = None) -> None:
        """A training step, on some of the scans if more are given."""
        self.network.train()
        train_step(self.network, self.optimizer, self.image[:scans], self.label[:scans])

    @torch.no_grad()
    def look(self, scans: int | None = None) -> None:
        """A forward pass as over the tuning part."""
        self.network.eval()
        self.network(self.image[:scans])

    def everything(self) -> None:
        """Whatever a run does, once."""
        for do in (self.step, self.look):
            for scans in (None, len(self.image) - 1):
                do(scans)
