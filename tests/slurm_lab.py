"""A private Slurm for tests: starts ``slurm_lab.sh``, asks it, and waits for conditions."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("slurm_lab.sh")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Lab:
    """A running cluster: nodes n1 and n2, partitions main and high, of which high takes nodes from main."""

    folder: Path
    environment: dict[str, str]

    def call(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command on this cluster."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False)

    def do(self, *words: str) -> str:
        """Run a command that has to succeed."""
        done = self.call(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def jobs(self, *options: str) -> dict[str, tuple[str, str]]:
        """State and node of each job, by id; jobs that have not ended unless options say otherwise."""
        lines = self.do("squeue", "--noheader", "--array", "--format=%i|%T|%N", *options).splitlines()
        return {line.split("|")[0]: (line.split("|")[1], line.split("|")[2]) for line in lines}

    def state(self, job: str) -> str:
        """State of one job, also when it has ended."""
        return self.jobs("--states=all", f"--jobs={job}")[job][0]


def experiments(*words: str) -> list[str]:
    """The project's command line."""
    return [sys.executable, "-m", "experiments", *words]


@contextmanager
def running_lab(**variables: str) -> Iterator[Lab]:
    """Start a cluster and stop it in any case."""
    folder = Path(tempfile.mkdtemp(prefix="rw-", dir="/tmp"))  # munge's socket needs a short path
    environment = os.environ | {"SLURM_CONF": str(folder / "etc" / "slurm.conf")} | variables
    try:
        done = subprocess.run(
            [SCRIPT, "up", folder, str(_free_port())], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield Lab(folder, environment)
    finally:
        subprocess.run([SCRIPT, "down", folder], capture_output=True, timeout=120, check=False)


def _free_port() -> int:
    """The first of three free ports in a row."""
    for port in range(17000 + os.getpid() % 1000 * 3, 32000, 3):
        sockets = [socket.socket() for _ in range(3)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("127.0.0.1", port + offset))
            return port
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise OSError("there are no three free ports in a row")


def wait_until(condition: Callable[[], object], told: Callable[[], object] = lambda: "", seconds: float = 240) -> None:
    """Wait for a condition; say what stood instead when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.25)
