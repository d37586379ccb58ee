"""``compare``: the inputs side by side, from the runs' predictions.tsv alone; no GPU, no network, no torch.

Pooled out-of-fold balanced accuracy, sensitivity and specificity at each fold's own tuning threshold, and the AUC of pairs
within a fold, with 95 % intervals from a patient-cluster bootstrap (the same draws for all inputs); beside them mean +/- SD
over folds, the form of the reference paper. Each regional input is compared with global on the same patients: paired bootstrap
interval, paired permutation test, Holm over the regions, a verdict by rule. ``comparison.json`` names the runs
behind each number.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from datamodules.atomic import write_text
from experiments.compare_view import show
from experiments.plan import FOLDS, PlanError, Run
from experiments.results import RunFolder, read_predictions, require_complete, write_json
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions, check_same_scans
from experiments.statistics.significance import Estimate, draw_patient_weights, summarise
from experiments.study_arguments import parse, study_parser
from experiments.tracking_options import TrackingOptions
from regions.catalog import REGIONS

METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auc")
REFERENCE = "global"
DRAWS = 10_000


@dataclass(frozen=True)
class StudyComparison:
    """What ``compare`` found for one study and seed, and the runs it was found in."""

    study: str
    seed: int
    folds: int
    draws: int
    scans: int
    patients: int
    positives: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    paired: Sequence[Paired]
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
    if known.draws < 100:
        raise PlanError(f"--draws is {known.draws}; an interval needs at least 100, the default is {DRAWS}")
    names = [name for name in known.inputs.split(",") if name] or inputs_of(folder)
    found = compare(folder, names, known.seed, known.folds, known.draws, known.partial)
    write_comparison(folder, found)
    track(folder, found, TrackingOptions(mode=known.mode) if known.mode else TrackingOptions())
    show(found, folder, Console(highlight=False, soft_wrap=True))
    return 0


def inputs_of(folder: Path) -> list[str]:
    """The six inputs, and any further region that the study holds runs of."""
    own = sorted(
        path.name for path in folder.iterdir() if next(path.glob("fold-*/seed-*/run.json"), None) and path.name not in REGIONS
    )
    return [*REGIONS, *own]


def compare(
    folder: Path, inputs: Sequence[str], seed: int = 0, folds: int = FOLDS, draws: int = DRAWS, partial: bool = False
) -> StudyComparison:
    """Score all inputs of a study, and each region against global.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        seed: Which runs.
        folds: Number of folds.
        draws: Bootstrap draws and permutations; their own seed is fixed, so that the table repeats.
        partial: Score what is complete; the inputs are then cut to the folds that all of them have.

    Raises:
        ResultsError: if runs are missing, stale or mixed.
        PredictionsError: if two inputs did not score the same scans.
    """
    wanted = [Run(name, fold, seed) for name in inputs for fold in range(folds)]
    used = _shared_folds(require_complete(folder, wanted, partial), folder)
    tables = {name: pooled_predictions(folder, runs) for name, runs in used.items()}
    first = next(iter(tables.values()))
    check_same_scans(tables)
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(first, draws, rng)
    paired = (
        compare_family(tables, weights, rng, reference=REFERENCE, permutations=draws)
        if REFERENCE in tables and len(tables) > 1
        else []
    )
    kept = {run for runs in used.values() for run in runs}
    return StudyComparison(
        study=folder.name,
        seed=seed,
        folds=folds,
        draws=draws,
        scans=len(first.y),
        patients=len(np.unique(first.patient)),
        positives=int(first.y.sum()),
        estimates={name: summarise(table, weights) for name, table in tables.items()},
        paired=paired,
        runs={name: [run.name for run in runs] for name, runs in used.items()},
        missing=[run.name for run in wanted if run not in kept],
    )


def _shared_folds(complete: Sequence[Run], folder: Path) -> dict[str, list[Run]]:
    """The complete runs of each input, cut to the folds that every input has."""
    by_input: dict[str, dict[int, Run]] = {}
    for run in complete:
        by_input.setdefault(run.input, {})[run.fold] = run
    shared = set.intersection(*(set(runs) for runs in by_input.values()))
    if not shared:
        raise PlanError(
            f"no fold of {folder} is complete for every input that was begun; make sweep, or name inputs: --inputs global"
        )
    return {name: [runs[fold] for fold in sorted(shared)] for name, runs in by_input.items()}


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


def rows_of(found: StudyComparison) -> list[dict[str, Any]]:
    """One row an input: each metric with its interval, mean and SD over folds, and the paired difference to global."""
    paired = {one.first: one for one in found.paired}
    rows = []
    for name, metrics in found.estimates.items():
        row: dict[str, Any] = {"input": name, "folds": len(found.runs[name])}
        for metric in METRICS:
            one = metrics[metric]
            row |= {metric: one.value, f"{metric}_low": one.low, f"{metric}_high": one.high}
            row |= {f"{metric}_fold_mean": one.fold_mean, f"{metric}_fold_sd": one.fold_sd}
        pair = paired.get(name)
        row |= {
            "difference_to_global": pair.difference.value if pair else None,
            "difference_low": pair.difference.low if pair else None,
            "difference_high": pair.difference.high if pair else None,
            "p_holm": pair.p_holm if pair else None,
            "verdict": pair.verdict if pair else None,
        }
        rows.append(row)
    return rows


def write_comparison(folder: Path, found: StudyComparison) -> None:
    """Write comparison.tsv and comparison.json into the study's folder."""
    rows = rows_of(found)
    lines = ["\t".join(rows[0])]
    lines += ["\t".join("" if value is None else str(value) for value in row.values()) for row in rows]
    write_text(folder / "comparison.tsv", "\n".join(lines) + "\n")
    facts = {name: value for name, value in vars(found).items() if name not in ("estimates", "paired")}
    paired = [asdict(one) for one in found.paired]
    interval = "95 % patient-cluster bootstrap, percentile"
    write_json(folder / "comparison.json", facts | {"interval": interval, "inputs": rows, "paired": paired})


def track(folder: Path, found: StudyComparison, options: TrackingOptions) -> None:
    """Write one run an input and the study's summary run in W&B, offline by default."""
    if options.mode == "disabled":
        return
    from experiments.tracking import log_comparison, log_inputs

    rows = rows_of(found)
    log_inputs(options, found.study, folder, rows)
    log_comparison(options, found.study, folder, rows)
