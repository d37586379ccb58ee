"""``cancel``: take the study's jobs out of Slurm's queue; what is finished stays, and interrupted runs can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.cluster.resources import ClusterError
from experiments.cluster.submissions import ask_queue, one_line, read_submissions, slurm
from experiments.study.arguments import StudyChoice, read


@dataclass(frozen=True)
class Options(StudyChoice):
    """Which study's jobs are cancelled."""


def run(options: Options) -> int:
    """Cancel the study's jobs.

    Raises:
        ClusterError: if Slurm does not answer or refuses.
    """
    folder = options.folder
    queue = ask_queue(read_submissions(folder))
    ids = [*queue.arrays, *(job.id for job in queue.compares)]
    if not ids:
        print(f"no job of {folder} is queued or running")
        return 0
    done = slurm(["scancel", *ids])
    if done.returncode:
        raise ClusterError(f"scancel refused: {one_line(done.stderr)}")
    running = sum(job.running for job in queue.runs.values())
    waiting = len(queue.runs) - running
    print(f"cancelled {running} running and {waiting} queued runs of {folder} (jobs {', '.join(ids)}); go on: make submit")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``cancel``."""
    return run(read(Options, arguments))
