"""Cores of regions, made of a cohort's scans and written as an atlas that every command takes by ``--regions``.

::

    <out>/  core.yaml  the regions, for --regions      core.nii.gz  their label map      core.tsv  what its labels are
            core.json  how they were made: share, margin, scans, source, template; no patient

How a scan shows a region is told by one rule for all scans, that of the tissue shares: from the label maps where every scan has
one, else from the fluid in the images, and then a region of brain is where the template has it and the scan has no fluid.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import yaml

from datamodules.files.atomic import file_sha256, filled_folder, is_taken, locked
from datamodules.files.sealed import write_sealed
from datamodules.quality.tissue import CSF, FLUID
from datamodules.store.prepared import PreparedCohort
from experiments.analysis.tissue import SOURCES, tissues_of
from regions.atlas import region_mask, template_sha256
from regions.catalog import Region
from regions.core import LEAST_VOXELS, CoreRule, core, pieces
from regions.errors import UserError
from regions.grid import Grid

VERSION = "core 1"
END = "_core"
LEAST_SCANS = 10
"""Scans without which "all scans agree" says nothing."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """How many scans of a cohort show each region.

    Attributes:
        regions: Name -> the region.
        counts: Name -> (I, J, K) scans that show it in each voxel of the template's region, 0 elsewhere.
        grid: Of the voxels.
        scans: How many were used.
        unused: How many were not: maps that name too little of the brain, or images without the template's tissues.
        estimated: Whether fluid was estimated from intensities.
    """

    regions: Mapping[str, Region]
    counts: Mapping[str, npt.NDArray[np.int32]]
    grid: Grid
    scans: int
    unused: int
    estimated: bool


@dataclass(frozen=True)
class Core:
    """One region's core: where it lies, and how many voxels the template's region has."""

    mask: Mask
    template_voxels: int

    @property
    def voxels(self) -> int:
        """Its voxels."""
        return int(np.count_nonzero(self.mask))

    @property
    def is_kept(self) -> bool:
        """Whether it is large enough to be an input."""
        return self.voxels >= LEAST_VOXELS


def chosen_regions(regions: Mapping[str, Region], names: str) -> dict[str, Region]:
    """The regions that have a core: those of the template that show all images, or some of them.

    Args:
        regions: The study's inputs.
        names: Some of them, separated by commas; empty: all that have one.

    Raises:
        UserError: if one is not there, or has no core.
    """
    usual = {name: region for name, region in regions.items() if region.labels and not region.atlas and not region.images}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(usual)
    odd = [name for name in wanted if name not in usual]
    if odd:
        raise UserError(f"--inputs {odd[0]} has no core; regions with labels of the template have: {', '.join(usual)}")
    return {name: usual[name] for name in wanted}


def count_agreement(
    prepared: PreparedCohort, regions: Mapping[str, Region], workers: int, on_scan: Callable[[int, int], None]
) -> Agreement:
    """Count in how many scans each voxel of a template's region is that region.

    Args:
        prepared: Volumes of the scans; nothing else of them is known here.
        regions: Regions of the template.
        workers: Threads.
        on_scan: Called with (done, to do) after each scan.

    Raises:
        UserError: if fluid can be told neither from label maps nor from a T1w, or too few scans can be used.
    """
    estimated = not prepared.has_labels()
    if estimated and "t1w" not in prepared.names:
        raise UserError("without a label map of every scan fluid is told by a T1w; add t1w to --images, or give label maps")
    inside = {name: np.flatnonzero(region_mask(region, prepared.grid)) for name, region in regions.items()}
    sums = {name: np.zeros(voxels.size, np.int32) for name, voxels in inside.items()}
    used = 0
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        shown_by = partial(_shown_by, prepared, regions, inside, estimated)
        for done, shown in enumerate(pool.map(shown_by, range(len(prepared.scans))), start=1):
            used += shown is not None
            for name, agrees in (shown or {}).items():
                sums[name] += agrees
            on_scan(done, len(prepared.scans))
    if used < LEAST_SCANS:
        raise UserError(f"{used} of {len(prepared.scans)} scans can be used; a core needs at least {LEAST_SCANS}")
    counts = {name: np.zeros(prepared.grid.shape, np.int32) for name in regions}
    for name, voxels in inside.items():
        counts[name].flat[voxels] = sums[name]
    return Agreement(regions, counts, prepared.grid, used, len(prepared.scans) - used, estimated)


def _shown_by(
    prepared: PreparedCohort,
    regions: Mapping[str, Region],
    inside: Mapping[str, npt.NDArray[np.intp]],
    estimated: bool,
    row: int,
) -> dict[str, Mask] | None:
    """Where one scan shows each region, of the template's voxels; None where nobody can say."""
    tissues = tissues_of(prepared, row, estimated)
    if tissues is None:
        return None
    if not estimated:
        return {name: region.select(tissues.flat[inside[name]]) for name, region in regions.items()}
    kinds = {name: CSF if set(region.labels) <= set(FLUID) else 1 for name, region in regions.items()}
    return {name: tissues.flat[inside[name]] == kind for name, kind in kinds.items()}


def cores_of(agreement: Agreement, rule: CoreRule) -> dict[str, Core]:
    """The core of each region, also of those that are too small to be an input."""
    return {
        name: Core(
            core(agreement.counts[name], agreement.scans, rule, agreement.grid),
            int(np.count_nonzero(region_mask(region, agreement.grid))),
        )
        for name, region in agreement.regions.items()
    }


def refuse_taken(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: naming it.
    """
    if is_taken(out):
        raise UserError(f"{out} exists and is not empty; a core is never written over another, give another --out")


def write_cores(out: Path, agreement: Agreement, rule: CoreRule, cores: Mapping[str, Core]) -> dict[str, Any]:
    """Write the atlas of the cores that are large enough, and say how it was made.

    Args:
        out: The new folder.
        agreement: What the cores were made of.
        rule: How.
        cores: All of them.

    Returns:
        The content of core.json.

    Raises:
        UserError: if no core is large enough, or the folder holds something; nothing is written.
    """
    kept = {name: made for name, made in cores.items() if made.is_kept}
    if not kept:
        least = f"no region keeps {LEAST_VOXELS} voxels, {rule.margin_on(agreement.grid):g} mm from where scans disagree"
        raise UserError(f"{least}; give a smaller --margin or --share, or smaller voxels")
    labels, of_region = pieces({name: made.mask for name, made in kept.items()})
    texts = {"core.tsv": _table(of_region), "core.yaml": _regions_file(of_region, agreement, rule)}
    facts = core_facts(agreement, rule, cores)
    out = out.resolve()
    with locked(out.with_name(f".{out.name}.lock")):
        refuse_taken(out)
        with filled_folder(out) as folder:
            (folder / "core.nii.gz").write_bytes(_packed(labels, agreement.grid))
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            files = {name: file_sha256(folder / name) for name in ("core.nii.gz", *texts)}
            write_sealed(folder / "core.json", facts | {"files": files})
    return facts


def _packed(labels: npt.NDArray[np.uint16], grid: Grid) -> bytes:
    """A label map as a NIfTI file, the same bytes for the same labels."""
    image = nib.Nifti1Image(labels, grid.matrix)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def core_facts(agreement: Agreement, rule: CoreRule, cores: Mapping[str, Core]) -> dict[str, Any]:
    """How cores were made, and how much of each region is left, as it stands in core.json."""
    ml = agreement.grid.voxel_mm3 / 1000
    rows = {
        name: {
            "labels": list(agreement.regions[name].labels),
            "template_voxels": made.template_voxels, "template_ml": made.template_voxels * ml,
            "core_voxels": made.voxels, "core_ml": made.voxels * ml, "kept": made.voxels / made.template_voxels,
            "written": made.is_kept,
        }
        for name, made in cores.items()
    }  # fmt: skip
    return {
        "version": VERSION, "share": rule.share, "margin_mm": rule.margin_on(agreement.grid),
        "scans": agreement.scans, "unused_scans": agreement.unused, "source": SOURCES[agreement.estimated],
        "voxel_mm": list(agreement.grid.spacing), "template_sha256": template_sha256(), "regions": rows,
    }  # fmt: skip


def _table(of_region: Mapping[str, list[int]]) -> str:
    """The names of the map's labels: the cores that a label belongs to."""
    last = max(max(labels) for labels in of_region.values())
    names = [" and ".join(n + END for n, labels in of_region.items() if label in labels) for label in range(1, last + 1)]
    return "index\tname\n" + "".join(f"{index}\t{name}\n" for index, name in enumerate(names, start=1))


def _regions_file(of_region: Mapping[str, list[int]], agreement: Agreement, rule: CoreRule) -> str:
    """The regions as ``regions.own`` reads them."""
    agree = f"in at least {rule.least_of(agreement.scans)} of {agreement.scans} scans"
    away = f"more than {rule.margin_on(agreement.grid):g} mm from where it is not"
    entries: dict[str, Any] = {"atlas": "core.nii.gz"}
    for name, labels in of_region.items():
        entries[name + END] = {"labels": labels, "description": f"{name} {agree}, {away}", "source": "regionwise core"}
    return str(yaml.safe_dump(entries, sort_keys=False, width=120))
