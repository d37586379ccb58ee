"""``fold``: train one run, or go on with it, and leave its folder complete."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from experiments.runtime.interruption import RESUME, Interrupted, forget_scheduler, install_handlers
from experiments.runtime.staging import stage
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.opening import open_with_progress
from experiments.study.record import known_regions
from experiments.study.runs import parse_run
from experiments.study.settings import parse_settings


def main(arguments: Sequence[str]) -> int:
    """Command line of ``fold``: --roi, --fold, --seed, --restart, --quiet, --stage DIR, and every setting.

    With --stage the prepared volumes are first copied to a folder on this machine's own disk.
    """
    install_handlers()
    forget_scheduler()
    light = argparse.ArgumentParser(prog="regionwise fold", add_help=False, allow_abbrev=False)
    for name in ("roi", "fold", "seed", "regions", "folds", "stage"):
        light.add_argument(f"--{name}")
    light.add_argument("--restart", action="store_true")
    light.add_argument("--quiet", action="store_true")
    known, rest = light.parse_known_args(arguments)
    if known.roi is None and "--config" in rest:
        own = parse_settings(rest).values
        known.roi, known.fold, known.seed = own.roi, known.fold or str(own.fold), known.seed or str(own.seed)
    folds = int(known.folds) if known.folds else 7
    run = parse_run(known.roi, known.fold, known.seed, known_regions(Path(known.regions) if known.regions else None), folds)
    for name in ("regions", "folds"):
        rest += [f"--{name}", getattr(known, name)] if getattr(known, name) else []

    from experiments.training.run import fold

    console = Console(highlight=False, soft_wrap=True)
    settings = parse_settings(rest)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    if known.stage:
        try:
            study = replace(study, prepared=stage(study.prepared, Path(known.stage), console))
        except Interrupted:
            return RESUME
    return fold(settings, study, run, console, known.restart, known.quiet)
