"""The command ``controls``: train what is missing, then score everything and say what it means."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from experiments.controls.outcome import outcome, write_outcome
from experiments.controls.plan import choose, plan
from experiments.controls.setup import prepare
from experiments.controls.view import show
from experiments.runtime.interruption import RESUME, Interrupted, forget_scheduler, install_handlers
from experiments.study.runs import PlanError

SPACING_MM = 3.0
DRAWS = 10_000
PERMUTATIONS = 3


def main(arguments: Sequence[str]) -> int:
    """Command line of ``controls``.

    --inputs A,B (default: the six), --controls A,B (default: all), --permutations N (3), --spacing MM (3), --draws N, --quiet,
    and every setting of ``fold``; the cohort, the label rule, the split, the regions and the mask mode are by default those of
    the study's trainings. Run it again to go on; run it twice at once to share the work.
    """
    install_handlers()
    forget_scheduler()
    light = argparse.ArgumentParser(prog="regionwise controls", add_help=False, allow_abbrev=False)
    light.add_argument("--inputs", default="")
    light.add_argument("--controls", default="")
    light.add_argument("--quiet", action="store_true")
    for name, default in (("permutations", PERMUTATIONS), ("draws", DRAWS), ("spacing", SPACING_MM)):
        light.add_argument(f"--{name}", default=str(default))
    known, rest = light.parse_known_args(arguments)
    chosen = choose(known.controls)
    permutations = _number(known.permutations, "permutations", 1)
    draws = _number(known.draws, "draws", 100)
    spacing = _number(known.spacing, "spacing", 0.5)

    from experiments.controls.work import train_missing

    console = Console(highlight=False, soft_wrap=True)
    controls = prepare(rest, known.inputs, spacing, console)
    whole = [name for name, region in controls.regions.items() if not region.labels]
    runs = plan(chosen, list(controls.regions), whole, controls.study.splits.folds, int(permutations))
    try:
        refused = train_missing(controls, runs, console, known.quiet)
    except Interrupted:
        console.print("interrupted; the same command goes on with the control training that was under way")
        return RESUME
    found = outcome(controls, runs, chosen, refused, int(draws))
    write_outcome(controls.folder, found)
    show(found, controls.folder, console)
    return 0


def _number(text: str, name: str, least: float) -> float:
    """A number from the command line.

    Raises:
        PlanError: if it is none, or too small.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value >= least or (name != "spacing" and value != round(value)):
        raise PlanError(f"--{name} is {text!r}; give a number of at least {least:g}")
    return value
