"""``fold``: train one run, or go on with it, and leave its folder complete."""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.interruption import RESUME, TAKEN, Interrupted, forget_scheduler, install_handlers, stop_if_interrupted
from experiments.plan import Run, parse_run

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.results import Fingerprint, RunFolder
    from experiments.settings import Settings
    from experiments.study import Study


NOTICES = (
    r".*does not have many workers.*",  # loaders read memory-mapped files, workers would only cost
    r".*Checkpoint directory .* exists.*",  # a resumed run writes where it wrote before
    r".*The number of training batches.*",  # small cohorts have few batches
    r".*`srun` command is available.*",  # a run knows no scheduler
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",  # every process sees the whole tuning part
    r".*litlogger.*",
    r".*tensorboardX.*",
    r".*isinstance\(treespec, LeafSpec\).*",
)
"""Lightning's notices that do not concern the user."""


class FoldError(RuntimeError):
    """A run that cannot be started or did not train."""


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
        from experiments.settings import parse_settings

        own = parse_settings(rest).values
        known.roi, known.fold, known.seed = own.roi, known.fold or str(own.fold), known.seed or str(own.seed)
    folds = int(known.folds) if known.folds else 7
    run = parse_run(known.roi, known.fold, known.seed, Path(known.regions) if known.regions else None, folds)
    for name in ("regions", "folds"):
        rest += [f"--{name}", getattr(known, name)] if getattr(known, name) else []

    from rich.console import Console

    from experiments.demo import ensure_demo_cohort
    from experiments.settings import parse_settings

    console = Console(highlight=False, soft_wrap=True)
    settings = parse_settings(rest)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    if known.stage:
        from experiments.staging import stage

        try:
            study = replace(study, prepared=stage(study.prepared, Path(known.stage), console))
        except Interrupted:
            return RESUME
    return fold(settings, study, run, console, known.restart, known.quiet)


def open_with_progress(settings: Settings, console: Console) -> Study:
    """Open the study; show a bar while scans are prepared."""
    from rich.progress import Progress

    from experiments.allocation import keep_freed_memory
    from experiments.study import open_study

    keep_freed_memory()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("preparing scans", total=None, visible=False)
        study = open_study(
            settings.study_options(), lambda done, total: bar.update(task, completed=done, total=total, visible=True)
        )
    return study


def fold(settings: Settings, study: Study, run: Run, console: Console, restart: bool = False, quiet: bool = False) -> int:
    """Train one run unless it is complete.

    Args:
        settings: All settings.
        study: The opened study.
        run: Which run.
        console: Where progress goes.
        restart: Set aside what the run's folder holds and start anew.
        quiet: No progress.

    Returns:
        0 when the run is complete, 75 when it was interrupted, 69 when another process has it.

    Raises:
        FoldError: if the folder holds results of other settings, or if training diverged.
    """
    from experiments.results import RunFolder

    folder = RunFolder(run.folder(study.folder))
    if int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0")):
        train(settings, study, run, folder, console, quiet=True)  # the first process holds the lock and writes the folder
        return 0
    fingerprint = fingerprint_of(settings, study)
    with folder.lock() as ours:
        if not ours:
            console.print(f"{run.name}: another process is training this run")
            return TAKEN
        if restart:
            set_aside(folder)
        state = folder.state(fingerprint)
        if state == "complete":
            console.print(f"{run.name}: already complete, see {folder.path}")
            return 0
        if state == "stale":
            differs = ", ".join(fingerprint.differences(folder.facts()))
            raise FoldError(
                f"{folder.path} was made with another {differs}; "
                "add --restart to set it aside and train anew, or choose another STUDY"
            )
        return _attempt(settings, study, run, folder, fingerprint, console, quiet)


def fingerprint_of(settings: Settings, study: Study) -> Fingerprint:
    """What the study's results depend on."""
    from experiments.results import Fingerprint

    return Fingerprint(settings.hash(), study.splits.hash, study.cohort_hash, study.prepared.hash)


def set_aside(folder: RunFolder) -> None:
    """Move a run's files to ``<run>.aside-<time>``; the folder and its lock stay."""
    if not folder.facts():
        return
    aside = folder.path.with_name(f"{folder.path.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}")
    aside.mkdir()
    for path in folder.path.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)


def _attempt(
    settings: Settings, study: Study, run: Run, folder: RunFolder, fingerprint: Fingerprint, console: Console, quiet: bool
) -> int:
    from datamodules.atomic import write_text
    from experiments.provenance import provenance

    before = folder.facts()
    facts: dict[str, Any] = {
        "state": "running",
        "study": settings.study,
        "input": run.input,
        "fold": run.fold,
        "seed": run.seed,
        "fingerprint": asdict(fingerprint),
        "attempts": before.get("attempts", 0) + 1,
        "started": before.get("started") or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sweep": os.environ.get("REGIONWISE_SWEEP"),
        **provenance(),
    }
    for torn in folder.last.parent.glob(".*.partial"):
        torn.unlink()
    write_text(folder.path / "config.yaml", settings.yaml(run))
    folder.write_facts(facts)
    try:
        outcome = train(settings, study, run, folder, console, quiet)
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
        folder.write_facts(facts | {"state": "interrupted"})
        console.print(f"{run.name}: interrupted; the same command goes on after the last finished epoch")
        return RESUME
    except Exception as error:
        folder.write_facts(facts | {"state": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    folder.write_facts(facts | {"state": "complete"} | outcome)
    console.print(f"{run.name}: complete, see {folder.path}")
    return 0


def train(settings: Settings, study: Study, run: Run, folder: RunFolder, console: Console, quiet: bool) -> dict[str, Any]:
    """Fit, take the best epoch's weights, predict tuning and internal test scans, write all tables.

    Returns:
        What run.json adds: threshold, best epoch, timings, peak memory.
    """
    from experiments import training
    from experiments.allocation import keep_freed_memory

    quiet_libraries()
    keep_freed_memory()
    stop_if_interrupted()
    parts = training.assemble(settings, study, run, folder, console, quiet)
    completed = False
    try:
        outcome = training.fit_and_predict(parts, study, run, folder)
        completed = True
    finally:
        parts.close(completed)
    return outcome


def quiet_libraries() -> None:
    """Keep Lightning's notices out of the terminal; its errors and our own messages stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in NOTICES:
        warnings.filterwarnings("ignore", message=message)
