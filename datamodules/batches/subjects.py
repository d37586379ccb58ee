"""Prepared scans as TorchIO's ``SubjectsDataset``, in which only one region is visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
import torchio as tio

from datamodules.store.prepared import PreparedCohort
from regions.catalog import Region
from regions.masking import KeepRegion


def scan_subject(prepared: PreparedCohort, row: int, with_labels: bool, facts: Mapping[str, Any] | None = None) -> tio.Subject:
    """A prepared scan as TorchIO's subject: its images by name, float32 on the study's grid, ``labels`` if asked for.

    Args:
        prepared: The volumes.
        row: The scan's row in the cohort.
        with_labels: Whether the label map is read.
        facts: What else the subject holds.
    """
    affine = prepared.grid.matrix
    volumes = torch.from_numpy(np.asarray(prepared.image(row), dtype=np.float32))
    images: dict[str, Any] = {
        name: tio.ScalarImage(tensor=volume[None].clone(), affine=affine)
        for name, volume in zip(prepared.names, volumes, strict=True)
    }
    if with_labels:
        images["labels"] = tio.LabelMap(tensor=torch.from_numpy(np.array(prepared.labels(row)))[None], affine=affine)
    return tio.Subject({**images, **(facts or {})})


class RegionSubjects(tio.SubjectsDataset):
    """Subjects that are read from the store when they are asked for.

    Args:
        prepared: The volumes.
        facts: What a subject holds beside its images, by its row in the cohort.
        with_labels: Whether label maps are read.
        keep: The region step; None shows the whole brain.
    """

    def __init__(
        self, prepared: PreparedCohort, facts: Mapping[int, Mapping[str, Any]], with_labels: bool, keep: KeepRegion | None
    ) -> None:
        self.prepared, self.facts, self.with_labels = prepared, facts, with_labels
        self.rows = list(facts)
        self.load_getitem = True
        self.set_transform(keep)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tio.Subject:
        """Read one subject."""
        row = self.rows[index]
        subject = scan_subject(self.prepared, row, self.with_labels, {"row": row, **self.facts[row]})
        lacking = [self.prepared.names[column] for column in self.prepared.missing_channels.get(row, ())]
        return self._shown(subject, lacking)

    def _shown(self, subject: tio.Subject, lacking: Sequence[str]) -> tio.Subject:
        """The subject after its transform; the region step passes over images that the scan lacks, which are zero already."""
        transform: Any = self._transform
        if lacking and isinstance(transform, KeepRegion):
            transform = None if len(lacking) == len(self.prepared.names) else copy(transform)
            if transform is not None:
                transform.exclude = list(lacking)
        return transform(subject) if transform else subject

    def dry_iter(self) -> Any:
        """Subjects, read one after another."""
        return (self[index] for index in range(len(self)))


def region_subjects(
    prepared: PreparedCohort, facts: Mapping[int, Mapping[str, Any]], region: Region | None, mode: str, dilate_mm: float
) -> RegionSubjects:
    """The scans of some rows; no region is the whole brain."""
    keep = None if region is None else KeepRegion(region, mode, dilate_mm=dilate_mm)
    return RegionSubjects(prepared, facts, region is not None and mode == "subject", keep)
