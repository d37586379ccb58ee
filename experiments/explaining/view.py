"""The explanation in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.runtime.console import print_table
from experiments.statistics.significance import interval_text


def show(content: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print what is said of each input, its regions, and where everything lies."""
    for row in content["inputs"]:
        if row["regions"]:
            _show_regions(row, console)
    for row in content["inputs"]:
        console.print(f"{row['input']}: AUC {interval_text(row['auc'])}; {row['verdict']}.")
    method = content["method"]
    console.print(
        f"SmoothGrad of {method['draws']} noisy copies, noise {method['sigma']:g} of the range; "
        f"{method['networks']} networks with permuted labels, in brackets the 95 % prediction interval of their mean. "
        "Relevance per voxel: 1 is the mean of the input."
    )
    console.print("AUC lost: with the region, minus showing there what the training part shows on average.")
    maps = folder / "explain" / "maps"
    shown = [row["input"] for row in content["inputs"] if row["maps"]]
    console.print(f"maps of {', '.join(shown)}: {maps}" if shown else "no map may be shown, so none is written")
    console.print(f"study: {folder}, table: {folder / 'explain.tsv'}; next: make report STUDY={folder.name}")


def _show_regions(row: Mapping[str, Any], console: Console) -> None:
    title = f"{row['input']}: where {row['networks']['trained']} networks look"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("region", no_wrap=True)
    for name in ("relevance per voxel", "permuted networks", "ratio", "p (Holm)", "AUC lost without it", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for region in row["regions"]:
        pair = region["occlusion"] or {}
        table.add_row(
            region_label(region),
            f"{region['density']:.2f}",
            _band(region),
            _number(region["ratio"]),
            _p(region["p_holm"]),
            interval_text(pair.get("difference"), "+") if pair else "",
            _p(pair.get("p_holm")) if pair else "",
            region["verdict"],
        )
    print_table(console, table)


def region_label(region: Mapping[str, Any]) -> str:
    """Name of a region, with what was taken out of it."""
    return f"{region['name']} (the rest of it)" if region["without"] else str(region["name"])


def _band(region: Mapping[str, Any]) -> str:
    if region["band_low"] is None:
        return "not known"
    return f"{region['permuted']:.2f} [{region['band_low']:.2f}, {region['band_high']:.2f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
