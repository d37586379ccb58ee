"""The new scans: found, prepared where they are raw, and brought to the voxels that the networks know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.console import Console

from datamodules.cohort.records import Exclusion, Scan
from datamodules.cohort.unlabelled import Unlabelled, is_raw, read_unlabelled
from datamodules.files.tables import read_rows
from datamodules.intake.raw import RawDataset, read_raw
from datamodules.preparation.derivative import PIPELINE
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.tables import PROGRAM
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import BrokenScansError, open_store
from experiments.bundles.bundle import Bundle
from experiments.checking.prepare_cohort import FAILURES, prepare, select_sessions
from experiments.predicting.errors import PredictError
from experiments.predicting.records import Reason
from regions.grid import Grid

THICK_MM = 3.0
"""Raw slices from this thickness on, twice as thick as a pixel is wide, are named."""
BRAINS = ("deepbet", "registration")
"""Ways of brain extraction that ``prepare`` knows."""
Key = tuple[str, str]


@dataclass(frozen=True)
class Intake:
    """The scans that are there, those that cannot be predicted, and what raw headers say of scans; by patient and session."""

    scans: tuple[Scan, ...]
    excluded: tuple[Exclusion, ...]
    remarks: Mapping[Key, tuple[Reason, ...]]


def find_scans(source: Path, out: Path, bundle: Bundle, participants: Sequence[str], workers: int, console: Console) -> Intake:
    """Find the scans of a source, and prepare them where they are raw.

    Args:
        source: A folder or table of prepared scans, or a raw BIDS dataset.
        out: Raw scans are prepared into ``prepared`` below it, where they are found again.
        bundle: Whose images and voxel size.
        participants: Whose scans; all where none is named.
        workers: Raw scans that are prepared at a time.
        console: Where progress goes.

    Raises:
        CohortError: if there is nothing to read, or no such participant.
        PredictError: if raw scans cannot be prepared for these networks.
    """
    if not source.exists():
        raise PredictError(f"{source} does not exist; give a folder or a table of scans")
    if not is_raw(source):
        found = read_unlabelled(source, bundle.images, bundle.optional).of_participants(participants)
        return Intake(found.scans, found.exclusions, {})
    dataset = _raw(source, bundle, participants)
    prepared = out / "prepared"
    prepare(dataset, prepared, prepare_options(bundle), workers, False, console)
    failed = read_rows(prepared / "derivatives" / PIPELINE / FAILURES)
    excluded = tuple(Exclusion(row["patient"], _session(row["session"]), "not prepared", row["reason"]) for row in failed)
    names = {(session.patient, session.session) for session in dataset.sessions}
    gone = {(item.patient, item.session) for item in excluded}
    found = read_unlabelled(prepared, bundle.images, bundle.optional) if names - gone else Unlabelled(prepared, (), ())
    scans = tuple(scan for scan in found.scans if (scan.patient, scan.session) in names)
    return Intake(scans, excluded, {(one.patient, one.session): thick_slices(one.images) for one in dataset.sessions})


def _session(text: str) -> str:
    return "" if text == "n/a" else text


def _raw(source: Path, bundle: Bundle, participants: Sequence[str]) -> RawDataset:
    dataset = read_raw(source, "", "refuse", bundle.images, bundle.optional)
    return select_sessions(dataset, ",".join(f"sub-{label.removeprefix('sub-')}" for label in participants))


def prepare_options(bundle: Bundle) -> PrepareOptions:
    """How raw scans are prepared for the networks of a bundle: as ``prepare`` made their training cohort.

    Raises:
        PredictError: if they know voxels or images that it does not make.
    """
    spacing = bundle.scan_grid.spacing
    if not np.allclose(spacing, spacing[0], rtol=1e-3) or bundle.images[0] != "t1w":
        sides = " x ".join(f"{side:g}" for side in spacing)
        raise PredictError(
            f"the networks know voxels of {sides} mm and the images {', '.join(bundle.images)}, which prepare does not "
            "make of raw scans; give scans that are prepared like the training cohort"
        )
    made = _made_with(bundle)
    brain = next((name for name in BRAINS if name == made.get("brain")), PrepareOptions.brain)
    return PrepareOptions(brain, made.get("nonlinear") is True, spacing_mm=float(spacing[0]), images=bundle.images)


def _made_with(bundle: Bundle) -> Mapping[str, Any]:
    """How ``prepare`` made the training cohort; empty where something else did."""
    programs = [program for program in bundle.preparation["programs"] if program.get("Name") == PROGRAM]
    return programs[0].get("Parameters", {}) if programs else {}


def thick_slices(images: Mapping[str, Path]) -> tuple[Reason, ...]:
    """What is said of raw images whose slices are thick, and twice as thick as a pixel is wide."""
    reasons = []
    for path in images.values():
        try:
            sides = sorted(float(side) for side in nib.load(path).header.get_zooms()[:3])  # type: ignore[attr-defined]
        except (OSError, ValueError, AttributeError):
            continue  # prepare has refused it by name
        if sides[-1] >= THICK_MM and sides[-1] >= 2 * sides[0]:
            reasons.append(
                Reason("look", f"{path.name} was scanned in thick slices", f"{sides[-1]:g} mm, pixels {sides[0]:g} mm")
            )
    return tuple(reasons)


def usable_volumes(
    scans: Sequence[Scan], store: Path, grid: Grid, workers: int, on_scan: Callable[[int, int], None] | None = None
) -> tuple[list[Scan], PreparedCohort | None, list[Exclusion]]:
    """The scans whose images can be used, their volumes on a grid, and the others with the reason.

    Args:
        scans: All scans.
        store: Folder of prepared volumes.
        grid: The voxels that scans must have.
        workers: Threads that prepare.
        on_scan: Called with (done, to do).

    Raises:
        OSError: if the store cannot be written.
    """
    if not scans:
        return [], None, []
    try:
        return list(scans), open_store(scans, store, workers, on_scan, grid), []
    except BrokenScansError as error:
        broken = list(error.broken)
    gone = {(item.patient, item.session) for item in broken}
    usable = [scan for scan in scans if (scan.patient, scan.session) not in gone]
    rest, prepared, more = usable_volumes(usable, store, grid, workers)
    return rest, prepared, [replace(item, reason="image cannot be used") for item in (*broken, *more)]
