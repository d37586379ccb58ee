"""``demo``: a phantom cohort, the split, all 42 runs, the baselines, the comparison and the report; from nothing, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.settings import DEMO_COHORT
from experiments.study_arguments import only_study, parse, study_parser

if TYPE_CHECKING:
    from rich.console import Console


def main(arguments: Sequence[str]) -> int:
    """Command line of ``demo``: takes every setting that ``sweep`` takes."""
    from rich.console import Console

    from experiments import baselines, compare, report, sweep

    console = Console(highlight=False, soft_wrap=True)
    ensure_demo_cohort(DEMO_COHORT, console)
    status = sweep.main(arguments)
    if status != 0:
        return status
    baselines.main(sweep.split_arguments(arguments)[1])
    words = only_study(arguments)
    compare.main(words)
    report.write(parse(study_parser("report"), words)[1], console)
    return 0


def ensure_demo_cohort(cohort: Path, console: Console) -> None:
    """Write the demo's phantom cohort where it is the one that is asked for and is not there yet."""
    if cohort != DEMO_COHORT or cohort.exists():
        return
    from rich.progress import Progress

    from datamodules.phantoms import PhantomOptions, write_phantom_cohort

    demo = PhantomOptions(preset="coll_like", patients=84, scans=100, spacing_mm=3.0, seed=0)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing phantom scans", total=demo.scans)
        write_phantom_cohort(cohort, demo, on_scan=lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"phantom cohort of {demo.patients} patients, {demo.scans} scans at {demo.spacing_mm:g} mm: {cohort}")
