"""Small runs for the tests that track against the stub server."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from wandb_stub_records import Run

from experiments.tracking import wandb_runs as tracking
from experiments.tracking.options import RunIdentity, TrackingOptions
from experiments.tracking.privacy import pseudonym

ROOT = Path(__file__).parent.parent
ONLINE = TrackingOptions(mode="online", project="test")
OFFLINE = TrackingOptions(mode="offline", project="test")
FIRST = RunIdentity("study", "global", 0, 0)


def log_epochs(logger, epochs: range) -> None:
    """One row an epoch, as the training logs them."""
    for epoch in epochs:
        logger.log_metrics({"tuning/auroc": epoch / 10, "epoch": epoch}, step=epoch)


def log_result(logger) -> None:
    """A small evaluation with its three tables."""
    tracking.log_evaluation(
        logger, threshold=0.4, metrics={"test/auroc": 0.75}, y=np.array([0, 1, 0, 1]), p=np.array([0.1, 0.6, 0.5, 0.3]),
        pseudonyms=[pseudonym(f"sub-{number}", bytes(32)) for number in range(4)],
    )  # fmt: skip


def offline_run(folder: Path, identity: RunIdentity, epochs: range, completed: bool = True) -> None:
    """One offline run, or a part of one."""
    logger = tracking.open_run(OFFLINE, identity, folder, {"lr": 0.1})
    log_epochs(logger, epochs)
    if completed:
        log_result(logger)
    tracking.close_run(logger, completed=completed)


def epochs_of(run: Run) -> list[int]:
    """The epochs of the logged curve."""
    return [row["epoch"] for row in run.history if "tuning/auroc" in row]


def start(code: str, *arguments: object, **options) -> subprocess.Popen:
    """Run Python code in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **options)


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether something on this machine answers on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
