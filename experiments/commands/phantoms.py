"""``phantoms``: write a synthetic cohort with a known effect, as a BIDS dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.study.arguments import PlainParser
from experiments.study.runs import PlanError


def main(arguments: Sequence[str]) -> int:
    """Command line of ``phantoms``: --out, --phantom (preset), --patients, --scans, --spacing, --seed, --external."""
    default = PhantomOptions()
    parser = PlainParser(prog="regionwise phantoms", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--phantom", default=default.preset)
    parser.add_argument("--patients", type=int, default=default.patients)
    parser.add_argument("--scans", type=int, default=default.scans)
    parser.add_argument("--spacing", type=float, default=default.spacing_mm)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--external", action="store_true")
    known = parser.parse_args(arguments)
    if known.out is None:
        raise PlanError("--out is missing; give the folder of the new cohort, for example --out cohorts/phantoms")
    options = PhantomOptions(known.phantom, known.patients, known.scans, known.spacing, known.seed, known.external)

    console = Console(highlight=False, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing phantom scans", total=options.scans)
        write_phantom_cohort(
            known.out, options, lambda done, total: bar.update(task, completed=done, total=total), processes=known.processes
        )
    told = f"{options.patients} patients, {options.scans} scans at {options.spacing_mm:g} mm"
    console.print(f"{options.preset} phantom cohort: {told} in {known.out}")
    return 0
