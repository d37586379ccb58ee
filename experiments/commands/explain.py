"""``explain``: where the networks looked, held against networks that had nothing to find; and what may be said of it.

For every input whose AUC is above chance: SmoothGrad and gradient of each internal test scan by the network that never saw its
patient, the absence of each region, and the same of networks trained on permuted labels, which takes twice as long as the
input's own trainings did. Group maps are written where the rules allow it, in ``studies/<name>/explain/maps``; those of single
scans are patient data, stay on this machine, and are written only with ``--patients``. Run it again to go on; run it twice at
once to share the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.analysis.pooling import shared_folds
from experiments.explaining.gradients import DRAWS as COPIES
from experiments.explaining.gradients import SIGMA
from experiments.explaining.outcome import explanation_rows, outcome, wanted_jobs, write_maps, write_outcome
from experiments.explaining.pictures import write_pictures
from experiments.explaining.setup import Method, open_explained
from experiments.explaining.summary import gate
from experiments.explaining.view import show
from experiments.explaining.work import explain_missing
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.study.arguments import StudyChoice, named, read
from experiments.study.grid import folds_of, inputs_of, wanted_seeds
from experiments.study.run_folder import require_complete
from experiments.study.runs import PlanError, Run
from experiments.tracking.options import TrackingOptions
from experiments.tracking.wandb_runs import log_explanation

DRAWS = 10_000


@dataclass(frozen=True)
class Options(StudyChoice):
    """Which study is explained, and how closely."""

    inputs: str = ""
    """Inputs, separated by commas; empty: all that the study has."""
    seeds: str = ""
    """Seeds, separated by commas; empty: all that are complete."""
    regions: str = ""
    """Has no effect here: the study's record names its regions."""
    copies: int = COPIES
    """Noisy copies of a scan for SmoothGrad."""
    sigma: float = SIGMA
    """SD of their noise as a share of the scan's range."""
    networks: int = 0
    """Networks with permuted labels; 0: two for each fold."""
    draws: int = DRAWS
    """Draws of the bootstrap and of the permutation test."""
    patients: bool = False
    """Also write the map of each scan; these are patient data."""
    mode: Literal["offline", "online", "disabled"] | None = named("tracking.mode", None)
    """Where W&B keeps the group maps' pictures: offline, online or disabled; without it offline."""


def run(options: Options) -> int:
    """Look at what is missing, then write and show what it means."""
    install_handlers()
    _check(options)
    folder = options.folder
    names = [name.strip() for name in options.inputs.split(",") if name.strip()] or inputs_of(folder)
    folds = folds_of(folder)
    seeds, notes = wanted_seeds(folder, names, folds, options.seeds)
    runs = require_complete(folder, [Run(name, fold, seed) for seed in seeds for name in names for fold in range(folds)])
    console = plain_console()
    for note in notes:
        console.print(f"note: {note}")
    method = Method(options.copies, options.sigma, options.networks)
    explained = open_explained(folder, shared_folds(runs, folder), method, console)
    gates = gate(explained, options.draws)
    jobs = wanted_jobs(explained, gates)
    try:
        explain_missing(explained, [job for of_input in jobs.values() for job in of_input], console, options.patients)
    except Interrupted:
        console.print("interrupted; the same command goes on with the network that was under way")
        return RESUME
    content = outcome(explained, gates, jobs, options.draws)
    write_maps(explained, content, jobs)
    write_outcome(explained, content)
    track(folder, content, write_pictures(folder, content), options.mode)
    show(content, folder, console)
    return 0


def _check(options: Options) -> None:
    """Look at the numbers before anything is opened.

    Raises:
        PlanError: naming the first that cannot be.
    """
    if options.copies < 1:
        raise PlanError(f"--copies is {options.copies}; give 1 or more, the default is {COPIES}")
    if not 0 < options.sigma <= 1:
        raise PlanError(f"--sigma is {options.sigma:g}; give a share of the range above 0 up to 1, the default is {SIGMA:g}")
    if options.networks < 0:
        raise PlanError(f"--networks is {options.networks}; give a number of networks, or 0 for two a fold")
    if options.draws < 100:
        raise PlanError(f"--draws is {options.draws}; an interval needs at least 100, the default is {DRAWS}")


def track(folder: Path, content: Mapping[str, Any], pictures: Mapping[str, Path], mode: Any) -> None:
    """Show the group maps in W&B, offline by default; maps of single scans never go there."""
    options = TrackingOptions(mode=mode) if mode else TrackingOptions()
    log_explanation(options, content["study"], folder, explanation_rows(content), pictures)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``explain``."""
    return run(read(Options, arguments))
