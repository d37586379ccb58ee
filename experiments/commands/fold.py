"""``fold``: train one run, or go on with it, and leave its folder complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from jsonargparse import Namespace

from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.runtime.staging import stage
from experiments.study.arguments import CommandOptions, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.opening import open_with_progress
from experiments.study.record import known_regions
from experiments.study.recorded import with_recorded
from experiments.study.runs import FOLDS, PlanError, parse_run
from experiments.study.settings import parse_settings
from experiments.study.untrainable import refuse_untrainable


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which run is trained, and how."""

    takes_settings: ClassVar[bool] = True

    roi: str | None = None
    """Input of the run: one of the six, or a region of --regions."""
    fold: str | None = None
    """Test part of the run, from 0."""
    seed: str | None = None
    """Seed of weights, order and augmentation; without it 0."""
    regions: Path | None = None
    """Your own regions: a YAML file, or an atlas (.nii.gz)."""
    folds: str | None = None
    """Parts of the patients; without it 7."""
    restart: bool = False
    """Set results of other settings aside and train again."""
    quiet: bool = False
    """Print no line per epoch."""
    stage: Path | None = None
    """Folder on this machine's own disk to which the prepared volumes are copied first."""


def run(options: Options, settings_args: list[str]) -> int:
    """Train one run; what cannot be trained is named before torch is imported."""
    install_handlers()
    if any(word.split("=")[0] == "--config" for word in settings_args) and options.roi not in known_regions(options.regions):
        options = _with_recorded_run(options, parse_settings(settings_args).values)
    if options.folds and not (options.folds.isdecimal() and int(options.folds)):
        raise PlanError(f"--folds {options.folds} is not a whole number above 0; the default is {FOLDS}")
    by_site = any(word.split("=")[0] in ("--config", "--split.by") for word in settings_args)
    folds = None if by_site and not options.folds else int(options.folds or FOLDS)
    regions = known_regions(options.regions)
    run = parse_run(options.roi, options.fold, options.seed, regions, folds)
    settings_args += ["--regions", str(options.regions)] if options.regions else []
    settings_args += ["--folds", options.folds] if options.folds else []

    from experiments.training.run import fold

    console = plain_console()
    settings = parse_settings(settings_args)
    refuse_untrainable(settings, [run.input])
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    parse_run(options.roi, options.fold, options.seed, regions, study.splits.folds)
    if options.stage:
        try:
            study = replace(study, prepared=stage(study.prepared, options.stage, console))
        except Interrupted:
            return RESUME
    return fold(settings, study, run, console, options.restart, options.quiet)


def _with_recorded_run(options: Options, recorded: Namespace) -> Options:
    """Options with the regions of a file of settings; with its run too, where no input is named."""
    options = replace(options, regions=options.regions or recorded.regions)
    if options.roi is not None:
        return options
    return replace(options, roi=recorded.roi, fold=options.fold or str(recorded.fold), seed=options.seed or str(recorded.seed))


def main(arguments: Sequence[str]) -> int:
    """Command line of ``fold``."""
    return run(*split(Options, with_recorded(arguments)))
