"""What Lightning, metrics, logging, checkpoints and callbacks cost over a bare loop, on the input with the shortest step.

Both train the same network on the same ready tensors, a few batches taken again and again, as often as an epoch of 382 scans
has batches. The bare loop does forward, backward and optimiser step, and a forward pass over the tuning part; the other is a
run as ``make fold`` makes it: all callbacks, checkpoints on disk, offline W&B. They take turns.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import quiet
from benchmarks.made import SCANS, made_data, made_people, make_store
from benchmarks.scans import SCRATCH, store_folder
from benchmarks.table import publish, spread

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
    parser.add_argument(
        "--epochs", type=int, default=2, help="epochs of each kind in a repetition; the first of a run is not counted"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="70 scans, one repetition; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.scans, options.repetitions, options.epochs = min(options.scans, 70), 1, 2
    quiet()
    rows = [measure(name, options) for name in options.inputs.split(",")]
    title = (
        f"Lightning, metrics, W&B, checkpoints and callbacks over a bare loop, {options.scans} scans at {options.spacing:g} mm"
    )
    notes = ("seconds of an epoch, training and tuning pass; overhead: share of the bare loop's time, paired by repetition",)
    publish("overhead", title, rows, notes, save=not options.quick and options.spacing == 1, options=vars(options))
    return 0


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train both ways in turn; one row of the table."""
    train, tuning = ready_batches(name, options)
    bare: list[float] = []
    whole: list[float] = []
    for repetition in range(options.repetitions):
        kinds = ((bare, bare_epochs), (whole, run_epochs))
        for kept, kind in kinds if repetition % 2 == 0 else kinds[::-1]:
            kept.append(min(kind(name, train, tuning, options.epochs + 1)[1:]))
    share = spread([b / a - 1 for a, b in zip(bare, whole, strict=True)])
    return {
        "input": name, "batches": f"{len(train)}+{len(tuning)}", "bare_s": spread(bare)[0], "run_s": spread(whole)[0],
        "overhead": share[0], "overhead_low": share[1], "overhead_high": share[2],
    }  # fmt: skip


def ready_batches(name: str, options: argparse.Namespace) -> tuple[Repeated, Repeated]:
    """Training and tuning batches as the network gets them, as many as an epoch of the cohort has."""
    few = make_store(store_folder(), UNIQUE * options.batch * 7 // 5 + 7, spacing_mm=options.spacing)
    data = made_data(few, name, options.batch)
    batches = [data.finish(batch, 0) for batch, _ in zip(data.train_dataloader(), range(UNIQUE), strict=False)]
    patients, _, splits = made_people(options.scans)
    part = splits.partitions(0, patients)
    lengths = {one: -(-len(part[one]) // options.batch) for one in ("train", "tuning")}
    return Repeated(batches, lengths["train"]), Repeated(batches, lengths["tuning"])


def bare_epochs(name: str, train: Repeated, tuning: Repeated, epochs: int) -> list[float]:
    """Seconds of each epoch of a plain loop."""
    from benchmarks.fitting import module

    network = module()
    optimizer = network.configure_optimizers()["optimizer"]
    seconds = []
    for _ in range(epochs):
        began = time.perf_counter()
        network.train()
        for batch in train:
            loss = torch.nn.functional.cross_entropy(network(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for batch in tuning:
                network(batch["image"])
        seconds.append(time.perf_counter() - began)
    return seconds


def run_epochs(name: str, train: Repeated, tuning: Repeated, epochs: int) -> list[float]:
    """Seconds of each epoch of a run with everything that ``make fold`` gives it."""
    from rich.console import Console

    from experiments.plan import Run
    from experiments.results import RunFolder
    from experiments.settings import parse_settings
    from experiments.training import assemble

    folder = SCRATCH / "overhead"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["--preset", "default", "--cohort", "made", "--studies", str(folder), "--trainer.max_epochs", str(epochs)]
    settings = parse_settings([*arguments, "--trainer.precision", "32-true", "--early_stopping.patience", "1000"])
    run = Run(name, 0, 0)
    at = RunFolder(run.folder(folder / "made"))
    at.path.mkdir(parents=True)
    parts = assemble(settings, made_study(folder / "made"), run, at, Console(quiet=True), True)
    parts.trainer.fit(parts.module, train_dataloaders=train, val_dataloaders=tuning)
    parts.close(True)
    return list(parts.stopwatch.seconds)


def made_study(folder: Path) -> Any:
    """A study of a few made scans, so that a run can be assembled; its data is not used."""
    from datamodules.cohort import Cohort, LabelRule, Scan
    from experiments.study import Study

    patients, labels, splits = made_people(14)
    scans = tuple(Scan(p, "", Path("t1w"), Path("flair"), 3.0, 0, label) for p, label in zip(patients, labels, strict=True))
    return Study(
        folder, Cohort(Path("made"), LabelRule(), scans), make_store(store_folder(), 14, spacing_mm=8.0), splits, "made"
    )
