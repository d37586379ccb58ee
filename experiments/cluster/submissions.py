"""What was submitted to Slurm for a study, and what of it stands in the queue; asks ``squeue`` alone, needs no accounting.

::

    <study>/cluster/<stamp>/  runs.tsv  settings.yaml  array.sh  compare.sh  submission.json  logs/task-<n>.log
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.files.listing import list_folder
from experiments.cluster.resources import ClusterError
from experiments.cluster.scripts import read_runs_table
from experiments.study.runs import Run

ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Submission:
    """One array of runs, and the comparison that waits for it."""

    folder: Path
    job: str
    """Name of the array's job; the comparison's ends in ``-compare``."""
    array: str
    compare: str | None
    fingerprint: dict[str, str]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Job:
    """One line of the queue."""

    id: str
    state: str
    """RUNNING, PENDING, ... in Slurm's words."""
    where: str
    """The node, or in brackets why it waits."""

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.state in ("RUNNING", "COMPLETING")


@dataclass(frozen=True)
class Queue:
    """What of a study stands in the queue."""

    runs: dict[Run, Job]
    compares: tuple[Job, ...]

    @property
    def arrays(self) -> list[str]:
        """Ids of the arrays that have not ended."""
        return list(dict.fromkeys(job.id.partition("_")[0] for job in self.runs.values()))


def read_submissions(study: Path) -> list[Submission]:
    """The study's submissions, oldest first. Without ``submission.json`` a folder was never handed over."""
    submissions = []
    for path in list_folder(study, "cluster/*/submission.json"):
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            runs = read_runs_table((path.parent / "runs.tsv").read_text(encoding="utf-8"))
            submissions.append(
                Submission(path.parent, facts["job"], facts["array"], facts["compare"], facts["fingerprint"], runs)
            )
        except (ValueError, KeyError) as error:
            raise ClusterError(f"{path.parent} is damaged ({error}); see squeue for its jobs, then delete the folder") from None
    return submissions


def ask_queue(submissions: Sequence[Submission]) -> Queue:
    """Find the submissions' jobs in the queue, by id and name, because another cluster counts its ids from 1 again.

    Raises:
        ClusterError: if there is no ``squeue`` or it does not answer.
    """
    arrays = {submission.array: submission for submission in submissions}
    compares = {submission.compare: submission for submission in submissions if submission.compare}
    runs: dict[Run, Job] = {}
    waiting: list[Job] = []
    for line in _squeue([*arrays, *compares]):
        number, state, name, where = line.split("|", 3)
        array, _, task = number.partition("_")
        if task.isdecimal() and array in arrays and name == arrays[array].job:
            runs[arrays[array].runs[int(task)]] = Job(number, state, where)
        elif number in compares and name == f"{compares[number].job}-compare":
            waiting.append(Job(number, state, where))
    return Queue(runs, tuple(waiting))


def _squeue(ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    words = ["squeue", "--noheader", "--array", "--format=%i|%T|%j|%R", f"--jobs={','.join(ids)}"]
    done = slurm(words)
    if done.returncode and "Invalid job id" in done.stderr:
        return []
    if done.returncode:
        raise ClusterError(f"squeue does not answer: {one_line(done.stderr)}")
    return done.stdout.splitlines()


def slurm(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands.

    Raises:
        ClusterError: if it is not there or does not end.
    """
    require(words[0])
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{words[0]} gave no answer within {ANSWER_SECONDS} s; is the cluster up? look: sinfo") from None


def require(name: str) -> None:
    """Make sure that a command is there.

    Raises:
        ClusterError: if it is not.
    """
    if shutil.which(name) is None:
        raise ClusterError(
            f"{name} is not on PATH, so this is not a Slurm cluster; here: make sweep, or read the script: --dry_run"
        )


def one_line(text: str) -> str:
    """A command's complaint on one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or "no reason given"
