"""Open a study in front of a person: a bar while scans are prepared, and the fingerprint that its results depend on."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from datamodules.files.listing import list_folder
from experiments.runtime.console import bar
from experiments.study.covariates import covariates_hash, fit_covariates
from experiments.study.duplicates import refuse_doubles
from experiments.study.record import ShownRegion
from experiments.study.run_folder import Fingerprint, RunFolder
from experiments.study.settings import Settings
from experiments.study.study import Study, open_study


def open_with_progress(settings: Settings, console: Console, look_only: bool = False) -> Study:
    """Open the study; show a bar while scans are prepared, then what was excluded and why.

    Args:
        settings: All settings.
        console: Where the bar is shown.
        look_only: Open it also where two patients look like one person.

    Raises:
        CohortError: where they do, and ``--doubles`` does not keep them.
        SettingsError: if a covariate of the network cannot be used.
    """
    with bar(console, "preparing scans") as on_scan:
        study = open_study(settings.study_options(), on_scan)
    if study.cohort.exclusions:
        console.print(f"note: {study.cohort.excluded()}")
    if names := settings.covariates():
        for fold in range(study.splits.folds):
            parts = study.splits.partitions(fold, [scan.patient for scan in study.cohort.scans])
            fit_covariates(names, study.cohort, parts, fold)
    if not look_only:
        refuse_doubles(study, settings.values.doubles, settings.values.workers, console)
    return study


def fingerprint_of(settings: Settings, study: Study) -> Fingerprint:
    """What the study's results depend on."""
    mask = settings.study_options().mask
    shown = {name: ShownRegion.of(region, mask) for name, region in settings.regions.items()}
    given = covariates_hash(settings.covariates(), study.cohort.scans)
    prints = (settings.hash(), study.splits.hash, study.cohort_hash, study.prepared.hash)
    return Fingerprint(*prints, given, shown, settings.network_code())


def set_aside(folder: RunFolder) -> Path | None:
    """Move a run's files to ``<run>.aside-<time>``; the folder and its lock, a hidden file, stay.

    Returns:
        Where they are now; None where there was no run.
    """
    if not (folder.path / "run.json").is_file():
        return None
    aside = folder.path.with_name(f"{folder.path.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}")
    aside.mkdir()
    for path in list_folder(folder.path):
        path.rename(aside / path.name)
    return aside
