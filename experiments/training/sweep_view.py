"""What a sweep shows: inputs by folds, the state of each run, and how long it still takes; drawn from the run folders alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.runtime.words import plural
from experiments.study.run_folder import Fingerprint, RunFolder, State
from experiments.study.runs import Run
from experiments.study.study import Study

STYLES = {
    "complete": "green",
    "running": "bold cyan",
    "failed": "bold red",
    "interrupted": "yellow",
    "missing": "dim",
    "stale": "magenta",
}


class SweepView:
    """A live table in a terminal, a line per finished run in a log.

    Args:
        study: The study.
        fingerprint: What its results depend on.
        runs: The runs of the sweep.
        workers: Number of workers.
        console: Where it is shown.
    """

    def __init__(self, study: Study, fingerprint: Fingerprint, runs: Sequence[Run], workers: int, console: Console) -> None:
        self.study, self.fingerprint, self.runs, self.workers, self.console = study, fingerprint, list(runs), workers, console
        self._state: dict[Run, State] = {}
        self._progress: dict[Run, dict[str, Any]] = {}
        self._seconds: dict[Run, float] = {}
        self._began = time.monotonic()
        self._read()
        self._known = set(self._of("complete"))
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.update()
        if self._live is not None:
            self._live.stop()

    def opening(self) -> str:
        """One line: how many runs, what is done already, how many workers."""
        total, done = len(self.runs), len(self._known)
        text = f"{plural(total, 'run')} of study {self.study.folder.name}: {done} complete, {total - done} to do"
        return f"{text}, {self.workers} worker{'s' if self.workers != 1 else ''}"

    def update(self) -> None:
        """Read the folders and draw."""
        self._read()
        new = [run for run in self.runs if self._state[run] == "complete" and run not in self._known]
        self._known.update(new)
        if self._live is not None:
            self._live.update(Group(self._table(), Text(self._footer())), refresh=True)
            return
        for run in new:
            self.console.print(
                f"[{len(self._known)}/{len(self.runs)}] {run.name} {self._seconds.get(run, 0):.0f} s, {self._left()}"
            )

    def failures(self) -> list[tuple[Run, str]]:
        """Runs that failed, with their errors."""
        return [(run, str(RunFolder(run.folder(self.study.folder)).facts().get("error"))) for run in self._of("failed")]

    def unfinished(self) -> int:
        """Number of runs that are not complete."""
        return len(self.runs) - len(self._of("complete"))

    def _of(self, state: State) -> list[Run]:
        return [run for run in self.runs if self._state[run] == state]

    def _read(self) -> None:
        for run in self.runs:
            if self._state.get(run) == "complete":
                continue
            folder = RunFolder(run.folder(self.study.folder))
            self._state[run] = folder.state(self.fingerprint)
            if self._state[run] == "complete":
                seconds = folder.facts()["seconds"]
                self._seconds[run] = max(seconds["training"], seconds["this_attempt"])  # one that went on was trained before
            elif self._state[run] in ("running", "interrupted"):
                path = folder.path / "progress.json"
                self._progress[run] = json.loads(path.read_text()) if path.is_file() else {}

    def _table(self) -> Table:
        folds = sorted({run.fold for run in self.runs})
        several = len({run.seed for run in self.runs}) > 1
        table = Table(title=f"study {self.study.folder.name}", title_justify="left", box=SIMPLE_HEAD)
        table.add_column("input", no_wrap=True)
        for fold in folds:
            table.add_column(f"fold {fold}", min_width=8, no_wrap=True)
        rows: dict[tuple[int, str], dict[int, Run]] = {}
        for run in self.runs:
            rows.setdefault((run.seed, run.input), {})[run.fold] = run
        for (seed, name), cells in rows.items():
            title = f"{name} (seed {seed})" if several else name
            table.add_row(title, *(self._cell(cells[fold]) for fold in folds))
        return table

    def _cell(self, run: Run) -> Text:
        state = self._state[run]
        progress = self._progress.get(run, {})
        text = {"complete": "done", "missing": "-"}.get(state, state)
        if state == "running":
            text = f"{progress['epoch']}/{progress['max_epochs']}" if progress else "starting"
        return Text(text, style=STYLES[state])

    def _footer(self) -> str:
        done, failed = len(self._of("complete")), len(self._of("failed"))
        text = f"{done} of {len(self.runs)} complete, {len(self._of('running'))} running"
        text += f", {failed} failed" if failed else ""
        return f"{text}, {_clock(time.monotonic() - self._began)} so far, {self._left()}"

    def _left(self) -> str:
        """Time left: mean seconds of each input's finished runs, those of the slowest input where there is none."""
        left = [run for run in self.runs if self._state[run] not in ("complete", "failed")]
        if not left:
            return "done"
        if not self._seconds:
            return "time left not known yet"
        by_input: dict[str, list[float]] = {}
        for run, seconds in self._seconds.items():
            by_input.setdefault(run.input, []).append(seconds)
        mean = {name: sum(all_) / len(all_) for name, all_ in by_input.items()}
        worst = max(mean.values())
        total = sum(mean.get(run.input, worst) * (1 - self._share(run)) for run in left)
        return f"about {_clock(total / max(1, min(self.workers, len(left))))} left"

    def _share(self, run: Run) -> float:
        progress = self._progress.get(run)
        return progress["epoch"] / progress["max_epochs"] if progress else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
