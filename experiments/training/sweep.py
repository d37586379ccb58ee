"""Train every missing run of a study here, one worker per GPU or a few CPU workers, with a live table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch
from rich.console import Console

from datamodules.batches.loading import RUNS_PER_GPU
from datamodules.files.cores import cores, too_many
from experiments.runtime.console import print_failure, print_note
from experiments.runtime.interruption import RESUME
from experiments.runtime.words import plural
from experiments.study.grid import stale_message, states
from experiments.study.opening import fingerprint_of, set_aside
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from experiments.study.study import Study
from experiments.training.sweep_view import SweepView
from regions.errors import UserError

RESTARTS = 3
POLL_SECONDS = 0.5


class SweepError(UserError):
    """A sweep that cannot start."""


def worker_devices(gpus: str, jobs: str, per_device: str = "", threads: int = 1) -> list[dict[str, str]]:
    """The environment of each worker: its GPU if any, and the threads that each of its runs computes with.

    Args:
        gpus: GPU numbers separated by commas; a number given twice gets two workers. Empty: all that torch sees.
        jobs: Number of CPU workers; empty: up to four, as many as have cores for their threads.
        per_device: Number of workers on each GPU; empty: one. Small inputs leave a large GPU idle for most of the time.
        threads: The study's threads of a run.

    Raises:
        SweepError: if a number cannot be used.
    """
    names = [text.strip() for text in gpus.split(",") if text.strip()]
    if any(not name.isdecimal() for name in names):
        raise SweepError(f"GPUS={gpus} is not a list of numbers; write for example GPUS=0,1")
    for option, text in (("JOBS", jobs), ("PER_DEVICE", per_device)):
        if text and (not text.isdecimal() or int(text) < 1):
            raise SweepError(f"{option}={text} is not a number from 1")
    if not names and not jobs and torch.cuda.is_available():
        names = visible_gpus(torch.cuda.device_count())
    shared = {"OMP_NUM_THREADS": str(threads)}
    if names:
        names *= int(per_device or 1)
        return [{"CUDA_VISIBLE_DEVICES": name, RUNS_PER_GPU: str(names.count(name))} | shared for name in names]
    if per_device:
        raise SweepError(f"PER_DEVICE={per_device} is for GPUs, and there is none here; JOBS={per_device} sets the CPU workers")
    return [shared] * (int(jobs) if jobs else max(1, min(4, cores() // threads)))


def visible_gpus(count: int) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` must say to mean each of the GPUs that this process sees.

    A scheduler or a user may have chosen some already, by number or as a name such as ``MIG-...``; they keep that.
    """
    chosen = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return chosen[:count] or [str(number) for number in range(count)]


@dataclass
class Worker:
    """One worker process, its environment and its log."""

    number: int
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    status: int | None = None
    _file: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process, out of reach of the terminal's Ctrl-C (W&B's own process would fall with it); log its output."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.log.open("ab")
        self.process = subprocess.Popen(
            self.command,
            env=os.environ | self.environment,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def poll(self) -> bool:
        """Whether the worker is still at work; one that was killed is started again, a few times."""
        if self.process is None or self.status is not None:
            return False
        status = self.process.poll()
        if status is None:
            return True
        if self._file is not None:
            self._file.close()
        if status not in (0, 1, RESUME) and self.restarts < RESTARTS:
            self.restarts += 1
            self.start()
            return True
        self.status = status
        return False


def sweep(
    settings: Settings,
    study: Study,
    runs: Sequence[Run],
    devices: Sequence[dict[str, str]],
    arguments: Sequence[str],
    console: Console,
    restart: bool = False,
) -> int:
    """Train what is missing.

    Returns:
        0 when every run is complete, 1 when some failed, 75 when the sweep was interrupted.

    Raises:
        SweepError: if runs of other settings are in the way.
    """
    fingerprint = fingerprint_of(settings, study)
    state = states(study, fingerprint, runs)
    stale = [run for run in runs if state[run] == "stale"]
    if stale and not restart:
        raise SweepError(stale_message(study, fingerprint, stale))
    for run in stale:
        set_aside(RunFolder(run.folder(study.folder)))
    view = SweepView(study, fingerprint, runs, len(devices), console)
    if all(value == "complete" for value in state.values()):
        console.print(_all_complete(view))
        return 0
    workers = _workers(study, devices[: sum(value != "complete" for value in state.values())], arguments)
    console.print(view.opening())
    threads = [int(worker.environment["OMP_NUM_THREADS"]) for worker in workers if RUNS_PER_GPU not in worker.environment]
    if told := too_many(len(threads), max(threads, default=1)):
        print_note(console, f"{told} (JOBS, --threads)")
    if not console.is_terminal:
        console.print(f"epochs of each run: tail -f {study.folder / 'logs' / 'worker-*.log'}")
    for worker in workers:
        worker.start()
    stopped = _watch(workers, view)
    return _close(study, workers, view, console, stopped)


def _workers(study: Study, devices: Sequence[dict[str, str]], arguments: Sequence[str]) -> list[Worker]:
    token = {"REGIONWISE_SWEEP": uuid.uuid4().hex[:12]}
    command = [sys.executable, "-m", "experiments", "work", *arguments, "--follow", str(os.getpid())]
    logs = study.folder / "logs"
    return [Worker(number, command, device | token, logs / f"worker-{number}.log") for number, device in enumerate(devices)]


def _watch(workers: Sequence[Worker], view: SweepView) -> bool:
    """Wait for the workers and show what they do; on Ctrl-C wait until they have stopped. True when interrupted."""
    stopped = False
    with view:
        while True:
            try:
                busy = [worker.poll() for worker in workers]
                view.update()
                if not any(busy):
                    return stopped
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                stopped = True
                for worker in workers:
                    worker.restarts = RESTARTS
                    if worker.process is not None and worker.process.poll() is None:
                        worker.process.terminate()


def _close(study: Study, workers: Sequence[Worker], view: SweepView, console: Console, stopped: bool) -> int:
    """Tell how the sweep ended; failures come with the last lines of their log."""
    failures = view.failures()
    for run, error in failures:
        print_failure(console, f"{run.name}: {error}")
    broken = [worker for worker in workers if worker.status not in (0, RESUME, None)]
    for worker in broken:
        lines = worker.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        console.print(f"worker {worker.number} ended with status {worker.status}; the end of {worker.log}:")
        console.print("\n".join(f"    {line}" for line in lines))
    left = view.unfinished()
    if stopped:
        console.print(f"interrupted; {plural(left, 'run')} left, the same command goes on")
        return RESUME
    if left:
        console.print(f"{left} of {len(view.runs)} runs are not complete; the same command tries them again")
        return 1
    console.print(_all_complete(view))
    return 0


def _all_complete(view: SweepView) -> str:
    folder, number = view.study.folder, len(view.runs)
    return f"the run of {folder} is complete" if number == 1 else f"all {number} runs of {folder} are complete"
