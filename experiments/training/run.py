"""One run from its lock to its last file: its state, its facts, its training."""

from __future__ import annotations

import os
import time
from typing import Any

from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console

from datamodules.files.atomic import write_text
from experiments.runtime.interruption import RESUME, TAKEN, Interrupted, stop_if_interrupted
from experiments.runtime.provenance import provenance
from experiments.runtime.quiet import quiet_libraries
from experiments.study.opening import fingerprint_of, set_aside
from experiments.study.run_folder import Fingerprint, RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from experiments.study.study import Study, record_region
from experiments.study.trainer_options import SettingsError
from experiments.training import fit
from experiments.training.assemble import assemble
from lightning_modules.checkpointing import is_intact
from lightning_modules.errors import ModelError, TrainingError
from regions.errors import UserError


class FoldError(UserError):
    """A run that cannot be started or did not train."""


def fold(settings: Settings, study: Study, run: Run, console: Console, restart: bool = False, quiet: bool = False) -> int:
    """Train one run unless it is complete.

    Args:
        settings: All settings.
        study: The opened study.
        run: Which run.
        console: Where progress goes.
        restart: Set aside what the run's folder holds and start again.
        quiet: No progress.

    Returns:
        0 when the run is complete, 75 when it was interrupted, 69 when another process has it.

    Raises:
        FoldError: if the folder holds results of other settings, or if training diverged.
    """
    folder = RunFolder(run.folder(study.folder))
    if int(os.environ.get("LOCAL_RANK") or 0):
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
                f"{folder.path} is stale: it was made with another {differs}; "
                "add --restart to set it aside and train again, or choose another STUDY"
            )
        return _attempt(settings, study, run, folder, fingerprint, console, quiet)


def _attempt(
    settings: Settings, study: Study, run: Run, folder: RunFolder, fingerprint: Fingerprint, console: Console, quiet: bool
) -> int:
    before = folder.facts()
    facts: dict[str, Any] = {
        "state": "running",
        "study": settings.study,
        "input": run.input,
        "fold": run.fold,
        "seed": run.seed,
        "fingerprint": fingerprint.of_run(run),
        "attempts": before.get("attempts", 0) + 1,
        "started": before.get("started") or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sweep": os.environ.get("REGIONWISE_SWEEP"),
        **provenance(),
    }
    for torn in folder.last.parent.glob(".*.partial"):
        torn.unlink()
    damaged = [path for path in (folder.best, folder.last) if path.is_file() and not is_intact(path)]
    if damaged:
        aside = set_aside(folder)
        console.print(f"{damaged[0]} was changed after it was saved; set aside in {aside}, the run starts anew")
    write_text(folder.path / "config.yaml", settings.yaml(run))
    record_region(study.folder, fingerprint.regions[run.input])
    folder.write_facts(facts)
    try:
        outcome = train(settings, study, run, folder, console, quiet)
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
        folder.write_facts(facts | {"state": "interrupted"})
        console.print(f"{run.name}: interrupted; the same command goes on after the last finished epoch")
        return RESUME
    except Exception as error:
        reason = str(error) if isinstance(error, (UserError, ModelError)) else f"{type(error).__name__}: {error}"
        folder.write_facts(facts | {"state": "failed", "error": reason})
        raise
    folder.write_complete(facts | outcome)
    console.print(f"{run.name}: complete, see {folder.path}")
    return 0


def train(settings: Settings, study: Study, run: Run, folder: RunFolder, console: Console, quiet: bool) -> dict[str, Any]:
    """Fit, take the best epoch's weights, predict tuning and internal test scans, write all tables.

    Returns:
        What run.json adds: threshold, best epoch, timings, peak memory.

    Raises:
        SettingsError: if Lightning refuses a setting.
    """
    quiet_libraries()
    stop_if_interrupted()
    try:
        parts = assemble(settings, study, run, folder, console, quiet)
        completed, failure = False, ""
        try:
            outcome = fit.fit_and_predict(parts, study, run, folder)
            completed = True
        except TrainingError as error:
            failure = str(error)
            raise
        finally:
            parts.close(completed, failure)
    except MisconfigurationException as error:
        raise SettingsError(" ".join(str(error).split())) from None
    return outcome
