"""``compare``: the inputs side by side, from the runs' predictions.tsv alone; no GPU, no network, no torch.

Pooled out-of-fold balanced accuracy, sensitivity and specificity at each fold's own tuning threshold, and the AUC of pairs
within a fold, with 95 % intervals from a patient-cluster bootstrap (the same draws for all inputs); beside them mean +/- SD
over folds, the form of the reference paper. Each regional input is compared with global on the same patients: paired bootstrap
interval, paired permutation test, Holm over the regions, a verdict by rule. The baselines of ``make baselines`` stand in the
same table, in a family of their own. ``comparison.json`` names the runs behind each number; ``subgroups.json`` and
``robustness.json`` hold where and under which changes the results stand.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.baselines_files import read_baselines
from experiments.compare_details import details
from experiments.compare_view import show
from experiments.comparison import (
    METRICS,
    StudyComparison,
    baseline_rows,
    read_comparison,
    rows_of,
    write_comparison,
)
from experiments.plan import FOLDS, PlanError, Run
from experiments.pooling import Pooled, pool_inputs, pooled_predictions, shared_folds
from experiments.results import RunFolder, require_complete
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions, check_same_scans
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import Values, draw_patient_weights, family_values, summarise
from experiments.study_arguments import parse, study_parser
from experiments.tracking_options import TrackingOptions
from regions.catalog import REGIONS

__all__ = ["METRICS", "StudyComparison", "compare", "pooled_predictions", "read_comparison", "rows_of", "write_comparison"]

REFERENCE = "global"
DRAWS = 10_000

FURTHER_DRAWS = 2_000
"""Draws for subgroups and robustness, which are looked at and not tested."""

Tables = Mapping[str, Sequence[Pooled]]
Members = dict[str, list[Predictions]]


def main(arguments: Sequence[str]) -> int:
    """Command line of ``compare``: --study, --studies, --seeds, --folds, --inputs, --draws, --partial, --tracking.mode."""
    parser = study_parser("compare")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--inputs", default="")
    parser.add_argument("--regions", default="", help=argparse.SUPPRESS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--tracking.mode", dest="mode", choices=("offline", "online", "disabled"), default=None)
    known, folder = parse(parser, arguments)
    if known.draws < 100:
        raise PlanError(f"--draws is {known.draws}; an interval needs at least 100, the default is {DRAWS}")
    names = [name for name in known.inputs.split(",") if name] or inputs_of(folder)
    folds = known.folds or folds_of(folder)
    seeds, notes = wanted_seeds(folder, names, folds, known.seeds or ("" if known.seed is None else str(known.seed)))
    tables, found = compared(folder, names, seeds, folds, known.draws, known.partial, notes)
    write_comparison(folder, found)
    write_further(folder, tables, min(known.draws, FURTHER_DRAWS))
    track(folder, found, TrackingOptions(mode=known.mode) if known.mode else TrackingOptions())
    show(found, folder, Console(highlight=False, soft_wrap=True))
    return 0


def inputs_of(folder: Path) -> list[str]:
    """The six inputs, and any further region that the study holds runs of."""
    own = sorted(
        path.name for path in folder.iterdir() if next(path.glob("fold-*/seed-*/run.json"), None) and path.name not in REGIONS
    )
    return [*REGIONS, *own]


def folds_of(folder: Path) -> int:
    """Folds of the study's split; the usual number where there is no split."""
    from datamodules.splits import read_facts

    path = folder / "splits.tsv"
    return int(read_facts(path)["folds"]) if path.is_file() else FOLDS


def wanted_seeds(folder: Path, inputs: Sequence[str], folds: int, text: str) -> tuple[list[int], list[str]]:
    """The seeds to compare, and what to tell about those left out.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        folds: Number of folds.
        text: Seeds separated by commas; empty means all that are complete, or the first one begun where none is.

    Raises:
        PlanError: if a seed is no number.
    """
    given = [one.strip() for one in text.split(",") if one.strip()]
    wrong = [one for one in given if not one.isdecimal()]
    if wrong:
        raise PlanError(f"SEEDS={text}: {wrong[0]!r} is not a whole number from 0; write for example SEEDS=0,1,2")
    if given:
        return sorted({int(one) for one in given}), []
    begun: dict[int, int] = {}
    for name in inputs:
        for path in folder.glob(f"{name}/fold-*/seed-*/run.json"):
            seed = path.parent.name.removeprefix("seed-")
            if seed.isdecimal() and RunFolder(path.parent).facts().get("state") == "complete":
                begun[int(seed)] = begun.get(int(seed), 0) + 1
    whole = len(inputs) * folds
    complete = sorted(seed for seed, count in begun.items() if count >= whole)
    if not complete:
        return [max(begun, key=lambda seed: (begun[seed], -seed)) if begun else 0], []
    rest = sorted(set(begun) - set(complete))
    return complete, [f"seed {seed} is left out: {begun[seed]} of {whole} runs are complete" for seed in rest]


def compare(
    folder: Path, inputs: Sequence[str], seed: int = 0, folds: int = FOLDS, draws: int = DRAWS, partial: bool = False
) -> StudyComparison:
    """Score all inputs of a study with one seed; see ``compared``."""
    return compared(folder, inputs, [seed], folds, draws, partial)[1]


def compared(
    folder: Path,
    inputs: Sequence[str],
    seeds: Sequence[int],
    folds: int = FOLDS,
    draws: int = DRAWS,
    partial: bool = False,
    notes: Sequence[str] = (),
) -> tuple[dict[str, list[Pooled]], StudyComparison]:
    """Score all inputs of a study, and each region and each baseline against global.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        seeds: Which runs; with several, every value is the mean over seeds.
        folds: Number of folds.
        draws: Bootstrap draws and permutations; their own seed is fixed, so that the table repeats.
        partial: Score what is complete; the inputs are then cut to the folds that all of them have.
        notes: What to tell beside the table.

    Returns:
        The rows behind the table (inputs and baselines), and what was found.

    Raises:
        ResultsError: if runs are missing, stale or mixed.
        PredictionsError: if two inputs did not score the same scans.
    """
    wanted = [Run(name, fold, seed) for seed in seeds for name in inputs for fold in range(folds)]
    used = shared_folds(require_complete(folder, wanted, partial), folder)
    networks = pool_inputs(folder, used)
    first = next(iter(networks.values()))[0].test
    baselines, told = read_baselines(folder, next(iter(used.values())))
    tables = networks | {name: [one] for name, one in baselines.items()}
    check_same_scans({name: own[0].test for name, own in tables.items()})
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(first, draws, rng)
    members, beside = _members(networks, baselines)
    values = family_values(members | beside, weights)
    families = _families(members, beside, values, weights, rng)
    kept = {run for runs in used.values() for run in runs}
    estimates = {name: summarise(tests, weights, values=values[name]) for name, tests in (members | beside).items()}
    found = StudyComparison(
        study=folder.name,
        seed=seeds[0],
        seeds=list(seeds),
        folds=folds,
        draws=draws,
        scans=len(first.y),
        patients=len(np.unique(first.patient)),
        positives=int(first.y.sum()),
        estimates={name: estimates[name] for name in members},
        baselines={name: estimates[name] for name in beside},
        runs={name: [run.name for run in runs] for name, runs in used.items()},
        missing=[run.name for run in wanted if run not in kept],
        notes=[*notes, *told],
        details=details(tables, weights, families["paired"], folds, estimates),
        **families,
    )
    return tables, found


def _members(networks: Tables, baselines: Mapping[str, Pooled]) -> tuple[Members, Members]:
    """Test rows of inputs and of baselines; a baseline has no seed and stands beside each of the networks' seeds."""
    seeds = len(next(iter(networks.values())))
    inputs = {name: [one.test for one in own] for name, own in networks.items()}
    return inputs, {name: [one.test] * seeds for name, one in baselines.items()}


def _families(
    inputs: Members, beside: Members, values: Mapping[str, Values], weights: WeightArray, rng: np.random.Generator
) -> dict[str, list[Paired]]:
    """Primary, secondary and exploratory families, each with its own Holm adjustment; empty without global or a partner."""

    def family(members: Members, reference: str | None, metric: str) -> list[Paired]:
        if len(members) < 2 or (reference is not None and reference not in members):
            return []
        draws = weights.shape[0]
        return compare_family(members, weights, rng, reference=reference, metric=metric, permutations=draws, values=values)

    against = {name: tests for name, tests in inputs.items() if name == REFERENCE} | beside
    return {
        "paired": family(inputs, REFERENCE, "balanced_accuracy"),
        "paired_auc": family(inputs, REFERENCE, "auc"),
        "paired_all": family(inputs, None, "balanced_accuracy"),
        "paired_baselines": family(against, REFERENCE, "balanced_accuracy"),
        "paired_baselines_auc": family(against, REFERENCE, "auc"),
    }


def write_further(folder: Path, tables: Tables, draws: int) -> None:
    """Write subgroups.json and robustness.json."""
    from experiments.robustness import write_robustness
    from experiments.subgroups import write_subgroups

    write_subgroups(folder, tables, draws)
    write_robustness(folder, tables, draws)


def track(folder: Path, found: StudyComparison, options: TrackingOptions) -> None:
    """Write one run an input and the study's summary run in W&B, offline by default."""
    if options.mode == "disabled":
        return
    from experiments.tracking import log_comparison, log_inputs

    log_inputs(options, found.study, folder, rows_of(found))
    log_comparison(options, found.study, folder, [*rows_of(found), *baseline_rows(found)])
