"""Random states that survive a checkpoint file, and times that add up."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_modules.callbacks import ResumeRandomness, Stopwatch
from lightning_modules.checkpointing import AtomicCheckpointIO

NOBODY: Any = None


def draws() -> tuple[list[float], list[float], list[float]]:
    """Numbers of every global generator; an odd count of normal ones leaves half a pair behind."""
    return (
        [random.random(), random.gauss(0, 1)],
        np.random.standard_normal(3).tolist(),
        torch.randn(3).tolist(),
    )


def test_restored_generators_go_on_where_they_stood(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    draws()
    AtomicCheckpointIO().save_checkpoint(ResumeRandomness().state_dict(), tmp_path / "states.ckpt")
    expected = draws()
    callback = ResumeRandomness()
    callback.load_state_dict(AtomicCheckpointIO().load_checkpoint(tmp_path / "states.ckpt"))
    draws()
    callback.on_train_start(NOBODY, NOBODY)
    assert draws() == expected


def test_states_are_put_in_force_once() -> None:
    callback = ResumeRandomness()
    callback.load_state_dict(callback.state_dict())
    callback.on_train_start(NOBODY, NOBODY)
    first = draws()
    callback.on_train_start(NOBODY, NOBODY)
    assert draws() != first


def test_without_a_checkpoint_nothing_is_touched() -> None:
    torch.manual_seed(0)
    expected = torch.randn(1)
    torch.manual_seed(0)
    ResumeRandomness().on_train_start(NOBODY, NOBODY)
    assert torch.equal(torch.randn(1), expected)


def test_a_run_on_the_cpu_touches_no_cuda_device() -> None:
    assert ResumeRandomness().state_dict()["cuda"] is None
    assert not torch.cuda.is_initialized()


class Logged:
    """Stands for a module that logs."""

    def __init__(self) -> None:
        self.values: list[tuple[str, float]] = []

    def log(self, name: str, value: float) -> None:
        self.values.append((name, value))


def epoch(watch: Stopwatch, module: Logged, sizes: list[int], waited: float = 0.5) -> None:
    lightning = cast(pl.LightningModule, module)
    trainer = cast(pl.Trainer, SimpleNamespace(train_dataloader=SimpleNamespace(waited=waited)))
    watch.on_train_epoch_start(trainer, lightning)
    for number, size in enumerate(sizes):
        watch.on_train_batch_end(trainer, lightning, None, {"label": torch.zeros(size)}, number)
    watch.on_train_epoch_end(trainer, lightning)


def test_the_stopwatch_counts_scans_and_seconds_of_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 14.0, 20.0, 22.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch, module = Stopwatch(), Logged()
    epoch(watch, module, [5, 3], waited=1.0)
    epoch(watch, module, [4, 4, 1], waited=0.5)
    assert (watch.seconds, watch.waiting, watch.samples) == ([4.0, 2.0], [1.0, 0.5], [8, 9])
    names = ("throughput/scans_per_second", "throughput/waiting_share")
    assert module.values == [*zip(names, (2.0, 0.25), strict=True), *zip(names, (4.5, 0.25), strict=True)]


def test_the_stopwatch_goes_on_after_a_resume() -> None:
    watch, later = Stopwatch(), Stopwatch()
    epoch(watch, Logged(), [5])
    later.load_state_dict(watch.state_dict())
    epoch(later, Logged(), [2])
    assert later.samples == [5, 2]
    assert later.waiting == [0.5, 0.5]
    assert later.seconds[0] == watch.seconds[0]
    assert later.earlier == watch.seconds[0]
    assert watch.earlier == 0
    assert watch.samples == [5]
