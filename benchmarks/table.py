"""Results as files and on the terminal: ``benchmarks/results/<name>.tsv``, and what it ran on in ``<name>.json`` beside it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.hardware import seen, sentence

RESULTS = Path(__file__).with_name("results")
WIDTH = 130
SHARES = ("waiting", "preparing", "step", "overhead", "busy", "speed_share", "share")
"""Columns that hold a share of 1."""
Row = Mapping[str, Any]


class BenchError(ValueError):
    """A measurement that cannot be made or read."""


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest."""
    return median(values), min(values), max(values)


def publish(name: str, title: str, rows: Sequence[Row], notes: Sequence[str] = (), save: bool = True, **facts: Any) -> None:
    """Print a table, and keep it where ``save`` says so.

    Args:
        name: Name of the files.
        title: Title of the table.
        rows: Equal keys in equal order; floats are rounded to five digits.
        notes: Lines below the table, kept with it.
        save: Write the files.
        facts: What else belongs to the run, for example its options.
    """
    hardware = seen()
    show(title, rows, [*notes, sentence(hardware)])
    if save:
        RESULTS.mkdir(exist_ok=True)
        lines = ["\t".join(rows[0]), *("\t".join(_text(value) for value in row.values()) for row in rows)]
        (RESULTS / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = {"title": title, "notes": list(notes), "hardware": hardware, **facts}
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def show(title: str, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Print rows as an aligned table: text to the left, numbers to the right, a blank line between groups of the first."""
    columns = list(rows[0])
    cells = [[shown(column, value) for column, value in row.items()] for row in rows]
    words = [[column.replace("_", " ") for column in columns], *cells]
    sides = [max(len(line[column]) for line in words) for column in range(len(columns))]
    left = [isinstance(value, str) for value in rows[0].values()]

    def line(texts: Sequence[str]) -> str:
        parts = (
            text.ljust(side) if to_left else text.rjust(side) for text, side, to_left in zip(texts, sides, left, strict=True)
        )
        return "  " + "   ".join(parts).rstrip()

    print(f"\n{title}\n\n{line(words[0])}\n  {'-' * (sum(sides) + 3 * len(sides) - 3)}")
    grouped = len({texts[0] for texts in cells}) < len(cells)
    for before, texts in zip([cells[0], *cells], cells, strict=False):
        if grouped and before[0] != texts[0]:
            print()
        print(line(texts))
    print()
    for note in notes:
        print(textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="    "))
    print(flush=True)


def shown(column: str, value: Any) -> str:
    """A value as people read it: shares in per cent, other numbers with three digits."""
    if column.startswith(SHARES):
        return "-" if value is None else f"{float(value):.1%}"
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def read(name: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows and facts of a kept table.

    Raises:
        BenchError: if it is missing.
    """
    table, beside = RESULTS / f"{name}.tsv", RESULTS / f"{name}.json"
    if not table.is_file() or not beside.is_file():
        raise BenchError(f"{table} does not exist; make it with: python -m benchmarks {name}")
    columns, *lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    return [dict(zip(columns, line, strict=True)) for line in lines], json.loads(beside.read_text(encoding="utf-8"))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
