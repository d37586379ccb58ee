"""Change one training scan by TorchIO transforms; runs in the processes of ``datamodules.batches.transform_pool``."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torchio as tio

from datamodules.batches.subjects import scan_subject
from datamodules.batches.transform_task import Arrays, TransformTask
from datamodules.cohort.images import kind_of
from datamodules.store.boxes import crop_to_box
from regions.errors import UserError

BRAIN = "brain mask"
"""What a subject's brain is called; no image of a study can be, for the blank."""
TAG = 2
"""Keeps the random numbers of the transforms apart from those of order (1) and augmentation."""


def changed_scan(task: TransformTask, row: int, epoch: int) -> Arrays:
    """Change a scan on the study's whole grid, then cut out the box, so that all inputs see the same change.

    All random numbers follow from (seed, epoch, row). The brain's voxels are moved along with the image; outside them the
    result is exactly zero. Masks and maps are moved along without a new value.

    Returns:
        ``image`` (C, *box.shape) float32 and, if asked for, ``labels`` box.shape uint8.

    Raises:
        UserError: if a transform fails or changes the shape.
    """
    seeds = np.random.SeedSequence([task.seed, epoch, row, TAG]).generate_state(3).tolist()
    torch.manual_seed(seeds[0])
    np.random.seed(seeds[1])
    random.seed(seeds[2])
    subject: Any = scan_subject(task.prepared, row, task.with_labels)
    brain = torch.stack([subject[name].data != 0 for name in task.prepared.names]).any(dim=0).to(torch.uint8)
    affine = task.prepared.grid.matrix
    subject.add_image(tio.LabelMap(tensor=brain, affine=affine), BRAIN)
    for name in (name for name in task.prepared.names if kind_of(name) != "contrast"):
        subject.add_image(tio.LabelMap(tensor=subject[name].data, affine=affine), name)
    for transform in task.transforms:
        name = f"data.transforms: {type(transform).__name__}"
        try:
            subject = transform(subject)
        except Exception as error:
            raise UserError(f"{name} fails: {type(error).__name__}: {' '.join(str(error).split())}") from error
        for image in subject.get_images(intensity_only=False):
            if tuple(image.shape) != (1, *task.prepared.grid.shape):
                raise UserError(
                    f"{name} changes the shape from {(1, *task.prepared.grid.shape)} to {tuple(image.shape)}; leave it out"
                )
    inside = subject[BRAIN].data[0].numpy() != 0
    there = zip(task.prepared.names, task.prepared.scans[row].images, strict=True)
    seen = [np.where(inside & bool(key), subject[name].data[0].numpy(), 0).astype(np.float32) for name, key in there]
    image = np.stack(seen)
    arrays: Arrays = {"image": crop_to_box(image, task.box)}
    if task.with_labels:
        arrays["labels"] = crop_to_box(subject["labels"].data[0].numpy().astype(np.uint8), task.box)
    return arrays
