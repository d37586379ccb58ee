"""The Lightning face of the data: one fold, one input, batches of volumes in which only that input is visible.

A training batch holds ``image`` (B, 2, I, J, K) float32, ``label`` (B,) int64 and ``index`` (B,) int64, the row in the cohort.
Tuning and test batches pass the same path without any random step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.augmentation import Augmentation, Augmenter
from datamodules.boxes import crop_to_box, region_step
from datamodules.splits import Splits
from datamodules.store import PreparedCohort
from regions.catalog import Region
from regions.grid import Box, EmptyRegionError

Batch = dict[str, Tensor]


class EpochBatches(Sampler[list[int]]):
    """Lists of rows: shuffled by (seed, epoch) for training, in order otherwise; batches differ by one scan at most in size.

    Args:
        rows: The scans of a part.
        batch_size: Scans in a batch, over all processes of a distributed training.
        seed: Seed of the order; None keeps it.
        rank: This process; it gets every ``world``-th scan of each batch.
        world: Number of processes.

    Raises:
        ValueError: if a batch has fewer scans than there are processes.
    """

    def __init__(self, rows: Sequence[int], batch_size: int, seed: int | None = None, rank: int = 0, world: int = 1) -> None:
        self.rows, self.seed, self.epoch, self.rank, self.world = np.asarray(rows), seed, 0, rank, world
        self.batches = -(-len(self.rows) // batch_size)
        if len(self.rows) // self.batches < world:
            raise ValueError(f"data.batch_size {batch_size} leaves batches smaller than the {world} devices; raise it")

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the coming epoch; Lightning calls this, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.rows
        if self.seed is not None:
            rows = np.random.default_rng([self.seed, self.epoch, 1]).permutation(rows)
        for batch in np.array_split(rows, self.batches):
            yield batch[self.rank :: self.world].tolist()


class BoxDataset(Dataset[Batch]):
    """One box of every scan of a part, read a batch at a time: from memory, or from the store's memory-mapped files."""

    def __init__(
        self, prepared: PreparedCohort, labels: Sequence[int], rows: Sequence[int], box: Box, with_labels: bool, resident: bool
    ) -> None:
        self.prepared, self.box, self.with_labels = prepared, box, with_labels
        self.label = torch.as_tensor(list(labels), dtype=torch.int64)
        self.rows = [int(row) for row in rows]
        self._place = {row: place for place, row in enumerate(self.rows)}
        self._resident = self._read(self.rows) if resident else None

    def _read(self, rows: Sequence[int]) -> Batch:
        batch = {"image": torch.from_numpy(np.stack([self.prepared.crop(row, self.box) for row in rows]))}
        if self.with_labels:
            batch["labels"] = torch.from_numpy(np.stack([self.prepared.crop(row, self.box, "labels") for row in rows]))
        return batch

    def __getitem__(self, rows: list[int]) -> Batch:
        if self._resident is None:
            batch = self._read(rows)
        else:
            places = [self._place[row] for row in rows]
            batch = {name: whole[places] for name, whole in self._resident.items()}
        index = torch.tensor(rows)
        return batch | {"index": index, "label": self.label[index]}


class BrainMRIDataModule(pl.LightningDataModule):
    """Scans of one fold, cut to one input.

    Args:
        prepared: The store's volumes, in cohort order.
        patients: The patient of each scan.
        labels: The class of each scan, 0 or 1.
        splits: The study's split of the patients.
        fold: Test part of this run.
        region: The input; a region without labels is the whole brain.
        multiple_of: Each side of a batch's volume is a multiple of this.
        batch_size: Scans in a batch, over all devices of a distributed training. Tuning and test parts are read whole by each.
        mask_mode: ``template``: the region of the MNI152 template, the same voxels for everyone; ``template-dilated``: grown
            by ``dilate_mm``; ``subject``: each scan's own label map.
        dilate_mm: How far ``template-dilated`` grows.
        augmentation: Random changes of training scans.
        memory: Keep the boxes of a part in memory; ``auto`` does when they take less than 2 GB.
        seed: Seed of order and augmentation.

    Raises:
        SplitError: if the fold does not exist.
        EmptyRegionError: if the region has no voxel on the study's grid or in a scan's own label map.
    """

    def __init__(
        self,
        prepared: PreparedCohort,
        patients: Sequence[str],
        labels: Sequence[int],
        splits: Splits,
        fold: int,
        region: Region,
        multiple_of: int = 8,
        batch_size: int = 8,
        mask_mode: Literal["template", "subject", "template-dilated"] = "template",
        dilate_mm: float = 3.0,
        augmentation: Augmentation = Augmentation(),
        memory: Literal["auto", "resident", "mapped"] = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        self.prepared, self.labels, self.region, self.batch_size, self.seed = prepared, labels, region, batch_size, seed
        self.partitions = splits.partitions(fold, patients)
        self.by_subject = mask_mode == "subject" and bool(region.labels)
        self.memory = memory
        grid = prepared.grid
        mask, self.box = region_step(region, grid, mask_mode, dilate_mm, multiple_of)
        self.mask = None if mask is None or self.by_subject else torch.from_numpy(crop_to_box(mask, self.box))[None, None]
        self.region_labels = torch.zeros(256, dtype=torch.bool)
        self.region_labels[list(region.labels)] = True
        self.augmenter = Augmenter(augmentation, self.box, grid, len(labels), seed)
        if self.by_subject:
            self._check_subject_regions()

    def _check_subject_regions(self) -> None:
        for row in sorted(int(row) for rows in self.partitions.values() for row in rows):
            if not self.region_labels.numpy()[self.prepared.crop(row, self.box, "labels")].any():
                key = self.prepared.keys[row]
                raise EmptyRegionError(
                    f"scan {row} of the cohort (store {key[:12]}) has no voxel of {self.region.name} in its label map"
                )

    def _dataset(self, rows: Sequence[int], box: Box) -> BoxDataset:
        size = len(rows) * 2 * 2 * int(np.prod(box.shape))
        resident = self.memory == "resident" or (self.memory == "auto" and size < 2e9)
        return BoxDataset(self.prepared, self.labels, rows, box, self.by_subject, resident)

    def _loader(self, *partitions: str) -> DataLoader[Batch]:
        train = partitions == ("train",)
        rows = [int(row) for name in partitions for row in self.partitions[name]]
        dataset = self._dataset(rows, self.augmenter.read if train else self.box)
        if train:
            rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
            sampler = EpochBatches(rows, self.batch_size, self.seed, rank, world)
        else:
            sampler = EpochBatches(rows, self.batch_size)
        return DataLoader(dataset, batch_size=None, sampler=sampler, generator=torch.Generator())  # leaves the global one alone

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training scans in a new order each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Tuning scans in cohort order."""
        return self._loader("tuning")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Internal test scans in cohort order."""
        return self._loader("internal_test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Tuning scans, then internal test scans."""
        return self._loader("tuning", "internal_test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, then keep the region only; runs on the batch's device."""
        training = self.trainer is not None and self.trainer.training
        return self.finish(batch, self.trainer.current_epoch if training else None)  # type: ignore[union-attr]

    def finish(self, batch: Batch, epoch: int | None) -> Batch:
        """The steps after reading.

        Args:
            batch: As read: ``image`` float16, of the read box for training, of the box otherwise.
            epoch: Epoch of training, or None for tuning and test batches.

        Returns:
            ``image`` (B, 2, *box.shape) float32, exactly zero outside the region; ``label`` and ``index`` unchanged.
        """
        image, own = batch["image"], batch.get("labels")
        if epoch is not None:
            image, own = self.augmenter(image, batch["index"], epoch, own)
        image = image.float()
        if own is not None:
            image = torch.where(self.region_labels.to(own.device)[own.long()][:, None], image, 0.0)
        elif self.mask is not None:
            self.mask = self.mask.to(image.device)
            image = torch.where(self.mask, image, 0.0)
        return {"image": image, "label": batch["label"], "index": batch["index"]}
