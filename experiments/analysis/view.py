"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datamodules.files.listing import list_folder
from experiments.analysis.comparison import StudyComparison, reader_sentence, stacked_sentences
from experiments.analysis.stacking import INPUTS_TOGETHER
from experiments.runtime.console import print_note, print_table
from experiments.runtime.words import plural
from experiments.statistics.numeric import shown_digits, title_of
from experiments.statistics.numeric_pairs import NUMERIC_INTERVAL, PRIMARY, SECONDARY
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.significance import INTERVAL, Estimate, interval_text, p_text
from experiments.study.record import decision_of
from lightning_modules.decision import DECISIONS


@dataclass(frozen=True)
class Words:
    """How a comparison's scores are called.

    Attributes:
        titles: Metric -> its column.
        primary: The primary metric.
        secondary: The one that ranks scans.
        size: What is said of the scans.
        shown: Metric -> digits after the point, where these are not 2.
    """

    titles: Mapping[str, str]
    primary: str
    secondary: str
    size: str
    shown: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, target: Mapping[str, Any], metrics: Iterable[str], positives: int, errors: Iterable[float | None] = ()
    ) -> Words:
        """Of two classes, or of a number.

        Args:
            target: As a comparison has it.
            metrics: Names of its scores.
            positives: Positive scans.
            errors: Of a number, the mean absolute errors, whose size says how many digits are shown.
        """
        if not target:
            return cls(TITLES, "balanced_accuracy", "auc", f"{positives} positive")
        unit = f", {target['unit']}" if target["unit"] else ""
        titles = {metric: title_of(metric) + (unit if metric in ("mae", "rmse") else "") for metric in metrics}
        return cls(titles, PRIMARY, SECONDARY, f"{target['name']}, {target['kind']}", shown_digits(errors))

    def digits(self, metric: str) -> int:
        """Digits after the point of a score."""
        return self.shown.get(metric, 2)


TITLES = {"balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}

NUMBER_RULE = "MAE and RMSE: lower is better. R2: against the mean of the training part. Spearman: within the folds."
Estimates = Mapping[str, Mapping[str, Estimate]]


def show(comparison: StudyComparison, folder: Path, console: Console) -> None:
    """Print both tables, what they mean, and where everything lies."""
    seeds = (
        f"seed {comparison.seed}" if len(comparison.seeds) == 1 else f"mean over seeds {', '.join(map(str, comparison.seeds))}"
    )
    first, everyone = next(iter(comparison.estimates.values())), comparison.estimates.values()
    errors = [metrics[PRIMARY].value for metrics in everyone if PRIMARY in metrics]
    words = Words.of(comparison.target, first, comparison.positives, errors)
    gap = f"{words.titles[words.primary]} minus that of"
    size = f"{plural(comparison.patients, 'patient')}, {plural(comparison.scans, 'scan')} ({words.size})"
    several = len(comparison.seeds) > 1
    title = f"study {comparison.study}: {size}, {'single networks, ' if several else ''}{seeds}"
    print_table(console, _performance(comparison.estimates, comparison.baselines, title, words))
    interval = NUMERIC_INTERVAL if comparison.target else INTERVAL
    rule = NUMBER_RULE if comparison.target else f"Threshold of each fold: {DECISIONS[decision_of(folder)]}."
    console.print(f"In brackets: 95 % intervals, {interval.removeprefix('95 % ')}; {comparison.draws} draws. {rule}")
    for line in [*_chance_lines(comparison, words), *_seed_lines(comparison, words)]:
        console.print(line)
    if comparison.paired or comparison.paired_baselines:
        title = f"{'single networks: ' if several else ''}{gap} global, on the same patients"
        print_table(console, _differences(comparison.paired, comparison.paired_baselines, title, words))
    if comparison.paired_readers:
        print_table(console, _readers(comparison, words))
    for line in _grouped(map(reader_sentence, comparison.paired_readers)):
        console.print(line)
    for table in _stacks(comparison, words):
        print_table(console, table)
    for line in _grouped(stacked_sentences(comparison)):
        console.print(line)
    if comparison.ensembles:
        title = f"ensembles: mean log odds of {len(comparison.seeds)} networks a scan, threshold by the same rule"
        title = f"ensembles: mean of {len(comparison.seeds)} networks a scan" if comparison.target else title
        print_table(console, _performance(comparison.ensembles, {}, title, words))
    if comparison.paired_ensembles:
        print_table(console, _differences(comparison.paired_ensembles, (), f"ensembles: {gap} global's ensemble", words))
    for note in comparison.notes:
        print_note(console, note)
    if comparison.missing:
        message = f"{plural(len(comparison.missing), 'run')} missing; all inputs are cut to the folds they share."
        console.print(Text.assemble(("PARTIAL", "bold yellow"), f": {message}"))
    console.print(f"study: {folder}, table: {folder / 'comparison.tsv'}")
    offline = len(list_folder(folder, "**/wandb/offline-run-*"))
    if offline:
        console.print(f"W&B: {plural(offline, 'offline run')} below {folder}; look: make leet, upload: make sync")


def _grouped(sentences: Iterable[str]) -> list[str]:
    """Each sentence about an input once, with the inputs that it holds for; one about no input as it is."""
    inputs: dict[str, list[str]] = {}
    for sentence in sentences:
        *names, words = sentence.split(": ", 1)
        inputs.setdefault(words, []).extend(names)
    return [f"{words}: {', '.join(names)}." if names else f"{words}." for words, names in inputs.items()]


def _chance_lines(comparison: StudyComparison, words: Words) -> list[str]:
    """Which inputs are not above chance; nothing where all are."""
    chance = comparison.details.get("chance") or {}
    low = [name for name in comparison.estimates if chance.get(name, {}).get("words", "above chance") != "above chance"]
    score = words.titles[words.secondary]
    return [f"{score} not shown to be above chance (allowing for overlapping training parts): {', '.join(low)}."] if low else []


def _seed_lines(comparison: StudyComparison, words: Words) -> list[str]:
    """What the seeds change: spread of each input, agreement of the rank orders; nothing with one seed."""
    report: Mapping[str, Any] = (comparison.details.get("seeds") or {}).get(words.primary) or {}
    if not report:
        return []
    shown = [metric for metric in (words.primary, words.secondary) if metric in comparison.details["seeds"]]
    agree = "undefined" if report["concordance"] is None else f"{report['concordance']:.2f}"
    spread = [f"SD of {words.titles[m]} between {report['seeds']} seeds: {_between(comparison, m, words)}." for m in shown]
    return [
        *spread,
        f"Agreement of the inputs' order between seeds (Kendall's W, 1 is the same order): {agree}.",
    ]


def _between(comparison: StudyComparison, metric: str, words: Words) -> str:
    """SD between seeds of each input."""
    spread = comparison.details["seeds"][metric]["spread"]
    return ", ".join(f"{name} {entry['sd']:.{words.digits(metric) + 1}f}" for name, entry in spread.items())


def _performance(estimates: Estimates, baselines: Estimates, title: str, words: Words) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("input", no_wrap=True)
    for name in words.titles.values():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{words.titles[words.primary]} over folds", justify="right", no_wrap=True)
    for name, metrics in estimates.items():
        table.add_row(name, *_scores(metrics, words), end_section=name == list(estimates)[-1])
    for name, metrics in baselines.items():
        table.add_row(f"{name} *", *_scores(metrics, words))
    if baselines:
        table.caption, table.caption_justify = "* baseline without a network, on the same folds", "left"
    return table


def _scores(metrics: Mapping[str, Estimate], words: Words) -> list[str]:
    """Each score with its interval, and the spread of the primary one over folds."""
    intervals = [_interval(metrics[metric], digits=words.digits(metric)) for metric in words.titles]
    return [*intervals, _spread(metrics[words.primary], words.digits(words.primary))]


def _differences(paired: Sequence[Paired], baselines: Sequence[Paired], title: str, words: Words) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    columns: dict[str, Literal["left", "right"]] = {
        "input": "left",
        "difference": "right",
        "p (Holm)": "right",
        "verdict": "left",
    }
    for name, side in columns.items():
        table.add_column(name, justify=side, no_wrap=True)
    marked = [(pair.first, pair, pair is paired[-1]) for pair in paired] + [
        (f"{pair.first} *", pair, False) for pair in baselines
    ]
    for name, pair, last in marked:
        gap = _interval(pair.difference, "+", words.digits(pair.metric))
        table.add_row(name, gap, _p_value(pair), pair.verdict, end_section=last)
    if baselines:
        table.caption, table.caption_justify = "* baselines, a Holm family of their own", "left"
    return table


def _readers(comparison: StudyComparison, words: Words) -> Table:
    score = words.titles[words.secondary]
    title = f"{score} of each network and of linear readers of its input, on the same patients"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("input", "linear reader"):
        table.add_column(name, no_wrap=True)
    for name in (f"network {score}", f"reader {score}", "difference", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for pair in comparison.paired_readers:
        scores = comparison.estimates[pair.first][words.secondary], comparison.readers[pair.second][words.secondary]
        cells = *map(_interval, scores), _interval(pair.difference, sign="+"), _p_value(pair)
        table.add_row(pair.first, pair.second.partition("/")[0], *cells, pair.verdict)
    return table


def _stacks(comparison: StudyComparison, words: Words) -> list[Table]:
    """Scores of the stacks, and the differences that they are made for; nothing without any."""
    if not comparison.stacked:
        return []
    parts = "inputs named below" if INPUTS_TOGETHER in comparison.stacked else "regions"
    title = f"log odds of networks stacked: all {parts} together, and each input beside age and sex"
    tables = [_performance(comparison.stacked, {}, title, words)]
    if comparison.paired_stacked:
        gap = f"{words.titles[words.primary]} minus that of global, on the same patients"
        tables.append(_differences(comparison.paired_stacked, (), gap, words))
    if comparison.paired_added:
        table = Table(title="added value: minus age_sex alone", title_justify="left", box=SIMPLE_HEAD)
        table.add_column("input", no_wrap=True)
        for name in ("AUC", "p (Holm)", "Brier score (less is better)", "p (Holm)"):
            table.add_column(name, justify="right", no_wrap=True)
        for auc, brier in zip(comparison.paired_added, comparison.paired_added_brier, strict=True):
            loss = interval_text(brier.difference, "+", 3)
            table.add_row(auc.first, _interval(auc.difference, sign="+"), _p_value(auc), loss, _p_value(brier))
        tables.append(table)
    return tables


def _p_value(pair: Paired) -> str:
    return p_text(pair.p_holm)


def _interval(estimate: Estimate, sign: str = "", digits: int = 2) -> str:
    return interval_text(estimate, sign, digits)


def _spread(estimate: Estimate, digits: int) -> str:
    if estimate.fold_mean is None:
        return "undefined"
    mean = f"{estimate.fold_mean:.{digits}f}"
    return mean if estimate.fold_sd is None else f"{mean} +/- {estimate.fold_sd:.{digits}f}"
