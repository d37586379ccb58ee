"""The controls in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

MARKS = {"ok": "", "info": "", "warning": "[bold yellow]![/bold yellow] "}


def show(found: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print a table with a line for each control, and where everything lies."""
    side = found["spacing_mm"][0]
    title = f"controls of {found['study']}: voxels of {side:g} mm, {found['epochs']} epochs, mask mode {found['mask_mode']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("input", no_wrap=True)
    table.add_column("control", no_wrap=True)
    table.add_column("AUC", justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in sorted(found["controls"], key=lambda one: _place(one, found["inputs"])):
        told = row["verdict"] if row["reason"] is None else f"not run: {row['reason']}"
        table.add_row(
            row["input"] or "",
            row["title"],
            _interval((row["estimates"] or {}).get("auc")),
            _interval((row["difference"] or {}).get("auc"), "+"),
            MARKS[row["flag"]] + escape(told),
        )
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(highlight=False, width=max(console.width, needed), file=console.file).print(table)
    console.print(f"In brackets: 95 % intervals, patient-cluster bootstrap, {found['draws']} draws.")
    console.print("Difference: AUC of the image minus that of the control; of the leaky split, leaky minus honest.")
    console.print(f"study: {folder}, table: {folder / 'controls.tsv'}")


def _place(row: Mapping[str, Any], inputs: list[str]) -> tuple[int, int]:
    """Inputs in their order, what concerns the study as a whole at the end."""
    of_study = row["control"] in ("header_only", "sex", "field_strength", "leaky")
    return int(of_study), inputs.index(row["input"]) if row["input"] else len(inputs)


def _interval(one: Mapping[str, Any] | None, sign: str = "") -> str:
    if one is None or one["value"] is None:
        return ""
    text = f"{one['value']:{sign}.2f}"
    return text if one["low"] is None else f"{text} \\[{one['low']:{sign}.2f}, {one['high']:{sign}.2f}]"
