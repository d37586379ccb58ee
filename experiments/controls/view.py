"""The controls in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.runtime.console import print_table
from experiments.statistics.numeric import TITLES
from experiments.statistics.numeric_pairs import NUMERIC_INTERVAL
from experiments.statistics.significance import INTERVAL, interval_text

MARKS = {"ok": "", "info": "", "warning": "! "}


def show(outcome: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print a table with a line for each control, and where everything lies."""
    side = outcome["spacing_mm"][0]
    title = (
        f"controls of {outcome['study']}: voxels of {side:g} mm, {outcome['epochs']} epochs, mask mode {outcome['mask_mode']}"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("input", no_wrap=True)
    table.add_column("control", no_wrap=True)
    metric = outcome["metric"]
    score = TITLES.get(metric, "AUC")
    table.add_column(f"{score} (AUC of sex, field strength)" if metric in TITLES else score, justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in sorted(outcome["controls"], key=lambda control: _place(control, outcome["inputs"])):
        text = row["verdict"] if row["reason"] is None else f"not run: {row['reason']}"
        table.add_row(
            row["input"] or "",
            row["title"],
            _interval((row["estimates"] or {}).get(metric) or (row["estimates"] or {}).get("auc")),
            _interval((row["difference"] or {}).get(metric), "+"),
            Text.assemble((MARKS[row["flag"]], "bold yellow"), text),
        )
    print_table(console, table)
    interval = NUMERIC_INTERVAL if metric in TITLES else INTERVAL
    console.print(f"In brackets: 95 % intervals, {interval.removeprefix('95 % ')}; {outcome['draws']} draws.")
    console.print(f"Difference: {score} of the image minus that of the control; of the leaky split, leaky minus honest.")
    console.print(f"study: {folder}, table: {folder / 'controls.tsv'}")


def _place(row: Mapping[str, Any], inputs: list[str]) -> tuple[int, int]:
    """Inputs in their order, what concerns the study as a whole at the end."""
    of_study = row["control"] in ("header_only", "sex", "field_strength", "leaky")
    return int(of_study), inputs.index(row["input"]) if row["input"] else len(inputs)


def _interval(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    return "" if estimate is None or estimate["value"] is None else interval_text(estimate, sign)
