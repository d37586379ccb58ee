"""Time an epoch of any Lightning training: its wall time, and what of it passed before a batch was ready."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler


@dataclass(frozen=True)
class Epoch:
    """Seconds of one epoch."""

    wall: float
    """From the end of the epoch before (or the start of training) to this one's end."""
    waiting: float
    """Until the loader handed out a batch."""
    preparing: float
    """Between the batch's arrival and the step: augmentation and region, where they run on the device."""
    step: float
    """Forward, backward and optimiser."""


class Spans(Profiler):
    """Sum the seconds of Lightning's actions by the last part of their names."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Lightning begins an action."""
        self._open[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Lightning has ended an action; actions that it ends without a beginning do not count."""
        began = self._open.pop(action_name, None)
        if began is not None:
            self.seconds[action_name.rpartition(".")[2]] += time.perf_counter() - began


class EpochClock(pl.Callback):
    """Fill ``epochs`` while a Trainer runs; the Trainer's profiler must be ``spans``."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.spans = Spans()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()
        self.spans.seconds.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the times of the epoch."""
        now, took = time.perf_counter(), self.spans.seconds
        parts = (took[name] for name in ("train_dataloader_next", "on_after_batch_transfer", "run_training_batch"))
        self.epochs.append(Epoch(now - self._began, *parts))
        self._began = now
        took.clear()
