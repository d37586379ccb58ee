"""What Lightning, metrics, logging, checkpoints and callbacks cost over a bare loop, on the input with the shortest step.

Both train the same network on the same ready tensors, a few batches taken again and again, as often as an epoch of 382 scans
has batches. The bare loop does forward, backward and optimiser step, and a forward pass over the tuning part; the other is a
run as ``make fold`` makes it: all callbacks, checkpoints on disk, offline W&B. Before each epoch of the run, its start included
with its end, comes one of the bare loop, and an epoch is compared with the bare ones on both sides of it: a machine that grows
slower or faster meanwhile does so for both.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.fitting import module, quiet, train_step
from benchmarks.made import SCANS, made_data, made_people, make_store
from benchmarks.scans import SCRATCH, store_folder
from benchmarks.table import publish
from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.target import Target
from experiments.runtime.allocation import keep_freed_memory
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.study.study import Study, StudyOptions, new_record
from experiments.training.assemble import assemble

Batch = dict[str, Tensor]
UNIQUE = 4


class Repeated:
    """Ready batches, taken in turn ``length`` times."""

    def __init__(self, batches: Sequence[Batch], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        return (self.batches[number % len(self.batches)] for number in range(self.length))


def main(arguments: Sequence[str]) -> int:
    """Command line of ``overhead``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default="brainstem")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=32, help="epochs of each kind, after two that do not count")
    parser.add_argument("--quick", action="store_true", help="70 scans, two epochs; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.scans, options.epochs = min(options.scans, 70), 2
    quiet()
    rows = [measure(name, options) for name in options.inputs.split(",")]
    title = (
        f"Lightning, metrics, W&B, checkpoints and callbacks over a bare loop, {options.scans} scans at {options.spacing:g} mm"
    )
    notes = (
        "seconds of an epoch, training and tuning pass, medians; overhead: share of the bare loop's time",
        f"{options.epochs} epochs of each in turn, each with its neighbours: median, and the middle half of them",
    )
    publish("overhead", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train both ways in turn; one row of the table."""
    train, tuning = ready_batches(name, options)
    turns = run_in_turn(name, train, tuning, options.epochs + 2)
    bare, run = turns.bare[2:], turns.run[2:]
    shares = [2 * seconds / (before + after) - 1 for seconds, (before, after) in zip(run, pairwise(bare), strict=True)]
    low, _, high = quantiles(shares, n=4, method="inclusive")
    return {
        "input": name, "batches": f"{len(train)}+{len(tuning)}", "bare_s": median(bare), "run_s": median(run),
        "overhead": median(shares), "overhead_low": low, "overhead_high": high,
    }  # fmt: skip


def ready_batches(name: str, options: argparse.Namespace) -> tuple[Repeated, Repeated]:
    """Training and tuning batches as the network gets them, as many as an epoch of the cohort has."""
    few = make_store(store_folder(), UNIQUE * options.batch * 7 // 5 + 7, spacing_mm=options.spacing)
    data = made_data(few, name, options.batch)
    batches = [data.finish(batch, 0) for batch, _ in zip(data.train_dataloader(), range(UNIQUE), strict=False)]
    patients, _, splits = made_people(options.scans)
    part = splits.partitions(0, patients)
    lengths = {role: -(-len(part[role]) // options.batch) for role in ("train", "tuning")}
    return Repeated(batches, lengths["train"]), Repeated(batches, lengths["tuning"])


class Turns(pl.Callback):
    """Train an epoch another way before each epoch of a run, and once after the last.

    ``bare`` holds the seconds of those, ``run`` the seconds of the run's own epochs, from start to start.
    """

    def __init__(self, other: Callable[[], None]) -> None:
        self.other, self.bare, self.run = other, list[float](), list[float]()
        self._began: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the run's epoch before, and let the other way have its turn."""
        self._turn()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The other way's last turn."""
        self._turn()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._began is not None:
            self.run.append(now - self._began)
        self.other()
        self._began = time.perf_counter()
        self.bare.append(self._began - now)


def bare_loop(train: Repeated, tuning: Repeated) -> Callable[[], None]:
    """A plain loop over an epoch, with a network of its own."""
    network = module()
    optimizer = network.configure_optimizers()["optimizer"]

    def epoch() -> None:
        network.train()
        for batch in train:
            train_step(network, optimizer, batch["image"], batch["label"])
        network.eval()
        with torch.no_grad():
            for batch in tuning:
                network(batch["image"])

    return epoch


def run_in_turn(name: str, train: Repeated, tuning: Repeated, epochs: int) -> Turns:
    """Train a run with everything that ``make fold`` gives it, and the bare loop in turn with it."""
    keep_freed_memory()
    folder = SCRATCH / "overhead"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["--preset", "default", "--cohort", "made", "--studies", str(folder), "--trainer.max_epochs", str(epochs)]
    settings = parse_settings([*arguments, "--trainer.precision", "32-true", "--early_stopping.patience", "1000"])
    run = Run(name, 0, 0)
    at = RunFolder(run.folder(folder / "made"))
    at.path.mkdir(parents=True)
    turns = Turns(bare_loop(train, tuning))
    parts = assemble(settings, made_study(folder / "made"), run, at, Console(quiet=True), True)
    parts.trainer.callbacks.insert(0, turns)  # type: ignore[attr-defined]
    parts.trainer.fit(parts.module, train_dataloaders=train, val_dataloaders=tuning)
    parts.close(True, "")
    return turns


def made_study(folder: Path) -> Any:
    """A study of a few made scans, so that a run can be assembled; its data is not used."""
    patients, labels, splits = made_people(14)
    scans = tuple(
        Scan(p, "", {"t1w": Path("t1w"), "flair": Path("flair")}, 3.0, 0, label)
        for p, label in zip(patients, labels, strict=True)
    )
    cohort, prepared = Cohort(Path("made"), Target(), scans), make_store(store_folder(), 14, spacing_mm=8.0)
    options = StudyOptions(cohort.source, folder, store_folder())
    return Study(folder, cohort, prepared, splits, "made", new_record(options, splits, "made"))
