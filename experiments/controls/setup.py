"""What the controls of a study work on: its settings made cheap, its scans on large voxels, its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from datamodules.cohort.covariates import columns_of
from datamodules.files.atomic import content_sha256
from datamodules.store.coarse import coarsened
from experiments.controls.plan import ControlRun
from experiments.runtime.console import bar
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.grid import planned_runs
from experiments.study.opening import open_with_progress
from experiments.study.record import ShownRegion
from experiments.study.settings import Settings, parse_settings
from experiments.study.sides import refuse_one_sided
from experiments.study.study import Study
from regions.catalog import Region

VERSION = 1
"""Raised whenever a control's training changes, so that older ones are rebuilt."""


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
            "region": ShownRegion.of(self.regions[run.input], self.settings.study_options().mask).plain(),
        }
        if code := self.settings.network_code():
            content["code"] = code
        if run.control in ("sex", "field_strength"):
            name = run.control
            content["covariate"] = ["".join(columns_of(scan.covariates, name)[:1]) for scan in self.study.cohort.scans]
        return content_sha256(content)


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
    preset = [] if any(word.split("=")[0] == "--preset" for word in words) else ["--preset", "controls"]
    settings = parse_settings([*preset, *words])
    names = list(dict.fromkeys(run.input for run in planned_runs(settings, inputs)))
    refuse_one_sided(settings, names)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    fine = study.prepared.grid.spacing
    with bar(console, "averaging volumes") as advance:
        study = replace(study, prepared=coarsened(study.prepared, spacing_mm, advance))
    return Controls(settings, study, {name: settings.regions[name] for name in names}, fine)
