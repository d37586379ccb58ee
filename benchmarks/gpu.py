"""How near a whole study comes to what the device can do: every input at 1 mm, 382 scans that are made in memory.

Needs torch, pytorch-lightning, torchmetrics, numpy and nibabel alone. Each input is trained by the Trainer as a run trains it
(data, augmentation, tuning pass), then compared with the same network on random tensors that lie on the device (the bound), and
with the roofline.

    python -m benchmarks gpu                                        # on a GPU
    python -m benchmarks gpu --device cpu --spacing 6 --scans 28    # a trial without one
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from benchmarks.clock import EpochClock
from benchmarks.fitting import module, quiet, train_step
from benchmarks.made import SCANS, made_data, made_image, template_grid
from benchmarks.roofline import Roof, count, measure_roof, timed
from benchmarks.table import BenchError, publish, shown
from datamodules.mri import BrainMRIDataModule
from datamodules.store.prepared import Kind, PreparedCohort, StoredScan
from regions.catalog import REGIONS

UNIQUE = 8
FOLDS = 7
STUDY_EPOCHS = 100
STEPS = 20
"""Steps that are timed together, so that the host's start of one overlaps with the device's end of another."""


@dataclass(frozen=True)
class MemoryCohort(PreparedCohort):
    """Volumes in memory instead of a store's files; rows share them."""

    pairs: tuple[npt.NDArray[np.float16], ...] = ()

    def maps(self, row: int, kind: Kind = "image") -> list[npt.NDArray[Any]]:
        """The images of a row."""
        return list(self.pairs[row % len(self.pairs)])


def main(arguments: Sequence[str]) -> int:
    """Command line of ``gpu``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--inputs", default=",".join(REGIONS))
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=3, help="epochs that are measured, after one that is not")
    parser.add_argument("--study-epochs", type=int, default=STUDY_EPOCHS, help="epochs of a run in the projected study")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BenchError("no CUDA device here; --device cpu tries the measurement out")
    quiet()
    device = torch.device(options.device)
    precision = "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    roof = measure_roof(device, torch.bfloat16 if precision == "bf16-mixed" else torch.float32)
    grid = template_grid(options.spacing)
    pairs = tuple(made_image(grid, seed) for seed in range(min(UNIQUE, options.scans)))
    scans = tuple(StoredScan((f"made-{row}-t1w", f"made-{row}-flair")) for row in range(options.scans))
    prepared = MemoryCohort(Path("in memory"), grid, scans, pairs=pairs)
    rows = []
    for name in options.inputs.split(","):
        rows.append(measure(name, prepared, device, precision, roof, options))
        values = (f"{column} {shown(column, value)}" for column, value in rows[-1].items() if column != "input")
        print(f"{name}: {', '.join(values)}", flush=True)  # a limit on the run's time then costs no row that is there
    hours = sum(row["run_minutes"] for row in rows) * FOLDS / 60
    notes = (
        f"{precision}; measured: {roof.flops / 1e12:.3g} TFLOP/s in a matrix product, {roof.bytes / 1e9:.4g} GB/s in a copy",
        "epoch: training and tuning pass; over bound: its time over that of the same steps on resident random tensors",
        "step over roof: a training step's time over what its arithmetic and unfused traffic need at least",
        "busy: share of an epoch in which a kernel or a copy ran; their times are those of one more epoch, a profiled one",
        f"a study: {len(rows)} inputs, {FOLDS} folds, {options.study_epochs} epochs, one run after another: {hours:.2f} hours",
    )
    title = f"{options.device}: {options.scans} scans at {options.spacing:g} mm, batch {options.batch}, width {options.width}"
    whole = len(rows) == len(REGIONS) and options.scans == SCANS
    save = options.device == "cuda" and options.spacing == 1 and whole
    publish("gpu", title, rows, notes, save=save, options=vars(options), study_hours=hours, roof=vars(roof))
    return 0


def measure(
    name: str, prepared: PreparedCohort, device: torch.device, precision: str, roof: Roof, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table."""
    data = made_data(prepared, name, options.batch)
    network = module(options.width)
    clock, busy = EpochClock(), BusyClock(options.epochs + 1)
    began = time.perf_counter()
    trainer(device, precision, options.epochs + 2, clock, busy).fit(network, datamodule=data)
    whole = time.perf_counter() - began
    epochs = clock.epochs[1:-1]
    epoch = float(np.median([timing.wall for timing in epochs]))
    once = max(whole - sum(timing.wall for timing in clock.epochs), 0.0) + max(clock.epochs[0].wall - epoch, 0.0)
    scans = {part: len(rows) for part, rows in data.partitions.items()}
    bound, step, least = bare(data, scans, device, precision, roof, options)
    return {
        "input": name,
        "epochs_a_second": 1 / epoch,
        "scans_a_second": (scans["train"] + scans["tuning"]) / epoch,
        "bound_scans_a_second": (scans["train"] + scans["tuning"]) / bound,
        "over_bound": epoch / bound,
        "step_over_roof": step / least,
        "waiting": float(np.median([timing.waiting / timing.wall for timing in epochs])),
        "busy": None if busy.seconds is None else busy.seconds / epoch,
        "run_minutes": (once + options.study_epochs * epoch) / 60,
    }


def trainer(device: torch.device, precision: str, epochs: int, clock: EpochClock, busy: pl.Callback) -> pl.Trainer:
    """A trainer that only trains, on the device."""
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_epochs=epochs,
        precision=precision,  # type: ignore[arg-type]
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=[clock, busy],
        profiler=clock.spans,
    )  # fmt: skip


def bare(
    data: BrainMRIDataModule,
    scans: dict[str, int],
    device: torch.device,
    precision: str,
    roof: Roof,
    options: argparse.Namespace,
) -> tuple[float, float, float]:
    """Seconds on resident random tensors: of an epoch, of a training step, and of a step by the roofline."""
    network = module(options.width).to(device)
    optimizer = network.configure_optimizers()["optimizer"]
    image = torch.randn(options.batch, 2, *data.box.shape, device=device)
    label = torch.arange(options.batch, device=device) % 2

    def step() -> None:
        train_step(network, optimizer, image, label, cast(device, precision))

    def epoch() -> None:
        network.train()
        for _ in range(-(-scans["train"] // options.batch)):
            step()
        network.eval()
        with torch.no_grad(), cast(device, precision):
            for _ in range(-(-scans["tuning"] // options.batch)):
                network(image)

    def steps() -> None:
        network.train()
        for _ in range(STEPS):
            step()

    least = roof.seconds(*count(step))
    steps()
    whole, part = (float(np.median([timed(work, device) for _ in range(options.epochs)])) for work in (epoch, steps))
    return whole, part / STEPS, least


def cast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The precision of a run, without a Trainer."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


class BusyClock(pl.Callback):
    """Profile one epoch of a training on a GPU: ``seconds`` in which a kernel or a copy ran; None without a GPU.

    Args:
        epoch: The epoch, from 0; a profiler slows its host down, not its kernels.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.seconds: float | None = None
        self._profile: torch.profiler.profile | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start in the chosen epoch."""
        if trainer.current_epoch == self.epoch and pl_module.device.type == "cuda":
            self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True)
            self._profile.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, and add up."""
        if self._profile is None:
            return
        torch.cuda.synchronize()
        self._profile.stop()
        self.seconds = covered(
            (event.time_range.start / 1e6, event.time_range.end / 1e6)
            for event in self._profile.events() or []
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
        )
        self._profile = None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much time spans (start, end) cover; where they overlap it counts once."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
