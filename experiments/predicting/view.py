"""A prediction in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.predicting.coverage import HOW, coverage_words
from experiments.predicting.files import PAGE, TABLE, Run
from experiments.predicting.judging import counts
from experiments.predicting.records import NOTICE, ClassPrediction, InputOutcome, ScanOutcome
from experiments.runtime.console import print_table
from experiments.runtime.words import plural

MOST_SHOWN = 20


def show(outcomes: Sequence[ScanOutcome], run: Run, out: Path, console: Console) -> None:
    """Print what is said of the first scans, why scans are not ok, and where the rest is."""
    table = _table(outcomes[:MOST_SHOWN], run)
    print_table(console, table)
    if len(outcomes) > MOST_SHOWN:
        console.print(f"and {len(outcomes) - MOST_SHOWN} more scans in the table")
    for outcome in outcomes[:MOST_SHOWN]:
        for line in _reasons(outcome):
            console.print(f"  {line}")
    level = run.asking.wanted.level
    what = "intervals" if run.is_number else "sets of labels"
    console.print(f"{what} at {level:.0%}; measured on {HOW}:")
    for bundle in run.bundles:
        console.print(f"  {bundle.input}: {coverage_words(bundle, level)}")
    number = counts(outcomes)
    said = ", ".join(f"{count} {verdict}" for verdict, count in number.items() if count)
    console.print(f"{plural(len(outcomes), 'scan')}: {said}; table: {out / TABLE}, page: {out / PAGE}")
    console.print(NOTICE)


def _table(outcomes: Sequence[ScanOutcome], run: Run) -> Table:
    bundle = run.bundles[0]
    what = "number and interval" if run.is_number else f"probability and set of labels at {run.asking.wanted.level:.0%}"
    table = Table(title=f"study {bundle.study}: {bundle.target.describe()}; {what}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("scan", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for each in run.bundles:
        table.add_column(each.input, justify="right", no_wrap=True)
    for outcome in outcomes:
        cells = [prediction_text(each) for each in outcome.inputs] or ["-"] * len(run.bundles)
        table.add_row(outcome.name, outcome.verdict, *cells)
    return table


def prediction_text(outcome: InputOutcome) -> str:
    """The probability and the set, or the number and the interval, in a few characters."""
    prediction = outcome.prediction
    if prediction is None:
        return "-"
    if isinstance(prediction, ClassPrediction):
        return f"{prediction.probability:.2f} {prediction.label_set}"
    number, low, high = map(prediction.shown, (prediction.number, prediction.low, prediction.high))
    return f"{number} [{low}, {high}]"


def _reasons(outcome: ScanOutcome) -> list[str]:
    lines = [f"{outcome.name}  {reason.verdict}  {reason.text}" for reason in outcome.reasons]
    return lines + [f"{outcome.name}  {each.input}  {r.verdict}  {r.text}" for each in outcome.inputs for r in each.reasons]
