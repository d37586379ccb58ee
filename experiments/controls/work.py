"""Train the controls that are missing, one after another; several processes share the work through each run's lock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from experiments.controls.cases import NotRunError, case_of
from experiments.controls.plan import ControlRun
from experiments.controls.setup import Controls
from experiments.controls.training import train
from experiments.runtime.console import bar
from experiments.runtime.interruption import Interrupted, stop_if_interrupted
from experiments.runtime.quiet import quiet_libraries
from experiments.study.run_folder import RunFolder, write_predictions
from lightning_modules.errors import TrainingError

WAIT_SECONDS = 2.0
State = Literal["missing", "complete", "stale"]


def state(controls: Controls, run: ControlRun) -> State:
    """What a run's folder holds, seen from the study as it is now."""
    facts = RunFolder(run.folder(controls.folder)).facts()
    if facts.get("state") != "complete":
        return "missing"
    return "complete" if facts.get("fingerprint") == controls.fingerprint(run) else "stale"


def train_missing(controls: Controls, runs: Sequence[ControlRun], console: Console, quiet: bool = False) -> dict[str, str]:
    """Train whatever is not complete and not in another process's hands; wait for what others have at hand.

    Returns:
        Controls that this cohort cannot answer, and why.

    Raises:
        Interrupted: if a signal came.
    """
    quiet_libraries()
    states = {run: state(controls, run) for run in runs}
    stale = sum(value == "stale" for value in states.values())
    if stale:
        console.print(f"{stale} control trainings were made with other settings or data; they are rebuilt")
    refused: dict[str, str] = {}
    left = [run for run, value in states.items() if value != "complete"]
    total = len(left)
    with bar(console, "controls", quiet) as advance:
        while left:
            for run in list(left):
                stop_if_interrupted()
                try:
                    done = run.control in refused or train_one(controls, run)
                except NotRunError as error:
                    refused[run.control], done = str(error), True
                except (KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
                    raise Interrupted from None
                if done:
                    left.remove(run)
                    advance(total - len(left), total)
                    if not quiet and not console.is_terminal:
                        console.print(f"control {run.name}: {total - len(left)} of {total}")
            if left:
                time.sleep(WAIT_SECONDS)
    return refused


def train_one(controls: Controls, run: ControlRun) -> bool:
    """Train one control unless it is complete.

    Returns:
        Whether it is complete now; False when another process has it.

    Raises:
        NotRunError: if the cohort cannot answer it.
        Interrupted: if a signal came.
    """
    region = controls.regions[run.input]
    case = case_of(controls.study, run, region, controls.mask_mode, controls.dilate_mm, controls.seed)
    folder = RunFolder(run.folder(controls.folder))
    with folder.lock() as ours:
        if not ours:
            return False
        if state(controls, run) == "complete":
            return True
        made_for = {"fingerprint": controls.fingerprint(run)}
        try:
            rows, facts = train(controls.settings, case, run.fold, controls.seed)
        except TrainingError as error:
            folder.write_facts({"state": "failed", "error": str(error)} | made_for)
            return True
        write_predictions(folder.path / "predictions.tsv", rows)
        folder.write_complete(made_for | facts)
    return True


def failures(controls: Controls, runs: Sequence[ControlRun]) -> dict[ControlRun, str]:
    """The trainings that gave no result, and why."""
    facts = {run: RunFolder(run.folder(controls.folder)).facts() for run in runs}
    return {run: str(found["error"]) for run, found in facts.items() if found.get("state") == "failed"}
