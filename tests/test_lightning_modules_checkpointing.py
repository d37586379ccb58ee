"""Checkpoints: never torn, never code, and written when an epoch is settled."""

from __future__ import annotations

import errno
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules.checkpointing import (
    AtomicCheckpointIO,
    BestCheckpoint,
    DamagedCheckpointError,
    LastCheckpoint,
    is_intact,
)


class Planted:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    content = {"state_dict": {"weight": torch.arange(5.0)}, "epoch": 3, "names": ["a", None]}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "new" / "some.ckpt")
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "new" / "some.ckpt")
    assert torch.equal(loaded["state_dict"]["weight"], torch.arange(5.0))
    assert (loaded["epoch"], loaded["names"]) == (3, ["a", None])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"some.ckpt", "some.ckpt.sha256"}


@pytest.mark.parametrize("survived", [0, 1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # the child does nothing but write and die
def test_a_writer_that_is_killed_leaves_the_old_checkpoint_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """Killed at each step in turn: after writing or renaming the hash, after writing or renaming the checkpoint."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    left = iter([True] * survived)

    def step(act: Any) -> Any:
        def maybe(*values: Any) -> Any:
            if not next(left, False):
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*values)

        return maybe

    monkeypatch.setattr(os, "fsync", step(os.fsync))
    monkeypatch.setattr(Path, "replace", step(Path.replace))
    child = os.fork()
    if child == 0:
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if survived == 4 else -signal.SIGKILL)
    monkeypatch.undo()
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 2 if survived == 4 else 1}
    AtomicCheckpointIO().save_checkpoint({"epoch": 3}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 3}


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def fail(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as raised:
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last.ckpt.sha256"}


@pytest.mark.parametrize("place", ["first", "middle", "last", "shorter", "longer", "empty", "hash", "no hash"])
def test_a_checkpoint_that_changed_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.arange(50.0)}, path)
    content = bytearray(path.read_bytes())
    if place in ("first", "middle", "last"):
        content[{"first": 0, "middle": len(content) // 2, "last": -1}[place]] ^= 1
    content = {"shorter": content[:-1], "longer": content + b"0", "empty": bytearray()}.get(place, content)
    path.write_bytes(content)
    if place == "hash":
        path.with_name("best.ckpt.sha256").write_text("0" * 64)
    if place == "no hash":
        path.with_name("best.ckpt.sha256").unlink()
    assert not is_intact(path)
    with pytest.raises(DamagedCheckpointError, match=r"best\.ckpt was changed after it was saved; restore it, or train"):
        AtomicCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("asked", [None, True, False])
def test_a_checkpoint_that_holds_code_is_refused_and_runs_nothing(tmp_path: Path, asked: bool | None) -> None:
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "more": Planted(tmp_path / "executed")}, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt", weights_only=asked)
    assert not (tmp_path / "executed").exists()


class Tiny(pl.LightningModule):
    """One weight; the tuning losses of the epochs are given."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight, self.losses = nn.Parameter(torch.ones(())), losses

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("tuning/loss", self.losses[self.trainer.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Seen(pl.Callback):
    """Takes down which epochs of ``last.ckpt`` there are while a training runs, and how many batches each epoch has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs: list[int | None] = []
        self.batches: dict[int, int] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.batches[trainer.current_epoch] = self.batches.get(trainer.current_epoch, 0) + 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append(torch.load(self.path, weights_only=True)["epoch"] if self.path.is_file() else None)


def fit(folder: Path, losses: list[float], epochs: int, resume: bool = False) -> tuple[BestCheckpoint, Seen, Tiny, pl.Trainer]:
    best, last, seen = BestCheckpoint(folder / "best.ckpt", "tuning/loss"), folder / "last.ckpt", Seen(folder / "last.ckpt")
    trainer = pl.Trainer(
        plugins=[LightningEnvironment(), AtomicCheckpointIO()], accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0,
        callbacks=[best, LastCheckpoint(last), seen], logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module, loader = Tiny(losses), DataLoader(torch.ones(3, 1))  # type: ignore[arg-type]
    trainer.fit(module, loader, loader, ckpt_path=str(last) if resume else None, weights_only=True)
    return best, seen, module, trainer


def test_the_last_checkpoint_is_written_at_the_start_of_each_epoch_but_the_first(tmp_path: Path) -> None:
    _, seen, module, _ = fit(tmp_path, [1.0] * 4, epochs=4)
    assert seen.epochs == [None, 1, 2, 3]
    weight = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["weight"]
    assert float(weight) == pytest.approx(1 - 3 * 3 * 0.1)
    assert module.weight.item() == pytest.approx(1 - 4 * 3 * 0.1)


def test_a_resumed_epoch_has_all_its_batches_and_counts_its_steps_once(tmp_path: Path) -> None:
    _, _, unbroken, trainer = fit(tmp_path / "whole", [1.0] * 5, epochs=5)
    fit(tmp_path / "part", [1.0] * 5, epochs=3)
    _, seen, resumed, later = fit(tmp_path / "part", [1.0] * 5, epochs=5, resume=True)
    assert seen.batches == {2: 3, 3: 3, 4: 3}
    assert torch.equal(resumed.weight, unbroken.weight)
    assert later.global_step == trainer.global_step == 15
    assert later.fit_loop.epoch_loop._batches_that_stepped == trainer.fit_loop.epoch_loop._batches_that_stepped


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    best, *_ = fit(tmp_path, [3.0, 1.0, 2.0, 1.5], epochs=4)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    assert "optimizer_states" not in saved
    assert float(best.best_model_score) == 1.0  # type: ignore[arg-type]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["best", "best.ckpt", "last", "last.ckpt"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_resumed_run_keeps_a_better_earlier_epoch(tmp_path: Path, moved: bool) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    fit(here, [3.0, 1.0, 2.0, 1.5], epochs=3)
    if moved:
        here.rename(there)
    folder = there if moved else here
    best, *_ = fit(folder, [3.0, 1.0, 2.0, 1.5], epochs=4, resume=True)
    assert torch.load(folder / "best.ckpt", weights_only=True)["epoch"] == 1
    assert float(best.best_model_score) == 1.0  # type: ignore[arg-type]
    assert best.best_model_path == str(folder / "best.ckpt")


def test_a_resumed_run_replaces_a_worse_earlier_epoch(tmp_path: Path) -> None:
    fit(tmp_path, [3.0, 1.0, 2.0, 0.5], epochs=3)
    fit(tmp_path, [3.0, 1.0, 2.0, 0.5], epochs=4, resume=True)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 3
