"""The demo's phantom cohort, written when it is asked for and not there yet."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.runtime.console import bar
from experiments.study.recorded import DEMO_COHORT
from experiments.study.runs import PlanError

PLANTED = "brainstem"
DEMO = PhantomOptions(preset=f"single_region:{PLANTED}", patients=140, scans=160, spacing_mm=4.0, seed=0)
"""A small region that alone differs between the classes: a truth that one input can show and five cannot."""


def ensure_demo_cohort(cohort: Path, console: Console) -> None:
    """Write the demo's phantom cohort where it is the one that is asked for and is not there yet."""
    if cohort != DEMO_COHORT or cohort.exists():
        return
    with bar(console, "writing phantom scans") as on_scan:
        write_phantom_cohort(cohort, DEMO, on_scan=on_scan)
    console.print(f"phantom cohort of {DEMO.patients} patients, {DEMO.scans} scans at {DEMO.spacing_mm:g} mm: {cohort}")


def require_demo_cohort(cohort: Path) -> None:
    """Refuse a folder that stands where the demo's cohort belongs and is another, of an earlier version for example.

    Raises:
        PlanError: naming the folder.
    """
    if cohort != DEMO_COHORT or not cohort.exists():
        return
    description = cohort / "dataset_description.json"
    try:
        options = json.loads(description.read_text(encoding="utf-8"))["GeneratedBy"][0]["Options"]
    except (OSError, ValueError, LookupError, TypeError):
        options = None
    if options != asdict(DEMO):
        raise PlanError(
            f"{cohort} is not the demo's cohort of this version (see {description}); remove the folder, "
            "and begin a study of another name: make demo STUDY=demo2"
        )
