"""The runs that a comparison is made from, and what is told of them; the same for classes and for numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.analysis.families import REFERENCE
from experiments.analysis.notes import left_out, made_differently, run_notes
from experiments.analysis.pooling import shared_folds
from experiments.statistics.significance import Estimate
from experiments.study.run_folder import RunFolder, require_complete
from experiments.study.runs import Run

Estimates = Mapping[str, Mapping[str, Estimate]]
Names = Collection[str]


@dataclass(frozen=True)
class Frame:
    """The runs of a comparison.

    Attributes:
        folder: The study.
        seeds: Which runs.
        folds: Folds of the study.
        wanted: The runs that were asked for.
        used: Input -> its runs that take part.
    """

    folder: Path
    seeds: Sequence[int]
    folds: int
    wanted: Sequence[Run]
    used: Mapping[str, Sequence[Run]]

    @classmethod
    def of(cls, folder: Path, inputs: Sequence[str], seeds: Sequence[int], folds: int, partial: bool) -> Frame:
        """All runs of the grid, or with ``partial`` those of the folds that all inputs have.

        Raises:
            ResultsError: if runs are missing, stale or mixed.
        """
        wanted = [Run(name, fold, seed) for seed in seeds for name in inputs for fold in range(folds)]
        return cls(folder, seeds, folds, wanted, shared_folds(require_complete(folder, wanted, partial), folder))

    @property
    def images(self) -> dict[str, list[str]]:
        """Input -> the images that it shows, of inputs that show some of the study's only."""
        regions = {run.input: facts.get("fingerprint", {}).get("region") or {} for run, facts in self.facts.items()}
        return {name: list(region["images"]) for name, region in regions.items() if region.get("images")}

    @cached_property
    def facts(self) -> dict[Run, dict[str, Any]]:
        """Content of run.json of the runs that were asked for."""
        return {run: RunFolder(run.folder(self.folder)).facts() for run in self.wanted}

    @property
    def kept(self) -> list[Run]:
        """The runs that take part."""
        return [run for runs in self.used.values() for run in runs]

    def notes(self, remarks: Sequence[str]) -> list[str]:
        """What a reader must know of the runs.

        Args:
            remarks: The same of baselines and readers.
        """
        notes = [*run_notes(self.facts, self.kept), *remarks, *left_out(self.folder, self.used, REFERENCE)]
        return notes + made_differently(self.facts, self.kept)

    def plain(self, estimates: Estimates, networks: Names, beside: Names, linear: Names) -> dict[str, Any]:
        """Fields of ``StudyComparison``: the study, its runs, and the estimates of networks, baselines and linear readers."""
        return {
            "study": self.folder.name,
            "seed": self.seeds[0],
            "seeds": list(self.seeds),
            "folds": self.folds,
            "estimates": {name: estimates[name] for name in networks},
            "baselines": {name: estimates[name] for name in beside},
            "readers": {name: estimates[name] for name in linear},
            "runs": {name: [run.name for run in runs] for name, runs in self.used.items()},
            "predictions": {run.name: self.facts[run]["files"]["predictions.tsv"] for run in self.kept},
            "missing": [run.name for run in self.wanted if run not in self.kept],
        }
