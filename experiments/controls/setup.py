"""What the controls of a study work on: its settings made cheap, its scans on large voxels, its inputs."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from datamodules.store.coarse import coarsened
from experiments.controls.plan import ControlRun
from experiments.runtime.console import bar
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.grid import planned_runs
from experiments.study.opening import open_with_progress
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import Study
from regions.catalog import Region, get_region, load_regions

VERSION = 1
"""Raised whenever a control's training changes, so that older ones are made anew."""


@dataclass(frozen=True)
class Controls:
    """Everything that a control training depends on; ``study`` has the coarse volumes, ``fine_spacing`` is that of its own."""

    settings: Settings
    study: Study
    regions: Mapping[str, Region]
    fine_spacing: tuple[float, float, float]

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.study.folder

    @property
    def seed(self) -> int:
        """Seed of weights, order, permutations and random regions."""
        return int(self.settings.values.seed)

    @property
    def mask_mode(self) -> str:
        """How the study cuts its regions."""
        return str(self.settings.values.data.mask_mode)

    @property
    def dilate_mm(self) -> float:
        """How far ``template-dilated`` grows."""
        return float(self.settings.values.data.dilate_mm)

    def fingerprint(self, run: ControlRun) -> str:
        """SHA-256 of what the run's result depends on."""
        content = {
            "version": VERSION,
            "settings": self.settings.result_settings(),
            "seed": self.seed,
            "split": self.study.splits.hash,
            "cohort": self.study.cohort_hash,
            "data": self.study.prepared.hash,
            "grid": asdict(self.study.prepared.grid),
            "region": self.regions[run.input].labels,
        }
        if run.control in ("sex", "field_strength"):
            name = run.control
            content["covariate"] = [scan.covariates.get(name, "") for scan in self.study.cohort.scans]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prepare(words: Sequence[str], inputs: str, spacing_mm: float, console: Console) -> Controls:
    """Open the study and bring its volumes to voxels of about ``spacing_mm``.

    Args:
        words: Settings, as on the command line.
        inputs: Names separated by commas; empty means the six inputs and the user's own regions.
        spacing_mm: Wanted side of a voxel; a study with larger voxels keeps its own.
        console: Where progress goes.

    Raises:
        ValueError: if a study, a setting or an input does not exist.
    """
    settings = parse_settings(with_recorded(words))
    names = list(dict.fromkeys(run.input for run in planned_runs(settings, inputs)))
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    fine = study.prepared.grid.spacing
    with bar(console, "averaging volumes") as advance:
        study = replace(study, prepared=coarsened(study.prepared, spacing_mm, advance))
    own = load_regions(settings.values.regions) if settings.values.regions else {}
    return Controls(settings, study, {name: get_region(name, own=own) for name in names}, fine)


def with_recorded(words: Sequence[str]) -> list[str]:
    """A command line behind the preset ``controls`` and what the study's own trainings were made with.

    Cohort, store, label rule, split, regions and mask mode come from the first run's config.yaml; words that are given win.
    """
    light = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    light.add_argument("--study", default="")
    light.add_argument("--studies", type=Path, default=Path("studies"))
    light.add_argument("--cohort", type=Path, default=Path("cohorts/demo"))
    known, _ = light.parse_known_args(words)
    folder = known.studies / (known.study or known.cohort.resolve().name.split(".")[0])
    recorded = next(iter(sorted(folder.glob("*/fold-*/seed-*/config.yaml"))), None)
    preset = [] if any(word.split("=")[0] == "--preset" for word in words) else ["--preset", "controls"]
    return [*preset, *(_recorded_words(recorded) if recorded else []), *words]


def _recorded_words(path: Path) -> list[str]:

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    values: dict[str, Any] = {
        name: content.get(name) for name in ("cohort", "store", "regions", "folds", "split_seed", "broken")
    }
    values |= {f"label.{name}": value for name, value in (content.get("label") or {}).items()}
    values |= {f"data.{name}": (content.get("data") or {}).get(name) for name in ("mask_mode", "dilate_mm")}
    return [f"--{name}={value}" for name, value in values.items() if value is not None]
