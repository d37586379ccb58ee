"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.analysis.comparison import StudyComparison
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.significance import Estimate

TITLES = {"balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}


def show(found: StudyComparison, folder: Path, console: Console) -> None:
    """Print both tables, what they mean, and where everything lies."""
    seeds = f"seed {found.seed}" if len(found.seeds) == 1 else f"mean over seeds {', '.join(map(str, found.seeds))}"
    title = f"study {found.study}: {found.patients} patients, {found.scans} scans ({found.positives} positive), {seeds}"
    _print(console, _performance(found, title))
    console.print(
        f"In brackets: 95 % intervals, patient-cluster bootstrap, {found.draws} draws. Threshold from each fold's tuning part."
    )
    for line in [*_chance_lines(found), *_seed_lines(found)]:
        console.print(line)
    if found.paired or found.paired_baselines:
        _print(console, _differences(found.paired, found.paired_baselines))
    for note in found.notes:
        console.print(f"[yellow]note[/yellow]: {note}")
    if found.missing:
        told = f"{len(found.missing)} runs are missing, all inputs are cut to the folds they share."
        console.print(f"[bold yellow]PARTIAL[/bold yellow]: {told}")
    console.print(f"study: {folder}, table: {folder / 'comparison.tsv'}")
    offline = len(list(folder.glob("**/wandb/offline-run-*")))
    if offline:
        console.print(f"W&B: {offline} offline runs in {folder}/*/fold-*/seed-*/wandb; look: make leet, upload: make sync")


def _chance_lines(found: StudyComparison) -> list[str]:
    """Which inputs are not above chance; nothing where all are."""
    told = found.details.get("chance") or {}
    low = [name for name in found.estimates if told.get(name, {}).get("words", "above chance") != "above chance"]
    return [f"AUC not shown to be above chance (allowing for overlapping training parts): {', '.join(low)}."] if low else []


def _seed_lines(found: StudyComparison) -> list[str]:
    """What the seeds change: spread of each input, agreement of the rank orders; nothing with one seed."""
    report: Mapping[str, Any] = (found.details.get("seeds") or {}).get("balanced_accuracy") or {}
    if not report:
        return []
    spread = ", ".join(f"{name} {one['sd']:.3f}" for name, one in report["spread"].items())
    agree = "undefined" if report["concordance"] is None else f"{report['concordance']:.2f}"
    return [
        f"SD of balanced accuracy between {report['seeds']} seeds: {spread}.",
        f"Agreement of the inputs' order between seeds (Kendall's W, 1 is the same order): {agree}.",
    ]


def _print(console: Console, table: Table) -> None:
    """Print a table whole, also where the terminal is narrower or there is none."""
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(highlight=False, width=max(console.width, needed), file=console.file).print(table)


def _performance(found: StudyComparison, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("input", no_wrap=True)
    for name in TITLES.values():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("balanced accuracy over folds", justify="right", no_wrap=True)
    for name, metrics in found.estimates.items():
        last = name == list(found.estimates)[-1]
        table.add_row(
            name, *(_interval(metrics[metric]) for metric in TITLES), _spread(metrics["balanced_accuracy"]), end_section=last
        )
    for name, metrics in found.baselines.items():
        table.add_row(f"{name} *", *(_interval(metrics[metric]) for metric in TITLES), _spread(metrics["balanced_accuracy"]))
    if found.baselines:
        table.caption, table.caption_justify = "* baseline without a network, on the same folds", "left"
    return table


def _differences(paired: Sequence[Paired], baselines: Sequence[Paired]) -> Table:
    table = Table(title="balanced accuracy minus that of global, on the same patients", title_justify="left", box=SIMPLE_HEAD)
    columns: dict[str, Literal["left", "right"]] = {
        "input": "left",
        "difference": "right",
        "p (Holm)": "right",
        "verdict": "left",
    }
    for name, side in columns.items():
        table.add_column(name, justify=side, no_wrap=True)
    marked = [(one.first, one, one is paired[-1]) for one in paired] + [(f"{one.first} *", one, False) for one in baselines]
    for name, one, last in marked:
        p = "undefined" if one.p_holm is None else f"{one.p_holm:.3f}" if one.p_holm >= 0.001 else "< 0.001"
        table.add_row(name, _interval(one.difference, sign="+"), p, one.verdict, end_section=last)
    if baselines:
        table.caption, table.caption_justify = "* baselines, a Holm family of their own", "left"
    return table


def _interval(one: Estimate, sign: str = "") -> str:
    if one.value is None:
        return "undefined"
    text = f"{one.value:{sign}.2f}"
    return text if one.low is None or one.high is None else f"{text} \\[{one.low:{sign}.2f}, {one.high:{sign}.2f}]"


def _spread(one: Estimate) -> str:
    if one.fold_mean is None:
        return "undefined"
    return f"{one.fold_mean:.2f}" if one.fold_sd is None else f"{one.fold_mean:.2f} +/- {one.fold_sd:.2f}"
