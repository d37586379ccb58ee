"""The scans that all contenders read: a synthetic cohort at 1 mm, written as .nii.gz, and regionwise's store of it.

::

    cohorts/benchmarks/1mm/   12 patients, one scan each: T1w, FLAIR, brain mask, label map
    store/benchmarks/         regionwise's store of them, and the made volumes of ``benchmarks.made``
    studies/benchmarks/       whatever a measurement writes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.cohort.target import Target
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import open_store

SCRATCH = Path("studies/benchmarks")
SCANS = 12
RULE = Target(threshold=2.5)


def cohort_folder(spacing_mm: float = 1.0, scans: int = SCANS) -> Path:
    """Where the cohort of a voxel size and a number of scans lies."""
    return Path("cohorts/benchmarks") / (f"{spacing_mm:g}mm" if scans == SCANS else f"{spacing_mm:g}mm-{scans}")


def store_folder() -> Path:
    """Where regionwise's store of the benchmarks lies."""
    return Path("store/benchmarks")


@dataclass(frozen=True)
class Bench:
    """The scans of a measurement: the first are trained on, the others are the tuning and the test part."""

    scans: tuple[Scan, ...]
    prepared: PreparedCohort
    splits: Splits

    @property
    def training(self) -> tuple[Scan, ...]:
        """The scans of the training part."""
        return tuple(self.scans[row] for row in self.splits.partitions(0, self.patients)["train"])

    @property
    def patients(self) -> list[str]:
        """The patient of each scan."""
        return [scan.patient for scan in self.scans]

    @property
    def labels(self) -> list[int]:
        """The class of each scan; alternating, since only time is measured."""
        return [row % 2 for row in range(len(self.scans))]


def ensure_cohort(folder: Path, scans: int = SCANS, spacing_mm: float = 1.0) -> tuple[Scan, ...]:
    """The scans of a synthetic cohort, which is drawn where it is missing (about a minute for 12 at 1 mm)."""
    if not folder.is_dir():
        print(f"drawing {scans} scans at {spacing_mm:g} mm into {folder}", flush=True)
        options = PhantomOptions(patients=scans, scans=scans, spacing_mm=spacing_mm, seed=0)
        write_phantom_cohort(folder, options, processes=2)
    return read_cohort(folder, RULE).scans


def open_bench(training: int, spacing_mm: float = 1.0) -> Bench:
    """The scans and their store; both are made where they are missing.

    Args:
        training: Scans of an epoch; where they are more than the cohort has, its scans come again, each row as one of its own.
        spacing_mm: Side of a voxel.
    """
    drawn = ensure_cohort(cohort_folder(spacing_mm), SCANS, spacing_mm)
    prepared = open_store(drawn, store_folder(), workers=2)
    rows = [row % len(drawn) for row in range(training + 2)]
    scans = tuple(replace(drawn[row], patient=f"row-{number:04d}") for number, row in enumerate(rows))
    return Bench(scans, prepared.of_rows(rows), own_splits(scans, training))


def own_splits(scans: Sequence[Scan], training: int) -> Splits:
    """Fold 0 of 3: the first patients are trained on, the rest is dealt to the tuning and the test part in turn.

    Raises:
        ValueError: if fewer than two scans are left for tuning and test.
    """
    if training > len(scans) - 2:
        raise ValueError(f"{training} training scans of {len(scans)} leave no tuning and test part")
    return Splits({scan.patient: 2 if row < training else row % 2 for row, scan in enumerate(scans)}, 3, 0)
