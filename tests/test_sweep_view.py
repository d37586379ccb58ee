"""The time that a sweep says is left, drawn from run folders alone."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from datamodules.files.atomic import write_json
from datamodules.files.sealed import write_sealed
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.training.sweep_view import SweepView

RUNS = [Run("brainstem", fold, 0) for fold in range(4)]
FINGERPRINT: Any = SimpleNamespace(differences=lambda facts: [])


def put(study: Path, run: Run, state: str, seconds: dict[str, float] | None = None, epoch: int = 0) -> None:
    folder = RunFolder(run.folder(study))
    folder.path.mkdir(parents=True, exist_ok=True)
    write_sealed(folder.path / "run.json", {"state": state, "seconds": seconds or {}})
    if epoch:
        write_json(folder.path / "progress.json", {"epoch": epoch, "max_epochs": 10})


def view(study: Path, workers: int = 1) -> tuple[SweepView, StringIO]:
    text, folder = StringIO(), SimpleNamespace(folder=study)
    shown: Any = SweepView(folder, FINGERPRINT, RUNS, workers, Console(file=text, width=120))  # type: ignore[arg-type]
    return shown, text


@pytest.mark.parametrize(
    ("seconds", "workers", "left"),
    [
        ({"training": 90.0, "this_attempt": 100.0}, 1, "100 s, about 5 min 00 s left"),
        ({"training": 90.0, "this_attempt": 100.0}, 3, "100 s, about 1 min 40 s left"),
        ({"training": 90.0, "this_attempt": 4.0}, 1, "90 s, about 4 min 30 s left"),
    ],
    ids=["one worker", "three workers", "a run that went on from its last epoch"],
)
def test_a_finished_run_tells_what_the_others_take(tmp_path: Path, seconds: dict[str, float], workers: int, left: str) -> None:
    shown, text = view(tmp_path, workers)
    put(tmp_path, RUNS[0], "complete", seconds)
    shown.update()
    assert text.getvalue() == f"[1/4] brainstem/fold-0/seed-0 {left}\n"


def test_epochs_that_an_interrupted_run_has_are_not_trained_again(tmp_path: Path) -> None:
    shown, text = view(tmp_path)
    put(tmp_path, RUNS[0], "complete", {"training": 90.0, "this_attempt": 100.0})
    put(tmp_path, RUNS[1], "running", epoch=8)  # nobody holds its lock
    shown.update()
    assert text.getvalue() == "[1/4] brainstem/fold-0/seed-0 100 s, about 3 min 40 s left\n"


def test_before_a_run_has_ended_nothing_is_known(tmp_path: Path) -> None:
    put(tmp_path, RUNS[0], "running", epoch=8)
    shown, _ = view(tmp_path)
    assert shown._footer() == "0 of 4 complete, 0 running, 0 s so far, time left not known yet"
