"""``compare``: the inputs side by side, from the runs' predictions.tsv alone; no GPU, no network, no torch.

Pooled out-of-fold balanced accuracy, sensitivity and specificity at each fold's own threshold, and the AUC of pairs
within a fold, with 95 % intervals from a patient-cluster bootstrap (the same draws for all inputs); beside them mean +/- SD
over folds, the form of the reference paper. Each regional input is compared with global on the same patients: paired bootstrap
interval, paired permutation test, Holm over the regions, a verdict by rule. The baselines of ``make baselines`` stand in the
same table, in a family of their own. ``comparison.json`` names the runs behind each number; ``subgroups.json`` and
``robustness.json`` hold where and under which changes the results stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.analysis.compare import DRAWS, compared, write_further
from experiments.analysis.comparison import StudyComparison, baseline_rows, rows_of, write_comparison
from experiments.analysis.numeric_compare import compared_numbers
from experiments.analysis.partitions import partition_lines, write_partitions
from experiments.analysis.sites import site_lines
from experiments.analysis.view import show
from experiments.runtime.console import plain_console
from experiments.study.arguments import StudyChoice, named, read, study_folder
from experiments.study.grid import folds_of, inputs_of, wanted_seeds
from experiments.study.parts import read_parts
from experiments.study.runs import PlanError
from experiments.tracking.options import TrackingOptions
from experiments.tracking.wandb_runs import log_comparison, log_inputs

FURTHER_DRAWS = 2_000
"""Draws for subgroups and robustness, which are looked at and not tested."""


@dataclass(frozen=True)
class Options(StudyChoice):
    """What is compared, and how closely."""

    seed: int | None = None
    """The seed to compare; --seeds wins."""
    seeds: str = ""
    """Seeds, separated by commas; empty: all that are complete."""
    folds: int = 0
    """Folds; 0: those of the study's split."""
    inputs: str = ""
    """Inputs, separated by commas; empty: all that the study has."""
    regions: str = ""
    """Has no effect here: the study's record names its regions."""
    draws: int = DRAWS
    """Draws of the bootstrap and of the permutation test."""
    partitions: str = ""
    """Further studies, separated by commas, that differ from this one in --split_seed alone: averages over all of them."""
    partial: bool = False
    """Compare what is complete, also where runs are missing."""
    mode: Literal["offline", "online", "disabled"] | None = named("tracking.mode", None)
    """Where W&B keeps the comparison: offline, online or disabled; without it offline."""


def run(options: Options) -> int:
    """Compare the inputs; write, track and show the comparison."""
    folder = options.folder
    if options.draws < 100:
        raise PlanError(f"--draws is {options.draws}; an interval needs at least 100, the default is {DRAWS}")
    names = [name.strip() for name in options.inputs.split(",") if name.strip()] or inputs_of(folder)
    folds = options.folds or folds_of(folder)
    seeds_text = options.seeds or ("" if options.seed is None else str(options.seed))
    others = [study_folder(name.strip(), options.studies) for name in options.partitions.split(",") if name.strip()]
    seeds, notes = wanted_seeds(folder, names, folds, seeds_text)
    is_number = read_parts(folder).target.is_number
    if is_number and others:
        raise PlanError(
            f"--partitions {options.partitions} goes with two classes; {folder.name} predicts a number: leave it out"
        )
    if is_number:
        comparison = compared_numbers(folder, names, seeds, folds, options.draws, options.partial, notes)[1]
        write_comparison(folder, comparison)
    else:
        tables, comparison = compared(folder, names, seeds, folds, options.draws, options.partial, notes)
        write_comparison(folder, comparison)
        write_further(folder, tables, min(options.draws, FURTHER_DRAWS))
    track(folder, comparison, TrackingOptions(mode=options.mode) if options.mode else TrackingOptions())
    console = plain_console()
    show(comparison, folder, console)
    of_splits = partition_lines(write_partitions([folder, *others], names, seeds)) if others else []
    for line in [*site_lines(folder), *of_splits]:
        console.print(line)
    return 0


def track(folder: Path, comparison: StudyComparison, options: TrackingOptions) -> None:
    """Write one run per input and the study's summary run in W&B, offline by default."""
    if options.mode == "disabled":
        return
    log_inputs(options, comparison.study, folder, rows_of(comparison))
    log_comparison(options, comparison.study, folder, [*rows_of(comparison), *baseline_rows(comparison)])


def main(arguments: Sequence[str]) -> int:
    """Command line of ``compare``."""
    return run(read(Options, arguments))
