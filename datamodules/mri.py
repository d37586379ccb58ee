"""The Lightning face of the data: one fold, one input, batches of volumes in which only that input is visible.

A training batch holds ``image`` (B, C, I, J, K) float32, ``label`` (B,) int64 and ``index`` (B,) int64, the row in the cohort,
and ``score`` (B,) and ``covariates`` (B, V) float32 where the scans have them.
Tuning and test batches pass the same path without any random step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from datamodules.batches.augmentation import Augmentation
from datamodules.batches.augmenter import Augmenter
from datamodules.batches.control_inputs import Content, control_content
from datamodules.batches.loading import (
    Batch,
    BoxDataset,
    BoxLoader,
    EpochBatches,
    Memory,
    Place,
    choose_place,
    free_memory,
    moved,
)
from datamodules.batches.transform_pool import TransformPool
from datamodules.batches.transform_task import SubjectTransform, TransformTask
from datamodules.cohort.images import kind_of
from datamodules.cohort.splits import Splits
from datamodules.store.boxes import crop_to_box, region_step
from datamodules.store.packing import can_pack
from datamodules.store.prepared import PreparedCohort
from regions.catalog import Region
from regions.errors import UserError
from regions.grid import EmptyRegionError, region_box
from regions.step import inside_labels, keep_inside

if TYPE_CHECKING:
    import torchio as tio


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
        transforms: TorchIO transforms of training scans, on the whole grid, before ``augmentation`` and the region step.
        memory: Where the boxes of the run's scans lie: ``device``, ``packed`` or ``mapped`` (``datamodules.batches.loading``);
            ``auto`` decides by their size and by what is free on the GPU.
        seed: Seed of order and augmentation.
        mask: (I, J, K) bool on the study's grid, shown in the place of the template's region; for control experiments.
        content: What is shown of the region; for control experiments: ``image``; ``mask``: 1 in its brain voxels; ``shuffled``:
            its brain voxels shuffled, each scan in its own order, all images alike.
        least_side: Each side of a batch's volume is at least this.
        scores: The score behind each scan's label, or None where there is none.
        covariates: (scans, V) standardised covariates for the network, or None.

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
        transforms: Sequence[SubjectTransform] = (),
        memory: Memory = "auto",
        seed: int = 0,
        mask: npt.NDArray[np.bool_] | None = None,
        content: Content = "image",
        least_side: int = 1,
        scores: Sequence[float] | None = None,
        covariates: npt.NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; give 1 or more")
        self.prepared, self.labels, self.region, self.batch_size, self.seed = prepared, labels, region, batch_size, seed
        self.patients, self.scores, self.covariates = patients, scores, covariates
        self.partitions = splits.partitions(fold, patients)
        self.mask_mode, self.dilate_mm = mask_mode, dilate_mm
        self.by_subject = mask_mode == "subject" and bool(region.labels) and mask is None
        self.content = content
        self.memory = memory
        self.place: Place | None = None
        grid = prepared.grid
        if mask is None:
            mask, self.box = region_step(region, grid, mask_mode, dilate_mm, multiple_of, least_side)
        else:
            self.box = region_box(mask, grid, multiple_of, least_side)
        shown = None if mask is None or self.by_subject else torch.from_numpy(crop_to_box(mask, self.box))
        self.mask = None if shown is None else shown[None, None].bool()
        self.region_labels = torch.zeros(256, dtype=torch.bool)
        if self.by_subject:
            self.region_labels[list(region.labels)] = True
        kept = [channel for channel, name in enumerate(prepared.names) if kind_of(name) != "contrast"]
        self.augmenter = Augmenter(augmentation, self.box, grid, len(labels), seed, prepared.missing_channels, kept)
        task = TransformTask(prepared, tuple(transforms), seed, self.augmenter.read, self.by_subject)
        self.transforms = TransformPool(task) if transforms else None
        if self.by_subject:
            self._check_subject_regions()

    def _check_subject_regions(self) -> None:
        for row in sorted(int(row) for rows in self.partitions.values() for row in rows):
            if not self.region_labels.numpy()[self.prepared.crop(row, self.box, "labels")].any():
                key = self.prepared.scans[row].labels
                raise EmptyRegionError(
                    f"scan {row} of the cohort (store {key[:12]}) has no voxel of {self.region.name} in its label map"
                )

    def _bytes(self) -> int:
        """What the boxes of all parts take."""
        read = {"train": self.augmenter.read}
        return sum(
            len(rows) * (2 * len(self.prepared.names) + self.by_subject) * int(np.prod(read.get(name, self.box).shape))
            for name, rows in self.partitions.items()
        )

    def _loader(self, *partitions: str, once: bool = False, train: bool = False) -> BoxLoader:
        """The batches of some parts; what is read ``once`` takes no place on the device, which would save it nothing."""
        rows = [int(row) for name in partitions for row in self.partitions[name]]
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        if self.place is None:
            self.place = choose_place(self.memory, self._bytes(), free_memory(device), can_pack(self.prepared.folder))
        place: Place = "mapped" if once and self.place == "device" else self.place
        pack = self.augmenter.read
        box, transforms = (pack, self.transforms) if train else (self.box, None)
        place = "mapped" if transforms else place
        more = transforms, self.scores, self.covariates
        dataset = BoxDataset(self.prepared, self.labels, rows, box, self.by_subject, place, device, pack, *more)
        if train:
            rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
            sampler = EpochBatches(rows, self.batch_size, self.seed, rank, world)
        else:
            sampler = EpochBatches(rows, self.batch_size)
        to_gpu = device.type == "cuda" and place != "device"
        return BoxLoader(dataset, sampler, place != "device", device if to_gpu else None)

    def train_dataloader(self) -> BoxLoader:
        """Training scans in a new order each epoch."""
        return self._loader("train", train=True)

    def val_dataloader(self) -> BoxLoader:
        """Tuning scans in cohort order."""
        return self._loader("tuning")

    def test_dataloader(self) -> BoxLoader:
        """Internal test scans in cohort order."""
        return self._loader("internal_test", once=True)

    def predict_dataloader(self) -> BoxLoader:
        """Tuning scans, then internal test scans."""
        return self._loader("tuning", "internal_test", once=True)

    @property
    def prevalence(self) -> float:
        """Share of positive scans in the training part."""
        return float(np.asarray(self.labels)[self.partitions["train"]].mean())

    def training_images(self) -> Iterator[torch.Tensor]:
        """Images (B, C, *box.shape) of the training part on the trainer's device, in cohort order, with nothing random."""
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        for batch in self._loader("train", once=True):
            yield self.finish(moved(batch, device), None)["image"]

    def subjects(self, part: Literal["train", "tuning", "internal_test"]) -> tio.SubjectsDataset:
        """The scans of a part as TorchIO subjects on the study's grid, with nothing random, the region step applied.

        A subject holds the study's images by name, ``label``, ``patient``, ``row`` in the cohort, and in subject mode the
        label map ``labels``.

        Raises:
            UserError: if there is no such part.
        """
        from datamodules.batches.subjects import region_subjects

        if part not in self.partitions:
            raise UserError(f"part {part!r} does not exist; parts are {', '.join(self.partitions)}")
        facts = {int(row): {"label": int(self.labels[row]), "patient": self.patients[row]} for row in self.partitions[part]}
        region = self.region if self.region.labels else None
        mode = "subject" if self.by_subject else self.mask_mode
        return region_subjects(self.prepared, facts, region, mode, self.dilate_mm)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Bring a batch to the device, all but its rows' numbers."""
        return moved(batch, device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, then keep the region only; runs on the batch's device."""
        training = self.trainer is not None and self.trainer.training
        return self.finish(batch, self.trainer.current_epoch if training else None)  # type: ignore[union-attr]

    def finish(self, batch: Batch, epoch: int | None) -> Batch:
        """The steps after reading.

        Args:
            batch: As read: ``image`` float16, or float32 after transforms, of the read box for training, of the box otherwise.
            epoch: Epoch of training, or None for tuning and test batches.

        Returns:
            ``image`` (B, C, *box.shape) float32, exactly zero outside the region; the rest unchanged.
        """
        image, labels = batch["image"], batch.get("labels")
        if epoch is not None:
            image, labels = self.augmenter(image, batch["index"], epoch, labels)
        image = image.float()
        if labels is not None:
            self.region_labels = self.region_labels.to(labels.device)
            image = keep_inside(image, inside_labels(labels, self.region_labels)[:, None])
        elif self.mask is not None:
            self.mask = self.mask.to(image.device)
            image = keep_inside(image, self.mask)
        if self.content != "image":
            image = control_content(image, batch["index"], self.content, self.seed)
        return {"image": image, **{name: batch[name] for name in ("label", "score", "covariates", "index") if name in batch}}
