"""One process that holds a run's data and says what memory it takes. Started by ``benchmarks.memory``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.fitting import module, quiet
from benchmarks.made import made_data, make_store
from benchmarks.scans import store_folder

TRAIN_BATCHES, TUNING_BATCHES = 2, 1


class Sampler(threading.Thread):
    """Look every 10 ms at what the process holds; ``peak`` keeps the largest values in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = {"own_mb": 0.0, "shared_mb": 0.0}
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        while not self._stop_now.wait(0.01):
            for name, value in resident().items():
                self.peak[name] = max(self.peak[name], value)

    def stop(self) -> dict[str, float]:
        """End the thread and return the peaks."""
        self._stop_now.set()
        self.join()
        return self.peak


def main(arguments: Sequence[str]) -> int:
    """Hold the data of an input, and answer on standard output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tenant")
    parser.add_argument("kind", choices=("run", "read"))
    parser.add_argument("input")
    parser.add_argument("--scans", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--spacing", type=float, required=True)
    parser.add_argument("--unique", type=int, required=True)
    options = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    quiet()
    prepared = make_store(store_folder(), options.scans, options.unique, options.spacing)
    data = made_data(prepared, options.input, options.batch)
    if options.kind == "run":
        print(json.dumps(short_run(data)), file=answers, flush=True)
        return 0
    before = rollup()
    loader = data.train_dataloader()
    with torch.no_grad():
        for batch in loader:
            batch["image"].sum()
    size = len(data.partitions["train"]) * 2 * 2 * math.prod(data.augmenter.read.shape)
    print(json.dumps({"data_mb": size / 1e6}), file=answers, flush=True)
    for _ in sys.stdin:
        grown = {name: value - before[name] for name, value in rollup().items()}
        print(json.dumps(grown), file=answers, flush=True)
    return 0


def short_run(data: pl.LightningDataModule) -> dict[str, Any]:
    """Train on a few batches, with a tuning pass, and return the peak of memory."""
    network = module()
    sampler = Sampler()
    sampler.start()
    reading = Reading()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, precision="32-true", max_epochs=1, limit_train_batches=TRAIN_BATCHES,
        limit_val_batches=TUNING_BATCHES, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=[reading],
    )  # fmt: skip
    trainer.fit(network, datamodule=data)
    peak = sampler.stop()
    return {"after_reading_mb": reading.own_mb, **peak}


class Reading(pl.Callback):
    """Keep what the process holds when the first training batch has arrived."""

    own_mb = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Look once."""
        if batch_idx == 0:
            self.own_mb = resident()["own_mb"]


def resident() -> dict[str, float]:
    """MB of memory that is this process's own, and of shared memory, now."""
    sizes = _kilobytes(Path("/proc/self/status"), ("RssAnon", "RssShmem"))
    return {"own_mb": sizes["RssAnon"] / 1e3, "shared_mb": sizes["RssShmem"] / 1e3}


def rollup() -> dict[str, float]:
    """MB of memory that only this process holds, and its proportional share of everything it maps."""
    sizes = _kilobytes(Path("/proc/self/smaps_rollup"), ("Private_Dirty", "Pss"))
    return {"own_mb": sizes["Private_Dirty"] / 1e3, "pss_mb": sizes["Pss"] / 1e3}


def _kilobytes(path: Path, names: Sequence[str]) -> dict[str, float]:
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    sizes = {words[0].rstrip(":"): float(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}
    return {name: sizes.get(name, 0.0) for name in names}
