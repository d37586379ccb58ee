"""``plan``: the runs of a study, in fixed order, and where each leaves its files; as a command, the list of those missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regions.catalog import REGIONS, get_region, load_regions

FOLDS = 7
EXAMPLE = "for example: make fold FOLD=3 ROI=gray_matter"


class PlanError(ValueError):
    """A run or a study that does not exist as it was named."""


@dataclass(frozen=True, order=True)
class Run:
    """One training: one input, one fold, one seed."""

    input: str
    fold: int
    seed: int = 0

    @property
    def name(self) -> str:
        """``input/fold-k/seed-s``, also the run's folder inside its study."""
        return f"{self.input}/fold-{self.fold}/seed-{self.seed}"

    def folder(self, study: Path) -> Path:
        """The run's folder."""
        return study / self.name


def parse_run(roi: str | None, fold: str | None, seed: str | None, own: Path | None = None, folds: int = FOLDS) -> Run:
    """A run from what a user typed.

    Args:
        roi: Name of the input.
        fold: Number of the test part.
        seed: Seed; None is 0.
        own: YAML file with the user's own regions.
        folds: Number of folds.

    Raises:
        PlanError: naming what is missing or wrong, what is allowed, and an example.
    """
    names = list(REGIONS) if own is None else [*REGIONS, *load_regions(own)]
    if not roi:
        raise PlanError(f"ROI is missing; it is one of {', '.join(names)}; {EXAMPLE}")
    if not fold:
        raise PlanError(f"FOLD is missing; it is a number from 0 to {folds - 1}; {EXAMPLE}")
    if not fold.isdecimal() or int(fold) >= folds:
        raise PlanError(f"FOLD={fold} does not exist; folds are 0 to {folds - 1}; {EXAMPLE}")
    if seed and not seed.isdecimal():
        raise PlanError(f"SEED={seed} is not a whole number from 0")
    get_region(roi, own=None if own is None else load_regions(own))
    return Run(roi, int(fold), int(seed or 0))


def grid(inputs: Sequence[str], seeds: Sequence[int], folds: int = FOLDS) -> list[Run]:
    """All runs of a study: seed by seed, fold by fold, and within a fold input by input."""
    return [Run(name, fold, seed) for seed in seeds for fold in range(folds) for name in inputs]


def study_name(text: str) -> str:
    """A name that can be a folder.

    Raises:
        PlanError: if it holds anything but letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise PlanError(f"STUDY={text!r} cannot be a folder's name; use up to 64 letters, digits, dots, dashes and underscores")
    return text
