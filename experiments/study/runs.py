"""The runs of a study, in fixed order, and where each leaves its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regions.catalog import REGIONS, Region, get_region
from regions.errors import UserError

FOLDS = 7
EXAMPLE = "for example: make fold FOLD=3 ROI=gray_matter"


class PlanError(UserError):
    """A run or a study that does not exist as it was named."""


@dataclass(frozen=True, order=True)
class Run:
    """One training: one input, one fold, one seed. ``region`` is what the input shows; of the six it need not be given."""

    input: str
    fold: int
    seed: int = 0
    region: Region | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.region is None:
            object.__setattr__(self, "region", REGIONS.get(self.input))

    @property
    def name(self) -> str:
        """``input/fold-k/seed-s``, also the run's folder inside its study."""
        return f"{self.input}/fold-{self.fold}/seed-{self.seed}"

    def folder(self, study: Path) -> Path:
        """The run's folder."""
        return study / self.name


def parse_run(
    roi: str | None, fold: str | None, seed: str | None, regions: Mapping[str, Region] = REGIONS, folds: int | None = FOLDS
) -> Run:
    """A run from what a user typed.

    Args:
        roi: Name of the input.
        fold: Number of the test part.
        seed: Seed; None is 0.
        regions: The regions there are.
        folds: Number of folds; None where it is not known yet.

    Raises:
        PlanError: naming what is missing or wrong, what is allowed, and an example.
    """
    if not roi:
        raise PlanError(f"ROI is missing; it is one of {', '.join(regions)}; {EXAMPLE}")
    last = "" if folds is None else f" to {folds - 1}"
    if not fold:
        raise PlanError(f"FOLD is missing; it is a number from 0{last}; {EXAMPLE}")
    if not fold.isdecimal() or (folds is not None and int(fold) >= folds):
        raise PlanError(f"FOLD={fold} does not exist; folds are 0{last or ', 1, ...'}; {EXAMPLE}")
    if seed and not seed.isdecimal():
        raise PlanError(f"SEED={seed} is not a whole number from 0")
    return Run(roi, int(fold), int(seed or 0), get_region(roi, regions))


def grid(inputs: Sequence[str], seeds: Iterable[int], folds: int = FOLDS, regions: Mapping[str, Region] = REGIONS) -> list[Run]:
    """All runs of a study: seed by seed, fold by fold, and within a fold input by input."""
    return [Run(name, fold, seed, regions.get(name)) for seed in seeds for fold in range(folds) for name in inputs]


def named_like(name: str, cohort: Path, option: str = "STUDY") -> str:
    """A name as it was given by an option, or that of a cohort's folder or table; see ``study_name``."""
    given, whose = (name, "") if name else (cohort.resolve().name.split(".")[0], "the cohort's name")
    return study_name(given, option, whose)


def study_name(text: str, option: str = "STUDY", whose: str = "") -> str:
    """A name that can be a folder.

    Args:
        text: The name.
        option: By which another one is given.
        whose: What the name was taken from, where it is not the option's.

    Raises:
        PlanError: if it holds anything but letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        said, way = (f"{whose} {text!r}", f"give {option}, up to") if whose else (f"{option}={text!r}", "use up to")
        raise PlanError(f"{said} cannot be a folder's name; {way} 64 letters, digits, dots, dashes and underscores")
    return text
