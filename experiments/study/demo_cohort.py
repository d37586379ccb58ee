"""The demo's phantom cohort, written when it is asked for and not there yet."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.runtime.console import bar
from experiments.study.settings import DEMO_COHORT


def ensure_demo_cohort(cohort: Path, console: Console) -> None:
    """Write the demo's phantom cohort where it is the one that is asked for and is not there yet."""
    if cohort != DEMO_COHORT or cohort.exists():
        return
    demo = PhantomOptions(preset="coll_like", patients=84, scans=100, spacing_mm=3.0, seed=0)
    with bar(console, "writing phantom scans") as on_scan:
        write_phantom_cohort(cohort, demo, on_scan=on_scan)
    console.print(f"phantom cohort of {demo.patients} patients, {demo.scans} scans at {demo.spacing_mm:g} mm: {cohort}")
