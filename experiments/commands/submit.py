"""``submit``: train every missing run of the study on Slurm, one array task each, and compare when all have ended.

The store and the split are made here, on the login node, so the tasks only read them. What each task trains is written down in
``<study>/cluster/<stamp>`` before it is handed over. The same command again submits what is missing and not queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from datamodules.store.store import locked
from experiments.cluster.resources import Resources
from experiments.cluster.submissions import require
from experiments.cluster.submit import dry_run, submit
from experiments.runtime.console import plain_console
from experiments.runtime.quiet import quiet_libraries
from experiments.study.arguments import SBATCH, CommandOptions, joined, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.grid import planned_runs
from experiments.study.opening import fingerprint_of, open_with_progress
from experiments.study.settings import parse_settings
from experiments.study.untrainable import refuse_untrainable


@dataclass(frozen=True)
class Options(CommandOptions, Resources):
    """Which runs are handed over, and what each asks of the cluster."""

    takes_settings: ClassVar[bool] = True

    inputs: str = ""
    """Inputs, separated by commas; empty: the six and your own regions."""
    seeds: str = ""
    """Seeds, separated by commas; empty: that of the settings."""
    restart: bool = False
    """Set runs of other settings aside and train them again."""
    dry_run: bool = False
    """Print the script and submit nothing; needs no Slurm."""


def run(options: Options, settings_args: list[str]) -> int:
    """Submit every missing run, or show what would be submitted."""
    if not options.dry_run:
        require("sbatch")

    console = plain_console()
    quiet_libraries()
    settings = parse_settings(settings_args)
    refuse_untrainable(settings, [run.input for run in planned_runs(settings, options.inputs, options.seeds)])
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    runs = planned_runs(settings, options.inputs, options.seeds, study.splits.folds)
    fingerprint = fingerprint_of(settings, study)
    if options.dry_run:
        return dry_run(settings, study, fingerprint, runs, options, console, options.restart)
    with locked(study.folder / "cluster" / ".lock"):
        return submit(settings, study, fingerprint, runs, options, console, options.restart)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``submit``."""
    return run(*split(Options, joined(arguments, SBATCH)))
