"""What a run shows while it trains: a bar in a terminal, lines in a log, and ``progress.json`` for the sweep's table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from datamodules.files.atomic import write_json
from experiments.runtime.interruption import stop_if_interrupted


class RunProgress(pl.Callback):
    """Show epoch, losses and time left; keep them in ``progress.json``; stop after a batch when a signal has come.

    Args:
        name: The run's name.
        path: Where ``progress.json`` goes.
        console: Terminal or log.
        quiet: Write the file only.
    """

    def __init__(self, name: str, path: Path, console: Console, quiet: bool = False) -> None:
        self.name, self.path, self.console, self.quiet = name, path, console, quiet
        self._bar: Progress | None = None
        self._told = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar where there is a terminal."""
        self._began, self._first_epoch = time.monotonic(), trainer.current_epoch
        if self.quiet or not self.console.is_terminal or not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        total = (trainer.max_epochs or 0) * int(trainer.num_training_batches)
        done = trainer.current_epoch * int(trainer.num_training_batches)
        self._task = self._bar.add_task(self.name, total=total, completed=done, told="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the bar; stop here if a signal has come."""
        if self._bar is not None:
            self._bar.advance(self._task)
        stop_if_interrupted()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop here if a signal has come."""
        stop_if_interrupted()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what the epoch gave."""
        if not trainer.is_global_zero:
            return
        value = {name: float(number) for name, number in trainer.callback_metrics.items()}
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        each = (time.monotonic() - self._began) / (epoch - self._first_epoch)
        score, title = ("mae", "MAE") if "tuning/mae" in value else ("balanced_accuracy", "balanced accuracy")
        loss, reached = (value.get(f"tuning/{name}", float("nan")) for name in ("loss", score))
        text = f"tuning loss {loss:.3f}, {title} {reached:.2f}"
        if self._bar is not None:
            self._bar.update(self._task, told=text)
        elif not self.quiet and (time.monotonic() - self._told > 1 or epoch == last):
            self.console.print(f"{self.name}  epoch {epoch}/{last}  {text}  {each:.1f} s an epoch", highlight=False)
            self._told = time.monotonic()
        write_json(
            self.path,
            {"epoch": epoch, "max_epochs": last, "seconds_per_epoch": each, "metrics": value},
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class History(pl.Callback):
    """Learning curves, a row an epoch, kept in the checkpoint and written to ``history.tsv`` at the end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take down the learning rate, before the schedule moves it."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take down the epoch's numbers."""
        values = {name: float(number) for name, number in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "learning_rate": self._rate} | values)

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the rows of the run's first part."""
        self.rows = list(state_dict["rows"])

    def table(self) -> str:
        """The rows as tab-separated text."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = ["\t".join(names)]
        lines += ["\t".join(repr(row[name]) if name in row else "" for name in names) for row in self.rows]
        return "\n".join(lines) + "\n"
