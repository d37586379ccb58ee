"""What a command shows in a terminal: its lines as they stand, and of long work a bar with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def plain_console() -> Console:
    """A console that prints each text as it stands: names of columns, ids and paths may hold brackets, as ``lesions [ml]``."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def print_note(console: Console, text: str) -> None:
    """Print a line that begins with ``note``, the rest as it stands."""
    console.print(Text.assemble(("note", "yellow"), f": {text}"))


def print_failure(console: Console, text: str) -> None:
    """Print a line that begins with ``failed``, the rest as it stands."""
    console.print(Text.assemble(("failed", "red"), f" {text}"))


def print_table(console: Console, table: Table) -> None:
    """Print a table whole, also where the terminal is narrower or there is none; texts in it as they stand."""
    plain = Console(highlight=False, markup=False, file=console.file)
    needed = plain.measure(table, options=plain.options.update(width=1000)).maximum
    plain.width = max(console.width, needed)
    plain.print(table)


@contextmanager
def bar(console: Console, text: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left; yields what moves it to (done, to do). Silent where there is no terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(text, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
