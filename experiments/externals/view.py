"""The external results in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.analysis.view import Words
from experiments.externals.score import like_for_like, sites_words
from experiments.runtime.console import print_table
from experiments.runtime.words import plural
from experiments.statistics.numeric_pairs import PRIMARY
from experiments.statistics.significance import interval_text, p_text


def words_of(results: Mapping[str, Any]) -> Words:
    """How the scores of external.json are called."""
    scores = [entry["ensemble"] for entry in results["inputs"]]
    errors = [score[PRIMARY]["value"] for score in scores if PRIMARY in score]
    return Words.of(results.get("target", {}), list(scores[0]), results.get("positives", 0), errors)


def show(results: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the primary models, their change from the internal test, and how they were frozen."""
    words = words_of(results)
    counts = f"{plural(results['patients'], 'patient')}, {plural(results['scans'], 'scan')} ({words.size})"
    counts += f", {sites_words(results['sites'])}"
    print_table(console, _performance(results, words, f"external cohort {results['cohort']}: {counts}"))
    console.print(f"Primary model: {results['primary']}. In brackets: {results['interval']}, {results['draws']} draws.")
    for metric in (words.primary, words.secondary):
        print_table(console, _changes(results, words, metric))
    console.print(like_for_like(results["inputs"][0]))
    print_table(console, _sites(results, words))
    if results["paired"]:
        print_table(console, _differences(results, words))
    for remark in (*results["same_decisions"], *results["remarks"]):
        console.print(f"Note: {remark}")
    if results["frozen_after_labels"]:
        again = "labels of this cohort were read before these models were frozen."
        console.print(Text.assemble(("FROZEN AGAIN", "bold yellow"), f": {again}"))
    frozen = results["frozen"]
    console.print(f"frozen {frozen['time']} (SHA-256 {frozen['hash'][:16]}), labels read {results['labels_read']}")
    console.print(f"table: {folder / 'external.json'}, predictions: {folder / 'predictions.tsv'}")


def _performance(results: Mapping[str, Any], words: Words, title: str) -> Table:
    table = _table(title, "input", *words.titles.values())
    for entry in results["inputs"]:
        table.add_row(
            entry["input"], *(_interval(entry["ensemble"][metric], "", words.digits(metric)) for metric in words.titles)
        )
    return table


def _changes(results: Mapping[str, Any], words: Words, metric: str) -> Table:
    title = f"{words.titles[metric]}: internal test, the folds' models here one by one, and external minus internal"
    table = _table(
        title,
        "input",
        "internal",
        "single models (mean +/- SD)",
        "change, like for like",
        "change to the ensemble",
    )
    digits = words.digits(metric)
    for entry in results["inputs"]:
        table.add_row(
            entry["input"],
            _interval(entry["internal"][metric], "", digits),
            _spread(entry["single"][metric], digits),
            _interval(entry["change"][metric], "+", digits),
            _interval(entry["change_to_ensemble"][metric], "+", digits),
        )
    return table


def _sites(results: Mapping[str, Any], words: Words) -> Table:
    names, metric = [entry["input"] for entry in results["inputs"]], words.primary
    counts = ("patients", "positives") if "positives" in results else ("patients",)
    table = _table(
        f"{words.titles[metric]} by site", "site", *(name.replace("positives", "positive") for name in counts), *names
    )
    for position, site in enumerate(results["sites"]):
        values = (_interval(entry["sites"][position][metric], "", words.digits(metric)) for entry in results["inputs"])
        table.add_row(site["site"] or "unknown", *(str(site[name]) for name in counts), *values)
    ranges = [entry["leave_one_site_out"].get(metric) for entry in results["inputs"]]
    if all(ranges):
        table.add_row(
            "one left out",
            *("" for _ in counts),
            *(" to ".join(_fixed(entry[end], words.digits(metric)) for end in ("low", "high")) for entry in ranges if entry),
        )
    return table


def _differences(results: Mapping[str, Any], words: Words) -> Table:
    title = f"{words.titles[words.primary]} minus that of global, primary models"
    table = _table(title, "input", "difference", "p (Holm)", "verdict")
    for pair in results["paired"]:
        p = p_text(pair["p_holm"])
        table.add_row(pair["first"], _interval(pair["difference"], "+", words.digits(words.primary)), p, pair["verdict"])
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    return table


def _fixed(value: float | None, digits: int) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _spread(estimate: Mapping[str, Any], digits: int) -> str:
    return _fixed(estimate["mean"], digits) + ("" if estimate["sd"] is None else f" +/- {estimate['sd']:.{digits}f}")


def _interval(estimate: Mapping[str, Any], sign: str, digits: int) -> str:
    return interval_text(estimate, sign, digits)
