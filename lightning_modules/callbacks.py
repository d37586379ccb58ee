"""Callbacks that a run needs beside Lightning's own: exact resume, timings, and a clean stop on a signal."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class ResumeRandomness(pl.Callback):
    """Keep the state of all random generators in each checkpoint, so that a resumed run repeats an unbroken one.

    Lightning restores weights, optimiser, schedules and loops, but no random state. The order of the scans and the augmentation
    are functions of (seed, epoch) and need no state; dropout and a foreign network's own draws do.
    """

    def state_dict(self) -> dict[str, Any]:
        """States of the generators of python, numpy, torch and the run's CUDA device, as plain tensors, lists and numbers."""
        version, internal, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()
        return {
            "python": [version, list(internal), gauss],
            "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts: Lightning itself draws numbers in between."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the restored states in force."""
        state = self.__dict__.pop("_restored", None)
        if state is None:
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"].cpu())


class Stopwatch(pl.Callback):
    """Measure what each epoch takes; the sums survive a resume.

    ``seconds`` holds the wall time of each epoch, training and tuning together; ``waiting`` the part of it in which the
    training waited for its data, as the loader tells; ``samples`` the training scans of each epoch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waiting: list[float] = []
        self.samples: list[int] = []
        self._count = 0
        self._resumed = 0

    @property
    def earlier(self) -> float:
        """Seconds of the epochs before the training was resumed."""
        return sum(self.seconds[: self._resumed])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch."""
        self._start = time.perf_counter()
        self._count = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the scans of a batch."""
        self._count += len(batch["label"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock; Lightning has run the tuning part by now."""
        self.seconds.append(time.perf_counter() - self._start)
        self.samples.append(self._count)
        self.waiting.append(float(getattr(trainer.train_dataloader, "waited", 0.0)))
        pl_module.log("throughput/scans_per_second", self._count / self.seconds[-1])
        pl_module.log("throughput/waiting_share", self.waiting[-1] / self.seconds[-1])

    def state_dict(self) -> dict[str, Any]:
        """The measured times."""
        return {"seconds": self.seconds, "waiting": self.waiting, "samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the measured times of the run's first part."""
        self.seconds = list(state_dict["seconds"])
        self._resumed = len(self.seconds)
        self.waiting = list(state_dict["waiting"])
        self.samples = list(state_dict["samples"])
