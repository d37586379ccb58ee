"""``plan``: the commands of the runs that are missing, one a line, for any scheduler."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from experiments.study.grid import planned_runs, states
from experiments.study.opening import fingerprint_of
from experiments.study.settings import parse_settings
from experiments.study.study import open_study


def main(arguments: Sequence[str]) -> int:
    """Command line of ``plan``: --format tsv or commands, --all, --inputs, --seeds, and every setting of ``fold``.

    Prints one line for each run that is not complete; for a scheduler or a tool that takes a list of commands.
    """
    light = argparse.ArgumentParser(prog="regionwise plan", add_help=False, allow_abbrev=False)
    light.add_argument("--inputs", default="")
    light.add_argument("--seeds", default="")
    light.add_argument("--all", action="store_true")
    light.add_argument("--format", choices=("tsv", "commands"), default="commands")
    known, rest = light.parse_known_args(arguments)

    settings = parse_settings(rest)
    study = open_study(settings.study_options())
    state = states(study, fingerprint_of(settings, study), planned_runs(settings, known.inputs, known.seeds))
    if known.format == "tsv":
        print("input\tfold\tseed\tstate\tcommand")
    for run, value in state.items():
        if value == "complete" and not known.all:
            continue
        words = ["fold", "--roi", run.input, "--fold", str(run.fold), "--seed", str(run.seed), *rest]
        command = "python -m experiments " + shlex.join(words)
        print(f"{run.input}\t{run.fold}\t{run.seed}\t{value}\t{command}" if known.format == "tsv" else command)
    return 0
