"""What an explanation works on: the study as its runs were trained, and how closely it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from experiments.explaining.gradients import DRAWS, SIGMA
from experiments.explaining.pieces import Pieces, pieces_of
from experiments.study.opening import open_with_progress
from experiments.study.record import read_record
from experiments.study.runs import Run
from experiments.study.settings import Settings, settings_of_run
from experiments.study.study import Study
from regions.atlas import region_mask
from regions.catalog import Region
from regions.errors import UserError

VERSION = 1
"""Raised whenever a part's content changes, so that older ones are made again."""
PER_FOLD = 2
"""Networks with permuted labels for each fold, where no number is given: fewer make the band wide."""


@dataclass(frozen=True)
class Method:
    """How closely networks are looked at."""

    draws: int = DRAWS
    """Noisy copies of a scan for SmoothGrad."""
    sigma: float = SIGMA
    """SD of their noise as a share of the scan's range."""
    networks: int = 0
    """Networks with permuted labels; 0: two for each fold."""
    seed: int = 0
    """Seed of noise, permutations and random weights."""


@dataclass(frozen=True)
class Explained:
    """A study that is explained.

    Attributes:
        settings: Those of its runs.
        study: Its scans, volumes and split.
        runs: Input -> its complete runs.
        method: How closely.
    """

    settings: Settings
    study: Study
    runs: Mapping[str, Sequence[Run]]
    method: Method

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.study.folder

    @property
    def folds(self) -> int:
        """Folds of its split."""
        return self.study.splits.folds

    @property
    def networks(self) -> int:
        """Networks with permuted labels, and networks with random weights."""
        return self.method.networks or PER_FOLD * self.folds

    @cached_property
    def _pieces(self) -> dict[str, Pieces]:
        return {}

    def region(self, name: str) -> Region:
        """The region of an input."""
        return self.settings.regions[name]

    def inside(self, name: str) -> npt.NDArray[np.bool_]:
        """(I, J, K) bool, the voxels that an input shows on the study's grid; in subject mode the template's."""
        data, region = self.settings.values.data, self.region(name)
        grown = data.dilate_mm if data.mask_mode == "template-dilated" and region.labels else 0.0
        return region_mask(region, self.study.prepared.grid, grown)

    def pieces(self, name: str) -> Pieces:
        """The disjoint regions that an input shows; cached."""
        if name not in self._pieces:
            self._pieces[name] = pieces_of(self.region(name), self.settings.regions.values(), self.study.prepared.grid)
        return self._pieces[name]


def open_explained(folder: Path, runs: Mapping[str, Sequence[Run]], method: Method, console: Console) -> Explained:
    """Open a study with the settings of its runs.

    Args:
        folder: The study.
        runs: Input -> its complete runs.
        method: How closely it is looked at.
        console: Where progress goes.

    Raises:
        UserError: if the study predicts a number, or its record is missing.
    """
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder / 'study.yaml'} is missing; open the study first: make check STUDY={folder.name}")
    if record.label.is_number:
        raise UserError(f"explain goes with two classes; {folder.name} predicts a number ({record.label.name})")
    first = next(iter(runs.values()))[0]
    settings = settings_of_run(folder, record, first.folder(folder))
    return Explained(settings, open_with_progress(settings, console, look_only=True), runs, method)
