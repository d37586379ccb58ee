"""``plan``: the commands of the runs that are missing, one a line, for any scheduler."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from experiments.study.arguments import CommandOptions, split
from experiments.study.grid import planned_runs, states
from experiments.study.opening import fingerprint_of
from experiments.study.settings import parse_settings
from experiments.study.study import open_study


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which runs are listed, and how."""

    takes_settings: ClassVar[bool] = True

    inputs: str = ""
    """Inputs, separated by commas; empty: the six and your own regions."""
    seeds: str = ""
    """Seeds, separated by commas; empty: that of the settings."""
    all: bool = False
    """List complete runs too."""
    format: Literal["tsv", "commands"] = "commands"
    """A table with states (tsv), or commands alone."""


def run(options: Options, settings_args: list[str]) -> int:
    """Print one line for each run that is not complete; for a scheduler or a tool that takes a list of commands."""
    settings = parse_settings(settings_args)
    study = open_study(settings.study_options())
    runs = planned_runs(settings, options.inputs, options.seeds, study.splits.folds)
    state = states(study, fingerprint_of(settings, study), runs)
    if options.format == "tsv":
        print("input\tfold\tseed\tstate\tcommand")
    for run, value in state.items():
        if value == "complete" and not options.all:
            continue
        words = ["fold", "--roi", run.input, "--fold", str(run.fold), "--seed", str(run.seed), *settings_args]
        command = "python -m experiments " + shlex.join(words)
        print(f"{run.input}\t{run.fold}\t{run.seed}\t{value}\t{command}" if options.format == "tsv" else command)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``plan``."""
    return run(*split(Options, arguments))
