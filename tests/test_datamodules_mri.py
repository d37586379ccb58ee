"""The Lightning face of the data: only the region is visible, only training scans change, and every input sees the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchio as tio
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.splits import SplitError
from datamodules.mri import Batch, BrainMRIDataModule, EpochBatches
from datamodules.store.boxes import crop_to_box
from experiments.study.study import Study
from regions.atlas import region_mask
from regions.catalog import REGIONS, Region, get_region
from regions.grid import EmptyRegionError
from regions.masking import MODES, KeepRegion

FIVE = [name for name in REGIONS if name != "global"]
ROOM = 16
EXACT = Augmentation(flip=0.5, shift_mm=12.0, noise=0.1, gamma=0.2)
EVERYTHING = Augmentation(flip=0.5, shift_mm=12.0, noise=0.1, gamma=0.2, rotate_deg=10.0, scale=0.1)


def made(study: Study, region: str | Region = "global", **options: Any) -> BrainMRIDataModule:
    """Fold 2 of the phantom study, cut to one input."""
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    own = get_region(region) if isinstance(region, str) else region
    return BrainMRIDataModule(study.prepared, patients, labels, study.splits, options.pop("fold", 2), own, 8, **options)


def training(data: BrainMRIDataModule, epoch: int = 0) -> list[Batch]:
    """The finished training batches of an epoch."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [data.finish(batch, epoch) for batch in loader]


def by_scan(batches: list[Batch]) -> dict[int, Tensor]:
    """The volume of each scan."""
    return {int(row): image for batch in batches for row, image in zip(batch["index"], batch["image"], strict=True)}


def framed(volume: Any, data: BrainMRIDataModule) -> np.ndarray:
    """Put a box (..., I, J, K), or an array on the study's grid, into a frame with room on all sides."""
    sides = data.prepared.grid.shape
    start = (0, 0, 0) if tuple(volume.shape[-3:]) == sides else data.box.start
    out = np.zeros((*volume.shape[:-3], *(side + 2 * ROOM for side in sides)), np.float32)
    i, j, k = (slice(a + ROOM, a + ROOM + n) for a, n in zip(start, volume.shape[-3:], strict=True))
    out[..., i, j, k] = volume
    return out


def in_box(data: BrainMRIDataModule) -> np.ndarray:
    """Where an input's box lies in the frame."""
    return framed(np.ones(data.box.shape), data) > 0


# ---- only the region is visible


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("mode", ["template", "template-dilated"])
def test_outside_a_template_region_augmented_training_batches_are_exactly_zero(study: Study, name: str, mode: Any) -> None:
    data = made(study, name, mask_mode=mode, augmentation=EVERYTHING)
    dilated = 3.0 if mode == "template-dilated" else 0.0
    region = framed(region_mask(get_region(name), study.prepared.grid, dilated), data) > 0
    for image in by_scan(training(data, epoch=1)).values():
        volume = framed(image, data)
        assert not volume[:, ~region].any()
        assert np.count_nonzero(volume[:, region]) > 0.3 * 2 * region.sum()


@pytest.mark.parametrize("name", FIVE)
def test_outside_a_subjects_own_region_augmented_training_batches_are_exactly_zero(labelled: Study, name: str) -> None:
    data = made(labelled, name, mask_mode="subject", augmentation=EVERYTHING)
    labels = torch.tensor(get_region(name).labels)
    for batch in data.train_dataloader():
        _, moved = data.augmenter(batch["image"], batch["index"], 1, batch["labels"])
        assert moved is not None
        image, inside = data.finish(batch, 1)["image"], torch.isin(moved, labels)[:, None].expand(-1, 2, -1, -1, -1)
        assert not image[~inside].any()
        assert image[inside].count_nonzero() > 0.3 * inside.sum()


def test_outside_the_brain_global_training_batches_are_exactly_zero(study: Study) -> None:
    plain = by_scan(training(made(study, augmentation=Augmentation(flip=0.5, shift_mm=12.0, noise=0.0))))
    noisy = by_scan(training(made(study, augmentation=EXACT)))
    for row, image in noisy.items():
        brain = plain[row] != 0
        assert not image[~brain].any()
        assert image[brain].count_nonzero() > 0.99 * brain.sum()


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("mode", ["template", "subject"])
def test_a_regional_run_sees_exactly_what_the_global_run_sees_of_the_region(labelled: Study, name: str, mode: Any) -> None:
    options: dict[str, Any] = {"augmentation": EXACT, "batch_size": 4}
    overall, regional = made(labelled, **options), made(labelled, name, mask_mode=mode, **options)
    both, region = (
        in_box(overall) & in_box(regional),
        framed(region_mask(get_region(name), labelled.prepared.grid), regional) > 0,
    )
    for one, other in zip(training(overall, 3), training(regional, 3), strict=True):
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["label"], other["label"])
        for seen, part in zip(one["image"], other["image"], strict=True):
            full, shown = framed(seen, overall), framed(part, regional)
            kept = (shown != 0) & both
            assert kept.any()
            assert np.array_equal(shown[kept], full[kept])
            if mode == "template":
                assert np.array_equal(shown[:, both], np.where(region, full, 0)[:, both])


# ---- tuning and test scans never change


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FIVE)
def test_tuning_and_test_batches_equal_the_torchio_transform(labelled: Study, name: str, mode: Any) -> None:
    data = made(labelled, name, mask_mode=mode, dilate_mm=4.0, augmentation=EVERYTHING, batch_size=3)
    keep, affine, box = KeepRegion(name, mode=mode, dilate_mm=4.0), labelled.prepared.grid.matrix, in_box(data)
    for batch in data.predict_dataloader():
        out = data.on_after_batch_transfer(batch, 0)
        for row, image in zip(out["index"].tolist(), out["image"], strict=True):
            scan = torch.from_numpy(labelled.prepared.image(row).astype(np.float32))
            own = torch.from_numpy(labelled.prepared.labels(row).copy())[None]
            subject = tio.Subject(
                t1w=tio.ScalarImage(tensor=scan[:1], affine=affine),
                flair=tio.ScalarImage(tensor=scan[1:], affine=affine),
                labels=tio.LabelMap(tensor=own, affine=affine),
            )
            kept = keep(subject)
            expected = framed(np.concatenate([kept["t1w"].numpy(), kept["flair"].numpy()]), data)
            assert np.array_equal(framed(image, data)[:, box], expected[:, box])
            assert np.count_nonzero(expected[:, ~box]) <= 0.01 * np.count_nonzero(expected)


def test_global_tuning_and_test_batches_hold_the_prepared_brain(study: Study) -> None:
    data = made(study, augmentation=EVERYTHING)
    box = in_box(data)
    for batch in data.predict_dataloader():
        out = data.on_after_batch_transfer(batch, 0)
        for row, image in zip(out["index"].tolist(), out["image"], strict=True):
            brain = framed(study.prepared.image(row).astype(np.float32), data)
            assert np.array_equal(framed(image, data)[:, box], brain[:, box])
            assert np.count_nonzero(brain[:, ~box]) <= 0.01 * np.count_nonzero(brain)


@pytest.mark.parametrize("part", ["val", "test", "predict"])
def test_the_same_batch_twice_is_equal_bit_for_bit(study: Study, part: str) -> None:
    data = made(study, "gray_matter", augmentation=EVERYTHING)
    first, second = (
        [data.on_after_batch_transfer(batch, 0) for batch in getattr(data, f"{part}_dataloader")()] for _ in range(2)
    )
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("image", "label", "index"))


def test_training_batches_from_packed_and_from_mapped_files_are_equal(labelled: Study) -> None:
    options: dict[str, Any] = {"mask_mode": "subject", "augmentation": EVERYTHING}
    packed = by_scan(training(made(labelled, "ventricles", memory="packed", **options)))
    mapped = by_scan(training(made(labelled, "ventricles", memory="mapped", **options)))
    assert packed.keys() == mapped.keys()
    assert all(torch.equal(packed[row], mapped[row]) for row in packed)


def test_batches_that_are_kept_on_a_device_are_those_of_the_files(labelled: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"mask_mode": "subject", "augmentation": EVERYTHING}
    mapped = made(labelled, "ventricles", memory="mapped", **options)
    monkeypatch.setattr("datamodules.mri.free_memory", lambda device: 2**40)
    kept = made(labelled, "ventricles", memory="auto", **options)
    both = [training(one) + [one.finish(batch, None) for batch in one.val_dataloader()] for one in (kept, mapped)]
    assert kept.place == "device"
    assert kept.train_dataloader().dataset._kept is not None
    assert kept.predict_dataloader().dataset._kept is None
    for first, second in zip(*both, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in ("image", "label", "index"))


def test_tuning_batches_from_packed_and_from_mapped_files_are_equal(labelled: Study) -> None:
    options: dict[str, Any] = {"mask_mode": "subject", "augmentation": EVERYTHING}
    found = []
    for memory in ("packed", "mapped"):
        data = made(labelled, "ventricles", memory=memory, **options)
        found.append([data.finish(batch, None) for batch in data.predict_dataloader()])
        assert data.place == memory
    for packed, mapped in zip(*found, strict=True):
        assert all(torch.equal(packed[name], mapped[name]) for name in ("image", "label", "index"))


# ---- order


def test_training_order_changes_with_epoch_and_seed_and_repeats() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochBatches(range(30), 4, seed)
        sampler.set_epoch(epoch)
        return [row for batch in sampler for row in batch]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(one) == list(range(30)) for one in orders)
    assert len({tuple(one) for one in orders}) == 6
    assert order(0, 2) == orders[2]


def test_without_a_seed_scans_come_in_order_in_every_epoch() -> None:
    sampler = EpochBatches([5, 7, 9, 11], 3)
    sampler.set_epoch(4)
    assert list(sampler) == [[5, 7], [9, 11]]


@pytest.mark.parametrize(("scans", "size", "expected"), [(9, 8, [5, 4]), (16, 8, [8, 8]), (3, 8, [3]), (7, 1, [1] * 7)])
def test_batches_differ_by_one_scan_at_most(scans: int, size: int, expected: list[int]) -> None:
    sampler = EpochBatches(range(scans), size, seed=0)
    assert [len(batch) for batch in sampler] == expected
    assert len(sampler) == len(expected)


def test_partitions_share_no_patient_and_hold_every_scan(study: Study) -> None:
    patients = [scan.patient for scan in study.cohort.scans]
    for fold in range(study.splits.folds):
        data = made(study, fold=fold)
        rows = {
            "train": [row for batch in data.train_dataloader() for row in batch["index"].tolist()],
            "tuning": [row for batch in data.val_dataloader() for row in batch["index"].tolist()],
            "internal_test": [row for batch in data.test_dataloader() for row in batch["index"].tolist()],
        }
        assert sorted(row for part in rows.values() for row in part) == list(range(len(patients)))
        names = [{patients[row] for row in part} for part in rows.values()]
        assert len(set.union(*names)) == sum(map(len, names))
        predicted = [row for batch in data.predict_dataloader() for row in batch["index"].tolist()]
        assert predicted == rows["tuning"] + rows["internal_test"]


def test_labels_belong_to_their_scans(study: Study) -> None:
    for batch in made(study).predict_dataloader():
        assert batch["label"].tolist() == [study.cohort.scans[row].label for row in batch["index"].tolist()]


class Witness(pl.LightningModule):
    """Takes down what Lightning hands to each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained: list[list[Batch]] = []
        self.tuned: list[list[Batch]] = []

    def on_train_epoch_start(self) -> None:
        self.trained.append([])

    def on_validation_epoch_start(self) -> None:
        self.tuned.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.trained[-1].append(batch)
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.tuned[-1].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_sets_the_epoch_of_order_and_augmentation_and_leaves_tuning_scans_alone(study: Study) -> None:
    data, witness = made(study, "brainstem", augmentation=EVERYTHING, batch_size=4), Witness()
    trainer = pl.Trainer(
        plugins=LightningEnvironment(), accelerator="cpu", max_epochs=3, num_sanity_val_steps=1, use_distributed_sampler=False,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(witness, datamodule=data)
    fresh = made(study, "brainstem", augmentation=EVERYTHING, batch_size=4)
    for epoch, batches in enumerate(witness.trained):
        for seen, expected in zip(batches, training(fresh, epoch), strict=True):
            assert torch.equal(seen["index"], expected["index"])
            assert torch.equal(seen["image"], expected["image"])
    plain = [fresh.finish(batch, None) for batch in fresh.val_dataloader()]
    for batches in witness.tuned:
        for seen, expected in zip(batches, plain, strict=False):
            assert torch.equal(seen["image"], expected["image"])
    assert len(witness.tuned) == 4
    assert len(witness.trained) == 3


# ---- refusals


def test_a_batch_size_below_one_is_refused(study: Study) -> None:
    with pytest.raises(ValueError, match="batch_size is 0; give 1 or more"):
        made(study, batch_size=0)


def test_a_fold_that_does_not_exist_is_refused(study: Study) -> None:
    with pytest.raises(SplitError, match="fold 7 does not exist; folds are 0 to 6"):
        made(study, fold=7)


def test_a_region_that_a_label_map_does_not_show_is_refused_with_the_scan(study: Study) -> None:
    ventricles = get_region("ventricles")
    empty = [row for row in range(len(study.cohort.scans)) if not ventricles.select(study.prepared.labels(row)).any()]
    message = rf"scan {empty[0]} of the cohort \(store [0-9a-f]{{12}}\) has no voxel of ventricles in its label map"
    with pytest.raises(EmptyRegionError, match=message):
        made(study, "ventricles", mask_mode="subject")


def test_a_box_holds_its_region_and_fits_the_network(study: Study) -> None:
    for name in REGIONS:
        data = made(study, name)
        assert all(side % 8 == 0 for side in data.box.shape)
        mask = region_mask(get_region(name), study.prepared.grid)
        assert crop_to_box(mask, data.box).sum() == mask.sum()
