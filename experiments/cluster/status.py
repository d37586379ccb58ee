"""What state each run of a study is in, from its files, and what Slurm's queue holds of it; needs no accounting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.files.listing import list_folder
from experiments.cluster.resources import ClusterError
from experiments.cluster.submissions import Job, Queue, Submission, ask_queue
from experiments.study.grid import folds_of
from experiments.study.run_folder import Fingerprint, RunFolder
from experiments.study.runs import Run, grid
from regions.catalog import REGIONS

NAMES = {"complete": "done", "missing": "-"}


@dataclass(frozen=True)
class Seen:
    """One run as its files and the queue show it."""

    state: str
    attempts: int
    progress: Mapping[str, Any]
    error: str
    job: Job | None

    @property
    def text(self) -> str:
        """What stands in the table: state or epoch, number of starts if more than one, and the Slurm state."""
        words = [NAMES.get(self.state, self.state)]
        if self.state in ("running", "interrupted") and self.progress:
            words = [f"{self.progress['epoch']}/{self.progress['max_epochs']}"]
        words += [f"x{self.attempts}"] if self.attempts > 1 else []
        if self.job is not None and self.state != "complete":
            words += [self.job.where] if self.job.running else ["queued"]
        elif self.state == "interrupted":
            words += ["stopped"] if self.progress else []
        return " ".join(words).removeprefix("- ")


def look_up(submissions: Sequence[Submission]) -> tuple[Queue, str]:
    """The queue, or an empty one and why it cannot be seen."""
    if not submissions:
        return Queue({}, ()), ""
    try:
        return ask_queue(submissions), ""
    except ClusterError as error:
        return Queue({}, ()), f"the queue cannot be seen, this is what the files say: {error}"


def look(folder: Path, submissions: Sequence[Submission], queue: Queue) -> dict[Run, Seen]:
    """Every run of the study: those that have a folder or were submitted, and the rest of their rows."""
    prints = Fingerprint.of(submissions[-1].fingerprint) if submissions else None
    return {run: _see(RunFolder(run.folder(folder)), prints, queue.runs.get(run)) for run in runs_of(folder, submissions)}


def runs_of(folder: Path, submissions: Sequence[Submission]) -> list[Run]:
    """The grid of inputs and seeds that the study holds or that were submitted; the six inputs where there are none."""
    begun = {
        Run(p.parts[-4], int(p.parts[-3][5:]), int(p.parts[-2][5:]))
        for p in list_folder(folder, "*/fold-*/seed-*/run.json")
        if "aside" not in str(p)
    }
    begun |= {run for submission in submissions for run in submission.runs}
    order = {name: position for position, name in enumerate(REGIONS)}
    names = sorted({run.input for run in begun} or set(REGIONS), key=lambda name: (order.get(name, len(order)), name))
    return grid(names, sorted({run.seed for run in begun}) or [0], folds_of(folder))


def _see(run_folder: RunFolder, prints: Fingerprint | None, job: Job | None) -> Seen:
    facts = run_folder.facts()
    if prints is None and facts:
        prints = Fingerprint.of(facts["fingerprint"])
    state: str = run_folder.state(prints) if prints else "missing"
    if state == "interrupted" and job is not None and job.state == "RUNNING" and facts.get("state") == "running":
        state = "running"  # the lock of another node is not seen on every file system
    path = run_folder.path / "progress.json"
    progress = json.loads(path.read_text(encoding="utf-8")) if state in ("running", "interrupted") and path.is_file() else {}
    return Seen(state, facts.get("attempts", 0), progress, str(facts.get("error", "")), job)


def queue_lines(queue: Queue) -> list[str]:
    """What the queue holds, one array per line."""
    lines = []
    for array in queue.arrays:
        jobs = sorted((job for job in queue.runs.values() if job.id.startswith(f"{array}_")), key=lambda job: not job.running)
        counts = Counter(f"{job.state.lower()} {job.where if job.where.startswith('(') else ''}".strip() for job in jobs)
        lines.append(f"array {array}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return [*lines, *(f"job {job.id}: comparison, {job.state.lower()} {job.where}" for job in queue.compares)]
