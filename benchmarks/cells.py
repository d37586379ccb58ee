"""Measurements that take long, kept as they come: a table to which each of them adds its rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def append_cells(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table, which is begun where it is missing; numbers have five digits, None is empty."""
    fresh = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.5g}" if isinstance(v, float) else "" if v is None else v for name, v in row.items()})


def kept_cells(path: Path) -> list[dict[str, str]]:
    """The rows of a table as texts; none where it is missing."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
