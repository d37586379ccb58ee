"""``controls``: train what is missing, then score everything and say what it means.

The cohort, the label rule, the split, the regions and the mask mode are by default those of the study's trainings. Run it again
to go on; run it twice at once to share the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.controls.outcome import outcome, write_outcome
from experiments.controls.plan import choose, plan
from experiments.controls.setup import prepare
from experiments.controls.view import show
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.study.arguments import CommandOptions, split
from experiments.study.runs import PlanError


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which controls are run, and how closely."""

    takes_settings: ClassVar[bool] = True

    inputs: str = ""
    """Inputs, separated by commas; empty: the six."""
    controls: str = ""
    """Controls, separated by commas; empty: all."""
    quiet: bool = False
    """Print no line per epoch."""
    permutations: str = "3"
    """Trainings with permuted labels."""
    draws: str = "10000"
    """Draws of the bootstrap."""
    spacing: str = "3"
    """Side of a voxel in mm at which the controls are trained."""


def run(options: Options, settings_args: list[str]) -> int:
    """Train the missing controls, score all, write and show what they mean."""
    install_handlers()
    chosen = choose(options.controls)
    permutations = _number(options.permutations, "permutations", 1)
    draws = _number(options.draws, "draws", 100)
    spacing = _number(options.spacing, "spacing", 0.5)

    from experiments.controls.work import train_missing

    console = plain_console()
    controls = prepare(settings_args, options.inputs, spacing, console)
    whole = [name for name, region in controls.regions.items() if not region.labels]
    runs = plan(chosen, list(controls.regions), whole, controls.study.splits.folds, int(permutations))
    try:
        refused = train_missing(controls, runs, console, options.quiet)
    except Interrupted:
        console.print("interrupted; the same command goes on with the control training that was under way")
        return RESUME
    result = outcome(controls, runs, chosen, refused, int(draws))
    write_outcome(controls.folder, result)
    show(result, controls.folder, console)
    return 0


def _number(text: str, name: str, least: float) -> float:
    """A number from the command line.

    Raises:
        PlanError: if it is not a number, or too small.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < math.inf or (name != "spacing" and value != round(value)):
        raise PlanError(f"--{name} is {text!r}; give a number of at least {least:g}")
    return value


def main(arguments: Sequence[str]) -> int:
    """Command line of ``controls``."""
    return run(*split(Options, arguments))
