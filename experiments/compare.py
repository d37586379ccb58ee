"""``compare``: the inputs side by side, from the runs' predictions.tsv alone; no GPU, no network, no torch.

Pooled out-of-fold balanced accuracy, sensitivity and specificity at each fold's own tuning threshold, and the AUC of pairs within
a fold, with 95 % intervals from a patient-cluster bootstrap (the same draws for all inputs); beside them mean +/- SD over folds,
the form of the reference paper. ``comparison.json`` names the run folders that each number comes from.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from datamodules.atomic import write_text
from experiments.plan import FOLDS, PlanError, Run
from experiments.predictions import Predictions, check_same_scans
from experiments.results import RunFolder, read_predictions, require_complete, write_json
from experiments.significance import Estimate, draw_patient_weights, summarise
from experiments.study_arguments import parse, study_parser
from experiments.tracking_options import TrackingOptions
from regions.catalog import REGIONS

METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auc")
TITLES = {"balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}
DRAWS = 10_000


@dataclass(frozen=True)
class Comparison:
    """The table of one study and seed, and the runs it was made from."""

    study: str
    seed: int
    folds: int
    draws: int
    scans: int
    patients: int
    positives: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    runs: Mapping[str, Sequence[str]]
    missing: Sequence[str]


def main(arguments: Sequence[str]) -> int:
    """Command line of ``compare``: --study, --studies, --seed, --folds, --inputs, --draws, --partial, --tracking.mode."""
    parser = study_parser("compare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--inputs", default="")
    parser.add_argument("--regions", default="", help=argparse.SUPPRESS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--tracking.mode", dest="mode", choices=("offline", "online", "disabled"), default=None)
    known, folder = parse(parser, arguments)
    names = [name for name in known.inputs.split(",") if name] or inputs_of(folder)
    comparison = compare(folder, names, known.seed, known.folds, known.draws, known.partial)
    console = Console(highlight=False, soft_wrap=True)
    write_comparison(folder, comparison)
    show(comparison, folder, console)
    track(folder, comparison, TrackingOptions(mode=known.mode) if known.mode else TrackingOptions())
    return 0


def inputs_of(folder: Path) -> list[str]:
    """The six inputs, and any further region that the study holds runs of."""
    own = sorted(path.name for path in folder.iterdir() if next(path.glob("fold-*/seed-*/run.json"), None) and path.name not in REGIONS)
    return [*REGIONS, *own]


def compare(
    folder: Path, inputs: Sequence[str], seed: int = 0, folds: int = FOLDS, draws: int = DRAWS, partial: bool = False
) -> Comparison:
    """Score all inputs of a study.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        seed: Which runs.
        folds: Number of folds.
        draws: Bootstrap draws; the draws' own seed is fixed, so that the table repeats.
        partial: Score what is complete; the inputs are then cut to the folds that all of them have.

    Raises:
        ResultsError: if runs are missing, stale or mixed.
        PredictionsError: if two inputs did not score the same scans.
    """
    wanted = [Run(name, fold, seed) for name in inputs for fold in range(folds)]
    complete = require_complete(folder, wanted, partial)
    shared = [fold for fold in range(folds) if all(Run(name, fold, seed) in set(complete) for name in {r.input for r in complete})]
    used = {name: [run for run in complete if run.input == name and run.fold in shared] for name in inputs}
    used = {name: runs for name, runs in used.items() if runs}
    if not used:
        raise PlanError(f"no fold of {folder} is complete for every input that was begun; make sweep, or name the inputs: --inputs global")
    tables = {name: pooled_predictions(folder, runs) for name, runs in used.items()}
    first = next(iter(tables.values()))
    check_same_scans(tables)
    weights = draw_patient_weights(first, draws, np.random.default_rng(0))
    estimates = {name: summarise(table, weights) for name, table in tables.items()}
    kept = {run for runs in used.values() for run in runs}
    return Comparison(
        folder.name,
        seed,
        folds,
        draws,
        len(first.y),
        len(np.unique(first.patient)),
        int(first.y.sum()),
        estimates,
        {name: [run.name for run in runs] for name, runs in used.items()},
        [run.name for run in wanted if run not in kept],
    )


def pooled_predictions(folder: Path, runs: Sequence[Run]) -> Predictions:
    """Internal test rows of all folds of one input, decided at each fold's own tuning threshold."""
    columns: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in ("patient", "session", "fold", "y", "p", "decision")}
    for run in runs:
        own = RunFolder(run.folder(folder))
        rows = read_predictions(own.path / "predictions.tsv").of("internal_test")
        values = {
            "patient": rows.patient,
            "session": rows.session,
            "fold": np.full(len(rows.y), run.fold),
            "y": rows.y,
            "p": rows.p,
            "decision": (rows.p >= float(own.facts()["threshold"])).astype(np.int64),
        }
        for name, value in values.items():
            columns[name].append(value)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((joined["session"], joined["patient"], joined["fold"]))
    return Predictions(**{name: column[order] for name, column in joined.items()})


def rows_of(comparison: Comparison) -> list[dict[str, Any]]:
    """One row an input: each metric's pooled value, its interval, mean and SD over folds."""
    rows = []
    for name, metrics in comparison.estimates.items():
        row: dict[str, Any] = {"input": name, "folds": len(comparison.runs[name])}
        for metric in METRICS:
            one = metrics[metric]
            row |= {metric: one.value, f"{metric}_low": one.low, f"{metric}_high": one.high}
            row |= {f"{metric}_fold_mean": one.fold_mean, f"{metric}_fold_sd": one.fold_sd}
        rows.append(row)
    return rows


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.tsv and comparison.json into the study's folder."""
    rows = rows_of(comparison)
    lines = ["\t".join(rows[0])]
    lines += ["\t".join("" if value is None else str(value) for value in row.values()) for row in rows]
    write_text(folder / "comparison.tsv", "\n".join(lines) + "\n")
    facts = {name: value for name, value in vars(comparison).items() if name != "estimates"}
    write_json(folder / "comparison.json", facts | {"interval": "95 % patient-cluster bootstrap, percentile", "inputs": rows})


def show(comparison: Comparison, folder: Path, console: Console) -> None:
    """Print the comparison as a table, and where everything lies."""
    c = comparison
    table = Table(title=f"study {c.study}: {c.patients} patients, {c.scans} scans ({c.positives} positive), seed {c.seed}", title_justify="left")
    table.add_column("input")
    for metric in METRICS:
        table.add_column(TITLES[metric], justify="right", no_wrap=True)
    table.add_column("mean +/- SD over folds", justify="right", no_wrap=True)
    for name, metrics in c.estimates.items():
        overall = metrics["balanced_accuracy"]
        table.add_row(name, *(_interval(metrics[metric]) for metric in METRICS), _spread(overall))
    if console.width < 120:
        Console(highlight=False, width=120, file=console.file).print(table)
    else:
        console.print(table)
    console.print(f"In brackets: 95 % intervals, patient-cluster bootstrap, {c.draws} draws; last column: balanced accuracy.")
    if c.missing:
        console.print(f"[bold yellow]PARTIAL[/bold yellow]: {len(c.missing)} runs are missing, all inputs are cut to the folds they share.")
    console.print(f"table: {folder / 'comparison.tsv'}")


def _interval(one: Estimate) -> str:
    if one.value is None:
        return "undefined"
    return f"{one.value:.3f}" if one.low is None or one.high is None else f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]".replace("[", "\\[")


def _spread(one: Estimate) -> str:
    if one.fold_mean is None:
        return "undefined"
    return f"{one.fold_mean:.3f}" if one.fold_sd is None else f"{one.fold_mean:.3f} +/- {one.fold_sd:.3f}"


def track(folder: Path, comparison: Comparison, options: TrackingOptions) -> None:
    """Write the study's summary run in W&B, offline by default."""
    if options.mode == "disabled":
        return
    from experiments.tracking import log_comparison

    log_comparison(options, comparison.study, folder, rows_of(comparison))
