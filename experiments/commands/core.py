"""``core``: the part of each region that is that region in every scan, as an atlas for ``--regions``.

A region of the template holds the neighbours of those patients in whom they are large: a ventricle's size can be read in
subcortical gray matter. Its core are the voxels that are subcortical gray matter in all scans of the cohort (``--share``), and
more than a voxel away from all others (``--margin``), so that the mask is one for all patients and holds no border that moves.
Labels play no part. The scans are those that a study of this cohort would have: flagged and broken ones are left out. The
grid is theirs.

make core COHORT=/data/ms OUT=cores/ms
make sweep COHORT=/data/ms STUDY=cores REGIONS=cores/ms/core.yaml INPUTS=global,subcortical_gray_matter_core,brainstem_core
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.checking.core import END, chosen_regions, cores_of, count_agreement, refuse_taken, write_cores
from experiments.runtime.console import bar, plain_console, print_note
from experiments.study.arguments import CommandOptions, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.runs import PlanError
from experiments.study.settings import parse_settings
from experiments.study.study import open_cohort
from regions.core import LEAST_VOXELS, CoreRule

DEFAULT = CoreRule()


@dataclass(frozen=True)
class Options(CommandOptions):
    """What belongs to a core, and where the atlas is written."""

    takes_settings: ClassVar[bool] = True

    out: Path | None = None
    """Folder of the new atlas; it must be missing or empty."""
    inputs: str = ""
    """Regions, separated by commas; empty: all of the template's, and those of your own that are made of its labels."""
    share: float = DEFAULT.share
    """Share of the scans that must show the region in a voxel."""
    margin: float | None = DEFAULT.margin_mm
    """A voxel as near as this, in mm, to one in which too few scans agree is left out; empty: one voxel."""


def run(options: Options, settings_args: list[str]) -> int:
    """Write the atlas, and show what is left of each region."""
    console = plain_console()
    if options.out is None:
        raise PlanError("--out is missing; give the folder of the new atlas, for example --out cores/mine")
    refuse_taken(options.out)
    rule = CoreRule(options.share, options.margin)
    settings = parse_settings(settings_args)
    regions = chosen_regions(settings.regions, options.inputs)
    ensure_demo_cohort(settings.values.cohort, console)
    with bar(console, "preparing scans") as on_scan:
        cohort, prepared = open_cohort(settings.study_options(), on_scan)
    if cohort.exclusions:
        console.print(f"note: {cohort.excluded()}")
    with bar(console, "reading scans") as on_scan:
        agreement = count_agreement(prepared, regions, settings.values.workers, on_scan)
    facts = write_cores(options.out, agreement, rule, cores_of(agreement, rule))
    show(facts, console)
    names = ",".join(name + END for name, row in facts["regions"].items() if row["written"])
    console.print(f"written: {options.out / 'core.yaml'}, and core.nii.gz, core.tsv, core.json beside it")
    console.print(f"next: make sweep COHORT={settings.values.cohort} REGIONS={options.out / 'core.yaml'} INPUTS=global,{names}")
    return 0


def show(facts: Mapping[str, Any], console: Console) -> None:
    """Print how much of each region is left, and which have no core."""
    scans = f"{facts['scans']} scans" + (f" ({facts['unused_scans']} more could not be used)" if facts["unused_scans"] else "")
    how = f"share {facts['share']:g} of {scans}, margin {facts['margin_mm']:g} mm, from {facts['source']}"
    table = Table(title=f"cores: {how}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("region", "template, ml", "core, ml", "voxels", "kept, %"):
        table.add_column(name, justify="left" if name == "region" else "right", min_width=6)
    for name, row in facts["regions"].items():
        cells = (f"{row['template_ml']:.1f}", f"{row['core_ml']:.1f}", str(row["core_voxels"]), f"{100 * row['kept']:.1f}")
        table.add_row(name, *cells)
    console.print(table)
    for name, row in facts["regions"].items():
        if not row["written"]:
            left = f"{row['core_voxels']} voxels are left, an input needs {LEAST_VOXELS}"
            print_note(console, f"no core of {name}: {left}; the region of the template stays what it is")


def main(arguments: Sequence[str]) -> int:
    """Command line of ``core``."""
    return run(*split(Options, arguments))
