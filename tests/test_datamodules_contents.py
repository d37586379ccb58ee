"""What control experiments show of a region, and volumes on larger voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.batches.augmentation import Augmentation
from datamodules.batches.control_inputs import control_content
from datamodules.mri import BrainMRIDataModule
from datamodules.store.coarse import averaged, coarse_grid, coarsened, commonest
from experiments.study.study import Study
from regions.catalog import get_region
from regions.grid import Grid


@pytest.fixture
def batch() -> torch.Tensor:
    """Two scans of (2, 4, 6, 5) with values in another box each."""
    image = torch.zeros(2, 2, 4, 6, 5)
    generator = torch.Generator().manual_seed(0)
    image[0, :, 1:3, 1:4, 1:3] = torch.rand(2, 2, 3, 2, generator=generator) + 0.5
    image[1, :, :, 2:5, :] = torch.rand(2, 4, 3, 5, generator=generator) + 0.5
    return image


def test_mask_content_is_one_where_the_image_is_and_tells_nothing_of_intensity(batch: torch.Tensor) -> None:
    index = torch.tensor([3, 4])
    mask = control_content(batch, index, "mask", 0)
    assert torch.equal(mask, (batch != 0).float())
    assert torch.equal(mask, control_content(batch * 7, index, "mask", 0))


def test_shuffled_content_keeps_mask_and_values_and_moves_both_channels_alike(batch: torch.Tensor) -> None:
    index = torch.tensor([3, 4])
    shuffled = control_content(batch, index, "shuffled", 0)
    assert torch.equal(shuffled != 0, batch != 0)
    for scan in range(2):
        inside = batch[scan, 0] != 0
        old = {tuple(pair) for pair in batch[scan][:, inside].T.tolist()}
        new = {tuple(pair) for pair in shuffled[scan][:, inside].T.tolist()}
        assert old == new
        assert not torch.equal(shuffled[scan], batch[scan])


def test_the_order_depends_on_scan_and_seed_only(batch: torch.Tensor) -> None:
    both = control_content(batch, torch.tensor([3, 4]), "shuffled", 5)
    alone = control_content(batch[1:], torch.tensor([4]), "shuffled", 5)
    assert torch.equal(both[1:], alone)
    assert not torch.equal(alone, control_content(batch[1:], torch.tensor([5]), "shuffled", 5))
    assert not torch.equal(alone, control_content(batch[1:], torch.tensor([4]), "shuffled", 6))


def test_the_image_is_left_alone_and_an_unknown_content_is_refused(batch: torch.Tensor) -> None:
    assert control_content(batch, torch.tensor([0, 1]), "image", 0) is batch
    with pytest.raises(ValueError, match="content 'noise' does not exist; contents are image, mask, shuffled"):
        control_content(batch, torch.tensor([0, 1]), "noise", 0)  # type: ignore[arg-type]


def data(study: Study, **more: object) -> BrainMRIDataModule:
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    region = get_region("ventricles")
    return BrainMRIDataModule(study.prepared, patients, labels, study.splits, 0, region, 4, **more)  # type: ignore[arg-type]


def first(module: BrainMRIDataModule, epoch: int | None = None) -> torch.Tensor:
    loader = module.test_dataloader() if epoch is None else module.train_dataloader()
    return module.finish(next(iter(loader)), epoch)["image"]


def test_the_datamodule_shows_the_mask_of_its_region_also_in_augmented_batches(study: Study) -> None:
    augmentation = Augmentation(flip=0.5, shift_mm=6, noise=0.02)
    image, mask = (first(data(study, content=what, augmentation=augmentation), 0) for what in ("image", "mask"))
    assert torch.equal(mask, (image != 0).float())
    assert 0 < mask.mean() < 1


def test_the_datamodule_takes_a_mask_of_its_own(study: Study) -> None:
    own = np.zeros(study.prepared.grid.shape, dtype=bool)
    own[10:14, 12:17, 9:12] = True
    module = data(study, mask=own, augmentation=Augmentation(flip=1.0))
    for image in (first(module), first(module, 0)):
        assert image.shape[2:] == module.box.shape
        outside = torch.ones(image.shape[2:], dtype=torch.bool)
        i, j, k = (slice(a - s, b - s) for a, b, s in zip((10, 12, 9), (14, 17, 12), module.box.start, strict=True))
        outside[i, j, k] = False
        assert (image[..., outside] == 0).all()
        assert (image != 0).any()


def test_averaging_takes_the_mean_of_brain_voxels_and_keeps_zero_outside() -> None:
    image = np.zeros((1, 4, 5, 6), dtype=np.float16)
    image[0, :2, :2, :2] = 3
    image[0, 0, 0, 0] = 10
    image[0, 2:, :2, 2:4] = np.where(np.arange(8).reshape(2, 2, 2) < 3, 1, 0)
    image[0, 2:, 2:4, :2] = np.where(np.arange(8).reshape(2, 2, 2) % 2, -1, 1)
    coarse = averaged(image, 2)
    assert coarse.shape == (1, 2, 3, 3)
    assert coarse[0, 0, 0, 0] == np.float16((7 * 3 + 10) / 8)
    assert coarse[0, 1, 0, 1] == 0  # three of eight voxels are brain
    assert 0 < coarse[0, 1, 1, 0] < 1e-6  # brain whose mean is zero stays apart from outside
    assert (coarse != 0).sum() == 2


def test_the_commonest_label_wins_and_the_first_among_equals() -> None:
    labels = np.zeros((2, 2, 4), dtype=np.uint8)
    labels[..., :2] = np.array([[[4, 4], [2, 2]], [[2, 4], [9, 4]]])
    labels[..., 2:] = np.array([[[5, 5], [5, 5]], [[7, 7], [7, 7]]])
    assert commonest(labels, 2).tolist() == [[[4, 5]]]


def test_a_coarse_grid_covers_the_same_space() -> None:
    affine = np.diag([1.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = -10, -20, -30
    grid = Grid.of((6, 9, 12), affine)
    coarse = coarse_grid(grid, 3)
    assert coarse.shape == (2, 3, 4)
    assert coarse.spacing == (3.0, 6.0, 3.0)
    corner = [origin - side / 2 for origin, side in zip(coarse.origin, coarse.spacing, strict=True)]
    assert corner == [-10.5, -21.0, -30.5]


def test_a_cohort_is_coarsened_once_and_reads_like_any_other(study: Study) -> None:
    few = study.prepared.of_rows((0, 1))
    seen: list[tuple[int, int]] = []
    coarse = coarsened(few, 12.0, lambda done, total: seen.append((done, total)))
    assert coarse.grid.spacing == (12.0, 12.0, 12.0)
    assert coarse.image(1).shape[1:] == coarse.grid.shape == coarse.labels(0).shape
    brain = np.asarray(few.image(0))[0] != 0
    coarse_brain = np.asarray(coarse.image(0))[0] != 0
    assert coarse_brain.sum() * 8 == pytest.approx(brain.sum(), rel=0.15)
    assert seen[-1:] in ([(2, 2)], [])
    seen.clear()
    assert coarsened(few, 12.0, lambda done, total: seen.append((done, total))) == coarse
    assert seen == []


def test_large_voxels_stay_as_they_are(study: Study) -> None:
    assert coarsened(study.prepared, 3.0) is study.prepared
    with pytest.raises(ValueError, match="spacing is 0 mm; give a positive size"):
        coarsened(study.prepared, 0)
