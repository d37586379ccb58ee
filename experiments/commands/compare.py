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
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.analysis.compare import DRAWS, compared, write_further
from experiments.analysis.comparison import StudyComparison, baseline_rows, rows_of, write_comparison
from experiments.analysis.view import show
from experiments.study.arguments import parse, study_parser
from experiments.study.grid import folds_of, inputs_of, wanted_seeds
from experiments.study.runs import PlanError
from experiments.tracking.options import TrackingOptions
from experiments.tracking.wandb_runs import log_comparison, log_inputs

FURTHER_DRAWS = 2_000
"""Draws for subgroups and robustness, which are looked at and not tested."""


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


def track(folder: Path, found: StudyComparison, options: TrackingOptions) -> None:
    """Write one run an input and the study's summary run in W&B, offline by default."""
    if options.mode == "disabled":
        return

    log_inputs(options, found.study, folder, rows_of(found))
    log_comparison(options, found.study, folder, [*rows_of(found), *baseline_rows(found)])
