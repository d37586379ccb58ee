"""``phantoms``: write a synthetic cohort with a known effect, as a BIDS dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.runtime.console import bar, plain_console
from experiments.study.arguments import CommandOptions, read
from experiments.study.runs import PlanError

DEFAULT = PhantomOptions()


@dataclass(frozen=True)
class Options(CommandOptions):
    """What the cohort looks like, and where it is written."""

    out: Path | None = None
    """Folder of the new cohort."""
    phantom: str = DEFAULT.preset
    """Preset of the effect."""
    patients: int = DEFAULT.patients
    """Patients."""
    scans: int = DEFAULT.scans
    """Scans of all patients together."""
    spacing: float = DEFAULT.spacing_mm
    """Side of a voxel in mm, 1 to 8."""
    seed: int = DEFAULT.seed
    """Seed of everything that is random."""
    processes: int = 1
    """Processes that write scans."""
    external: bool = DEFAULT.external
    """Other sites and scanners, for a cohort that no study was trained with."""


def run(options: Options) -> int:
    """Write the cohort and say what it holds."""
    if options.out is None:
        raise PlanError("--out is missing; give the folder of the new cohort, for example --out cohorts/phantoms")
    phantom = PhantomOptions(options.phantom, options.patients, options.scans, options.spacing, options.seed, options.external)

    console = plain_console()
    with bar(console, "writing phantom scans") as on_scan:
        write_phantom_cohort(options.out, phantom, on_scan, processes=options.processes)
    size = f"{phantom.patients} patients, {phantom.scans} scans at {phantom.spacing_mm:g} mm"
    console.print(f"{phantom.preset} phantom cohort: {size} in {options.out}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``phantoms``."""
    return run(read(Options, arguments))
