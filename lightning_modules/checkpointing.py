"""Checkpoints that are never torn, hold no code, and let an interrupted run end like an unbroken one."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lightning_modules.errors import ModelError


class DamagedCheckpointError(ModelError):
    """A checkpoint that does not hold what was saved."""

    status = 1


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file, flush it to disk, rename it; read with ``weights_only=True``, so nothing is ever executed.

    Beside ``x.ckpt`` stands ``x.ckpt.sha256``: the hash of the file and, until the file is in place, of the one before it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint so that ``path`` holds either the old or the new one, never a part.

        Raises:
            OSError: if the disk takes nothing more; torch itself would call that an internal error.
        """
        path, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        path.parent.mkdir(parents=True, exist_ok=True)
        before = [_digest(path)] if path.is_file() and is_intact(path) else []
        _replace(_beside(path), "\n".join([digest, *before, ""]).encode())
        _replace(path, buffer.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load tensors, numbers and strings only.

        Raises:
            DamagedCheckpointError: if the file is not what was saved.
            pickle.UnpicklingError: if the file holds anything else.
        """
        if not is_intact(Path(path)):
            raise DamagedCheckpointError(f"{path} was changed after it was saved; restore it, or train the run with --restart")
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return checkpoint


def is_intact(path: Path) -> bool:
    """Whether a checkpoint is what was saved."""
    return _digest(path) in _hashes(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _hashes(path: Path) -> list[str]:
    return _beside(path).read_text(encoding="ascii", errors="replace").split() if _beside(path).is_file() else []


def _replace(path: Path, content: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


class LastCheckpoint(pl.Callback):
    """Save ``last.ckpt`` at the start of each epoch but the first, when all of the epoch before it is settled.

    At that moment schedules are stepped, metrics are logged and the random generators stand where the next epoch begins; so a
    resume repeats nothing and skips nothing. A run that is killed loses at most the epoch under way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, unless no epoch has been finished.

        A resumed epoch begins with its first batch. Lightning must be told so: the checkpoint counts the batches of the epoch
        before, and it would take the new epoch for done.
        """
        if trainer.fit_loop.restarting:
            trainer.fit_loop.restarting = False
        elif trainer.current_epoch > 0:
            trainer.save_checkpoint(self.path)


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights of the epoch with the lowest value of a metric, also through a resume from a folder that was moved.

    Lightning forgets the best value so far when the folder's path is another than before, on another node for example, and the
    next epoch would then replace a better one.

    Args:
        path: Where the checkpoint goes.
        monitor: The metric.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__(
            path.parent, path.stem, monitor=monitor, save_top_k=1, save_weights_only=True, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value so far; its file is looked for where this run's folder is now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {name: here(value) for name, value in state_dict.items() if name.endswith("_model_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": models, "dirpath": self.dirpath})
