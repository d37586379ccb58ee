"""Masks and maps beside contrasts, and images that a scan lacks: what random changes and larger voxels make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchio as tio

from datamodules.batches.augmentation import Augmentation
from datamodules.batches.augmenter import Augmenter
from datamodules.batches.subjects import region_subjects
from datamodules.batches.transform_task import TransformTask
from datamodules.batches.transforms import changed_scan
from datamodules.store.boxes import crop_to_box
from datamodules.store.coarse import coarsened
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from regions.catalog import get_region
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


def test_subjects_of_scans_that_lack_an_image_show_the_region_of_the_others(tmp_path: Path) -> None:
    cohort = stored(tmp_path, ("t1w", "flair"), ("a", "b"), ("a", ""), ("", "b"), ("", ""))
    whole, *lacking = region_subjects(cohort, {row: {} for row in range(4)}, get_region("brainstem"), "template", 0.0)
    mask = whole["t1w"].data != 0
    assert 0 < int(mask.sum()) < int((torch.from_numpy(cohort.image(0)) != 0).sum()) / 4
    for row, subject in enumerate(lacking, start=1):
        for name, key in zip(cohort.names, cohort.scans[row].images, strict=True):
            assert torch.equal(subject[name].data != 0, mask & bool(key))


NAMES = ("t1w", "label-lesion_mask", "atlas-x_dseg")
INSIDE = [float(np.float16(6e-8)), 1.0], [10.0, 49.0]
"""What a mask and a label map hold in the brain."""


def values(volume: np.ndarray) -> list[float]:
    """What an image holds where it is not exactly zero."""
    return np.unique(volume[volume != 0]).tolist()


def test_turning_and_scaling_give_masks_and_labels_no_new_value(tmp_path: Path) -> None:
    cohort = stored(tmp_path, NAMES, ("a", "mask", "dseg"))
    turning = Augmentation(flip=0, noise=0.1, gamma=0.2, rotate_deg=10, scale=0.1)
    augmenter = Augmenter(turning, WHOLE, GRID, 1, 0, {}, (1, 2))
    image = torch.from_numpy(crop_to_box(cohort.image(0), augmenter.read))[None]
    changed = augmenter(image, torch.tensor([0]), 0)[0][0].numpy()
    assert tuple(map(values, changed[1:])) == INSIDE
    assert not np.array_equal(changed[2], cohort.image(0)[2])


def test_transforms_give_masks_and_labels_no_new_value(tmp_path: Path) -> None:
    cohort = stored(tmp_path, NAMES, ("a", "mask", "dseg"))
    transforms = (tio.RandomNoise(std=(0.5, 0.5)), tio.RandomAffine(degrees=10), tio.RandomBiasField())
    changed = changed_scan(TransformTask(cohort, transforms, 0, WHOLE, False), 0, 0)["image"]
    assert tuple(map(values, changed[1:])) == INSIDE
    assert not np.array_equal(changed[2], cohort.image(0)[2])
    assert not np.array_equal(changed[0], cohort.image(0)[0])


def test_an_image_may_be_called_as_the_brain_is(tmp_path: Path) -> None:
    cohort = stored(tmp_path, ("t1w", "brain"), ("a", "b"))
    changed = changed_scan(TransformTask(cohort, (tio.RandomFlip(flip_probability=0),), 0, WHOLE, False), 0, 0)["image"]
    assert np.array_equal(changed, cohort.image(0).astype(np.float32))


def test_larger_voxels_hold_labels_that_were_there(tmp_path: Path) -> None:
    cohort = stored(tmp_path, NAMES, ("a", "mask", "dseg"))
    coarse = coarsened(cohort, 16)
    t1w, mask, dseg = coarse.image(0)
    assert values(dseg) == INSIDE[1]
    assert np.array_equal(dseg != 0, t1w != 0)
    assert 0 < float(mask.max()) <= 1
    block = cohort.image(0)[2][4:6, 4:6, 4:6]
    assert dseg[2, 2, 2] == (49 if (block == 49).sum() > 4 or (block[0, 0, 0] == 49 and (block == 49).sum() == 4) else 10)
    assert coarsened(cohort, 16).keys == coarse.keys != cohort.keys
    plain = cohort.showing(["t1w", "label-lesion_mask"])
    assert coarsened(plain, 16).keys == plain.keys
