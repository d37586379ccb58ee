"""``check``: what would be trained, before anything is: exclusions, classes per fold, what each input sees, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from experiments.settings import Settings
    from experiments.study import Study


def main(arguments: Sequence[str]) -> int:
    """Command line of ``check``: every setting that ``fold`` takes."""
    from experiments.demo import ensure_demo_cohort
    from experiments.fold import open_with_progress
    from experiments.settings import parse_settings

    console = Console(highlight=False, soft_wrap=True)
    settings = parse_settings(arguments)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    check(settings, study, console)
    return 0


def check(settings: Settings, study: Study, console: Console) -> None:
    """Print what the study would train on."""
    console.print(f"cohort {study.cohort.source}, study {study.folder}")
    console.print(flow_table(study.cohort.flow()))
    for remark in study.cohort.remarks:
        console.print(f"[yellow]note[/yellow]: {remark}")
    console.print(fold_table(study))
    console.print(days_line(study))
    console.print(input_table(settings, study))
    console.print(disk_line(study))


def flow_table(flow: Mapping[str, Any]) -> Table:
    """Scans and patients found, excluded for each reason, used."""
    table = Table("step", title="exclusions", title_justify="left", box=SIMPLE_HEAD)
    for name in ("scans", "patients"):
        table.add_column(name, justify="right")
    table.add_row("found", str(flow["found"]["scans"]), str(flow["found"]["patients"]))
    for one in flow["excluded"]:
        table.add_row(f"excluded: {one['reason']}", str(one["scans"]), str(one["patients"]))
    used = flow["used"]
    table.add_row(f"used, {used['positive_scans']} of them positive", str(used["scans"]), str(used["patients"]))
    return table


def fold_table(study: Study) -> Table:
    """Patients, scans and positive scans of each fold's partitions."""
    scans = study.cohort.scans
    table = Table("fold", title="patients / scans / positive scans", title_justify="left", box=SIMPLE_HEAD)
    for name in ("train", "tuning", "internal test"):
        table.add_column(name, justify="right")
    for fold in range(study.splits.folds):
        parts = study.splits.partitions(fold, [scan.patient for scan in scans])
        cells = []
        for rows in parts.values():
            chosen = [scans[row] for row in rows]
            cells.append(f"{len({s.patient for s in chosen})} / {len(chosen)} / {sum(s.label for s in chosen)}")
        table.add_row(str(fold), *cells)
    return table


def days_line(study: Study) -> str:
    """How long after the scan the EDSS was assessed."""
    days = [scan.days for scan in study.cohort.scans if scan.days is not None]
    rule = study.cohort.rule
    told = f"EDSS >= {rule.threshold:g} is positive; assessed {rule.min_days} to {rule.max_days} days after the scan"
    if not days:
        return f"{told}; no scan has a date"
    quarter, median, three = np.percentile(days, [25, 50, 75])
    return f"{told}; here {min(days)} to {max(days)} days, median {median:g} (quartiles {quarter:g} and {three:g})"


def input_table(settings: Settings, study: Study) -> Table:
    """For each input: the box that is read, the region's volume, and its share of the whole brain's voxels."""
    from datamodules.boxes import region_step
    from lightning_modules.networks import multiple_of
    from regions.catalog import REGIONS, load_regions

    own = load_regions(settings.values.regions) if settings.values.regions else {}
    grid, options = study.prepared.grid, settings.values.data
    sides = multiple_of(settings.parser.instantiate(settings.values).network)
    spacing = " x ".join(f"{side:g}" for side in grid.spacing)
    table = Table("input", title=f"inputs, {spacing} mm, mask mode {options.mask_mode}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("box, voxels", "region, ml", "of global's box"):
        table.add_column(name, justify="right")
    whole: float | None = None
    for region in (*REGIONS.values(), *own.values()):
        mask, box = region_step(region, grid, options.mask_mode, options.dilate_mm, sides)
        size = float(np.prod(box.shape))
        whole = whole or size
        volume = "brain" if mask is None else f"{mask.sum() * grid.voxel_mm3 / 1000:.1f}"
        table.add_row(region.name, " x ".join(map(str, box.shape)), volume, f"1/{whole / size:.1f}")
    return table


def disk_line(study: Study) -> str:
    """Room that the prepared volumes take."""
    size = sum(
        f.stat().st_size for key in set(study.prepared.keys) for f in (study.prepared.folder / "volumes" / key).iterdir()
    )
    return f"prepared volumes: {size / 1e6:.0f} MB in {study.prepared.folder}, shared by all runs"
