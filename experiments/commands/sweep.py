"""``sweep``: train every missing run of the study here, one worker per GPU or a few CPU workers, with a live table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.runtime.console import plain_console
from experiments.runtime.quiet import quiet_libraries
from experiments.study.arguments import CommandOptions, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.grid import planned_runs
from experiments.study.opening import open_with_progress
from experiments.study.settings import parse_settings
from experiments.study.untrainable import refuse_untrainable
from experiments.training.sweep import sweep, worker_devices


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which runs are trained, and by how many workers."""

    takes_settings: ClassVar[bool] = True

    gpus: str = ""
    """GPUs, separated by commas; a number given twice gets two workers; empty: all."""
    per_device: str = ""
    """Workers on each GPU; empty: one."""
    jobs: str = ""
    """CPU workers; empty: up to four, one per core."""
    inputs: str = ""
    """Inputs, separated by commas; empty: the six and your own regions."""
    seeds: str = ""
    """Seeds, separated by commas; empty: that of the settings."""
    restart: bool = False
    """Set runs of other settings aside and train them again."""
    isolate: bool = False
    """Train each run in a process of its own."""


def run(options: Options, settings_args: list[str]) -> int:
    """Train every missing run of the study."""
    console = plain_console()
    quiet_libraries()
    settings = parse_settings(settings_args)
    refuse_untrainable(settings, [run.input for run in planned_runs(settings, options.inputs, options.seeds)])
    devices = worker_devices(options.gpus, options.jobs, options.per_device, settings.values.threads)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    runs = planned_runs(settings, options.inputs, options.seeds, study.splits.folds)
    passed_on = [*settings_args, "--inputs", options.inputs, "--seeds", options.seeds]
    passed_on += ["--isolate"] if options.isolate else []
    return sweep(settings, study, runs, devices, passed_on, console, options.restart)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``sweep``."""
    return run(*split(Options, arguments))
