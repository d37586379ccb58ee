"""The demo's phantom cohort, written when it is asked for and not there yet."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.study.settings import DEMO_COHORT


def ensure_demo_cohort(cohort: Path, console: Console) -> None:
    """Write the demo's phantom cohort where it is the one that is asked for and is not there yet."""
    if cohort != DEMO_COHORT or cohort.exists():
        return

    demo = PhantomOptions(preset="coll_like", patients=84, scans=100, spacing_mm=3.0, seed=0)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing phantom scans", total=demo.scans)
        write_phantom_cohort(cohort, demo, on_scan=lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"phantom cohort of {demo.patients} patients, {demo.scans} scans at {demo.spacing_mm:g} mm: {cohort}")
