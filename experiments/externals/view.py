"""The external results in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

TITLES = {"balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}


def show(found: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the primary models, the drop from the internal test, and how they were frozen."""
    counts = (
        f"{found['patients']} patients, {found['scans']} scans ({found['positives']} positive), {len(found['sites'])} sites"
    )
    _print(console, _performance(found, f"external cohort {found['cohort']}: {counts}"))
    console.print(f"Primary model: {found['primary']}. In brackets: {found['interval']}, {found['draws']} draws.")
    _print(console, _drops(found))
    _print(console, _sites(found))
    if found["paired"]:
        _print(console, _differences(found))
    for remark in found["remarks"]:
        console.print(f"Note: {remark}", markup=False)
    if found["frozen_after_labels"]:
        console.print(
            "[bold yellow]FROZEN AGAIN[/bold yellow]: labels of this cohort were read before these models were frozen."
        )
    frozen = found["frozen"]
    console.print(f"frozen {frozen['time']} (SHA-256 {frozen['hash'][:16]}), labels read {found['labels_read']}")
    console.print(f"table: {folder / 'external.json'}, predictions: {folder / 'predictions.tsv'}")


def _performance(found: Mapping[str, Any], title: str) -> Table:
    table = _table(title, "input", *TITLES.values())
    for one in found["inputs"]:
        table.add_row(one["input"], *(_interval(one["ensemble"][metric]) for metric in TITLES))
    return table


def _drops(found: Mapping[str, Any]) -> Table:
    title = "balanced accuracy: internal test, the folds' models here one by one, and what was lost"
    table = _table(
        title, "input", "internal", "single models (mean +/- SD)", "drop, like for like", "drop to the primary model"
    )
    for one in found["inputs"]:
        metric = "balanced_accuracy"
        table.add_row(
            one["input"],
            _interval(one["internal"][metric]),
            _spread(one["single"][metric]),
            _interval(one["drop"][metric], "+"),
            _interval(one["drop_to_ensemble"][metric], "+"),
        )
    return table


def _sites(found: Mapping[str, Any]) -> Table:
    names = [one["input"] for one in found["inputs"]]
    table = _table("balanced accuracy by site", "site", "patients", "positive", *names)
    for place, site in enumerate(found["sites"]):
        values = (_interval(one["sites"][place]["balanced_accuracy"]) for one in found["inputs"])
        table.add_row(site["site"] or "unknown", str(site["patients"]), str(site["positives"]), *values)
    ranges = [one["leave_one_site_out"].get("balanced_accuracy") for one in found["inputs"]]
    if all(ranges):
        table.add_row("one left out", "", "", *(f"{_two(one['low'])} to {_two(one['high'])}" for one in ranges if one))
    return table


def _differences(found: Mapping[str, Any]) -> Table:
    table = _table("balanced accuracy minus that of global, primary models", "input", "difference", "p (Holm)", "verdict")
    for one in found["paired"]:
        p = "undefined" if one["p_holm"] is None else f"{one['p_holm']:.3f}" if one["p_holm"] >= 0.001 else "< 0.001"
        table.add_row(one["first"], _interval(one["difference"], "+"), p, one["verdict"])
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    return table


def _print(console: Console, table: Table) -> None:
    """Print a table whole, also where the terminal is narrower or there is none."""
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(highlight=False, width=max(console.width, needed), file=console.file).print(table)


def _two(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _spread(one: Mapping[str, Any]) -> str:
    return _two(one["mean"]) + ("" if one["sd"] is None else f" +/- {one['sd']:.2f}")


def _interval(one: Mapping[str, Any], sign: str = "") -> str:
    if one["value"] is None:
        return "undefined"
    text = f"{one['value']:{sign}.2f}"
    return text if one["low"] is None or one["high"] is None else f"{text} \\[{one['low']:{sign}.2f}, {one['high']:{sign}.2f}]"
