"""A store of made volumes: noise in the shape of the template brain, on the 1 mm grid of a real cohort.

Data loading, augmentation and training cost the same on these as on scans, since no step looks at what a voxel holds. A cohort
of any length takes the disk of a few volumes: its rows share them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recipe import default_recipe
from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.splits import FOLDS, Splits
from datamodules.mri import BrainMRIDataModule
from datamodules.store.checksums import complete
from datamodules.store.prepared import FILES, PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from regions.atlas import load_template, template_on
from regions.catalog import REGIONS
from regions.grid import Grid

MARGIN_MM = 6.0
SCANS = 382
"""Scans of the reference study (Coll et al. 2024)."""


def template_grid(spacing_mm: float = 1.0) -> Grid:
    """The grid on which scans of this voxel size are stored when they cover the template brain: 6 mm around it."""
    _, template = load_template()
    low = np.array(template.origin) - MARGIN_MM
    high = np.array(template.origin) + np.array(template.shape) - 1 + MARGIN_MM
    first, last = np.floor(low / spacing_mm).astype(int), np.ceil(high / spacing_mm).astype(int)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = first * spacing_mm
    i, j, k = (last - first + 1).tolist()
    return Grid.of((i, j, k), affine)


def made_image(grid: Grid, seed: int) -> np.ndarray[Any, Any]:
    """(2, I, J, K) float16: standard normal inside the template brain, exactly 0 outside."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((2, *grid.shape), dtype=np.float32).astype(np.float16)
    image[:, template_on(grid) == 0] = 0
    return image


def make_store(folder: Path, scans: int, unique: int = 4, spacing_mm: float = 1.0) -> PreparedCohort:
    """Make, or find, a store whose rows share ``unique`` volumes.

    Args:
        folder: Where it goes.
        scans: Rows of the cohort.
        unique: Pairs of images on disk, about 33 MB each at 1 mm; row r has pair r mod unique.
        spacing_mm: Side of a voxel.
    """
    grid = template_grid(spacing_mm)
    pairs = [tuple(f"made-{spacing_mm:g}mm-{number}-{name}" for name in DEFAULT_IMAGES) for number in range(min(unique, scans))]
    for number, pair in enumerate(pairs):
        if all(complete(folder / "volumes" / key, FILES["image"]) for key in pair):
            continue
        for key, image in zip(pair, made_image(grid, number), strict=True):
            volume = folder / "volumes" / key
            shutil.rmtree(volume, ignore_errors=True)
            volume.mkdir(parents=True)
            write_volume(volume, key, {"image": image}, {"brain_ml": 0.0, "template_dice": 1.0})
    return PreparedCohort(folder, grid, tuple(StoredScan(pairs[row % len(pairs)]) for row in range(scans)))


def made_people(scans: int) -> tuple[list[str], list[int], Splits]:
    """A patient for each scan, alternating labels, and a split that deals the patients out in turn."""
    patients = [f"made-{row:04d}" for row in range(scans)]
    return patients, [row % 2 for row in range(scans)], Splits({p: row % FOLDS for row, p in enumerate(patients)}, FOLDS, 0)


def made_data(prepared: PreparedCohort, name: str, batch: int, **options: Any) -> BrainMRIDataModule:
    """The data of fold 0 of an input, as a run of the default preset has it.

    Args:
        prepared: The volumes.
        name: The input.
        batch: Scans in a batch.
        options: Further arguments of ``BrainMRIDataModule``.
    """
    patients, labels, splits = made_people(len(prepared.keys))
    options = {"augmentation": Augmentation(**default_recipe()["augmentation"]), **options}
    return BrainMRIDataModule(prepared, patients, labels, splits, 0, REGIONS[name], batch_size=batch, **options)
