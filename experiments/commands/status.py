"""``status``: what state each run of a study is in, from its files, and what Slurm's queue holds of it; needs no accounting.

Again and again: ``watch make status STUDY=...``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.cluster.status import Seen, look, look_up, queue_lines
from experiments.cluster.submissions import read_submissions
from experiments.runtime.console import plain_console, print_failure, print_table
from experiments.study.arguments import StudyChoice, read
from experiments.study.runs import Run
from experiments.training.sweep_view import STYLES


@dataclass(frozen=True)
class Options(StudyChoice):
    """Which study is shown."""


def run(options: Options) -> int:
    """Print the state of every run, and of the queue."""
    folder = options.folder
    console = plain_console()
    submissions = read_submissions(folder)
    queue, remark = look_up(submissions)
    show(folder, look(folder, submissions, queue), console)
    for line in [*queue_lines(queue), *([remark] if remark else [])]:
        console.print(line)
    return 0


def show(folder: Path, seen: Mapping[Run, Seen], console: Console) -> None:
    """Print the table, the sum, and why runs failed."""
    several = len({run.seed for run in seen}) > 1
    table = Table(title=f"study {folder.name}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("input", no_wrap=True)
    for fold in sorted({run.fold for run in seen}):
        table.add_column(f"fold {fold}", no_wrap=True)
    rows: dict[tuple[int, str], list[Text]] = {}
    for run, view in seen.items():
        rows.setdefault((run.seed, run.input), []).append(Text(view.text, style=STYLES[view.state]))
    for (seed, name), cells in rows.items():
        table.add_row(f"{name} (seed {seed})" if several else name, *cells)
    print_table(console, table)
    counts = Counter(view.state for view in seen.values())
    console.print(", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state]))
    for run, view in seen.items():
        if view.state == "failed":
            print_failure(console, f"{run.name}: {view.error}")


def main(arguments: Sequence[str]) -> int:
    """Command line of ``status``."""
    return run(read(Options, arguments))
