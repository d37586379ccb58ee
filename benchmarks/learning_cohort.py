"""The cohorts on which learning is measured: phantoms of one generator, few to train on and many that no reader has seen.

::

    cohorts/benchmarks/learning/<preset>-<seed>/   684 patients, one scan each
    store/benchmarks/                              their volumes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from benchmarks.scans import store_folder
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.cohort.target import Target
from datamodules.phantoms.patients import PhantomOptions, draw_patients
from datamodules.phantoms.write import write_phantom_cohort
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import open_store

SIZES = (84, 160, 320)
"""Training patients; a fifth of them are added as the tuning part, as six folds of seven would."""
LARGEST, TUNING, TEST = max(SIZES), max(SIZES) // 5, 300
SPACING_MM = 4.0

STRUCTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "global": ("ventricles", "cortex", "cerebellar_cortex", "subcortical", "brainstem", "white_matter", "lesions"),
        "white_matter": ("white_matter", "lesions"),
        "gray_matter": ("cortex", "cerebellar_cortex"),
        "subcortical_gray_matter": ("subcortical",),
        "ventricles": ("ventricles",),
        "brainstem": ("brainstem",),
    }
)
"""Input -> the phantom's structures that lie in it. A neighbour that changes is seen too, so more can be attainable."""


@dataclass(frozen=True)
class LearningCohort:
    """The scans of one size, and what was planted in each.

    Attributes:
        folder: Where it lies.
        scans: Training, then tuning, then test scans.
        prepared: Their volumes.
        splits: Fold 0 of 3: all but the tuning and the test part is trained on.
        latents: Input -> (scans, changes) float64: the planted change of size and signal of its structures.
    """

    folder: Path
    scans: tuple[Scan, ...]
    prepared: PreparedCohort
    splits: Splits
    latents: Mapping[str, npt.NDArray[np.float64]]

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each scan."""
        return tuple(scan.patient for scan in self.scans)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(scans,) the class of each scan."""
        return np.array([scan.label for scan in self.scans], dtype=np.int64)

    @property
    def parts(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Rows of ``train``, ``tuning`` and ``internal_test``."""
        return self.splits.partitions(0, self.patients)


def open_learning_cohort(preset: str, seed: int, size: int, spacing_mm: float = SPACING_MM) -> LearningCohort:
    """A cohort cut to a number of training patients; the test part is the same for every size. Drawn where it is missing."""
    options = PhantomOptions(
        preset, patients=LARGEST + TUNING + TEST, scans=LARGEST + TUNING + TEST, spacing_mm=spacing_mm, seed=seed
    )
    folder = Path("cohorts/benchmarks/learning") / f"{preset.replace(':', '-')}-{seed}-{spacing_mm:g}mm"
    if not folder.is_dir():
        print(f"drawing {options.scans} scans into {folder}", flush=True)
        write_phantom_cohort(folder, options, processes=2)
    scans = sorted(read_cohort(folder, Target()).scans, key=lambda scan: scan.patient)
    prepared = open_store(scans, store_folder(), workers=2)
    rows = np.r_[:size, LARGEST : LARGEST + size // 5, LARGEST + TUNING : options.scans]
    kept = tuple(scans[row] for row in rows)
    part = np.repeat([2, 1, 0], [size, size // 5, TEST]).tolist()
    splits = Splits({scan.patient: number for scan, number in zip(kept, part, strict=True)}, 3, 0)
    return LearningCohort(folder, kept, prepared.of_rows(rows), splits, _latents(options, rows))


def _latents(options: PhantomOptions, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    patients = draw_patients(options)
    sides = [(patients[row].scans[0].shape, patients[row].scans[0].signal) for row in rows]
    return {
        name: np.array([[side[part] for part in structures for side in both if part in side] for both in sides])
        for name, structures in STRUCTURES.items()
    }
