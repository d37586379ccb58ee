"""Masks and maps beside contrasts, and images that a scan lacks: what random changes and larger voxels make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torchio as tio

from datamodules.batches.transform_task import TransformTask
from datamodules.batches.transforms import changed_scan
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from regions.grid import Box, Grid

GRID = Grid.of((24, 28, 24), [[8, 0, 0, -92], [0, 8, 0, -120], [0, 0, 8, -76], [0, 0, 0, 1]])
WHOLE = Box((0, 0, 0), GRID.shape)


def stored(folder: Path, names: tuple[str, ...], *scans: tuple[str, ...]) -> PreparedCohort:
    """Scans of the volumes ``a`` and ``b`` (contrasts), ``mask`` (0 and 1) and ``dseg`` (10 and 49) in one brain."""
    rng, brain = np.random.default_rng(0), np.zeros(GRID.shape, bool)
    brain[3:21, 3:25, 3:21] = True
    values = {
        "a": rng.standard_normal(GRID.shape),
        "b": rng.standard_normal(GRID.shape),
        "mask": np.where(rng.random(GRID.shape) < 0.3, 1, np.float16(6e-8)),
        "dseg": np.where(rng.random(GRID.shape) < 0.5, 10, 49),
    }
    for key, array in values.items():
        (folder / "volumes" / key).mkdir(parents=True)
        volume = np.where(brain, array, 0).astype(np.float16)
        write_volume(folder / "volumes" / key, key, {"image": volume}, {"brain_ml": 1.0, "template_dice": 0.9})
    return PreparedCohort(folder, GRID, tuple(StoredScan(scan) for scan in scans), names)


def test_transforms_show_a_scan_that_lacks_the_first_image(tmp_path: Path) -> None:
    cohort = stored(tmp_path, ("flair", "t2w"), ("", "b"), ("a", "b"))
    task = TransformTask(cohort, (tio.RandomBiasField(),), 0, WHOLE, False)
    lacking, whole = (changed_scan(task, row, 0)["image"] for row in (0, 1))
    assert not lacking[0].any()
    assert np.array_equal(lacking[1] != 0, whole[1] != 0)
    assert np.count_nonzero(lacking[1]) == np.count_nonzero(cohort.image(0)[1])
