"""An external cohort scored with frozen models, step by step, and the check that nothing was touched since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.target import Target
from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import write_sealed
from datamodules.store.store import Broken
from experiments.externals.errors import ExternalError
from experiments.externals.freeze import touched
from experiments.externals.log import events, latest, note
from experiments.externals.numeric_score import number_tables, score_numbers
from experiments.externals.protocol import facts, frozen_models, labels_read, taken_back, write_tables
from experiments.externals.scans import open_external
from experiments.externals.score import known_of, score, tables_of
from experiments.externals.view import show
from experiments.runtime.console import bar
from experiments.runtime.quiet import quiet_libraries

DRAWS = 10_000


@dataclass(frozen=True)
class ScoringOptions:
    """What is scored, and how closely."""

    cohort: Path
    """The external cohort: a BIDS folder or a table."""
    inputs: str = ""
    """Inputs, separated by commas; empty: all that the study has."""
    seed: int = 0
    """Seed of the runs whose models are frozen."""
    draws: int = DRAWS
    """Draws of the bootstrap."""
    broken: Broken = "refuse"
    """Scans whose images cannot be used: refuse the cohort, or exclude and count them."""
    alike_ids: AlikeIds = "refuse"
    """Patients whose ids differ in writing alone (0009 and 9), also from the study's: refuse them, or keep them apart."""
    store: Path = Path("store")
    """Folder of prepared volumes."""
    workers: int = 2
    """Threads that prepare scans."""
    accelerator: str = "auto"
    """Where the networks run, as Lightning calls it."""
    restart: bool = False
    """Set results aside and freeze again; the log keeps that labels had been read."""


def verify(folder: Path, console: Console) -> int:
    """Say whether anything was touched since the freeze.

    Returns:
        0 when nothing was, 1 when something was.

    Raises:
        ExternalError: if nothing was frozen here.
    """
    recorded = events(folder)
    freeze_event = latest(recorded, "frozen")
    if freeze_event is None:
        raise ExternalError(f"{folder} holds no frozen models; score the cohort first: make external")
    faults = touched(folder)
    for fault in faults:
        console.print(f"touched: {fault}")
    if not faults:
        console.print(f"untouched since {freeze_event['time']}: models, thresholds, calibration, labels, results")
        console.print(f"SHA-256 of the freeze: {freeze_event['sha256']}")
    return int(bool(faults))


def external(study: Path, folder: Path, options: ScoringOptions, console: Console) -> dict[str, Any]:
    """Freeze, read, predict, score; or go on where an earlier call stopped.

    Raises:
        ExternalError: if something was touched since the freeze, or the cohort cannot be scored.
        ResultsError: if runs are missing.
    """
    with taken_back(folder):
        frozen = frozen_models(study, folder, options.inputs, options.seed, options.restart)
        read = labels_read(folder, options.cohort)
        with bar(console, "preparing scans") as on_scan:
            cohort = open_external(
                options.cohort, frozen, study, options.store, options.broken, options.workers, on_scan, options.alike_ids
            )

    from experiments.externals.predict import predict

    quiet_libraries()  # after Lightning was imported, which sets its own level of notices
    raw = predict(frozen, study, folder, cohort, console, options.accelerator)
    target = Target(**frozen["label"])
    people = known_of(cohort.cohort.scans, target)
    make: Any = number_tables if target.is_number else tables_of
    judge: Any = score_numbers if target.is_number else score
    tables = {model["input"]: make(model, raw[model["input"]], people) for model in frozen["inputs"]}
    write_tables(folder, raw, tables, people)
    results = facts(folder, frozen, cohort, read) | judge(frozen, study, tables, people, options.draws)
    write_sealed(folder / "external.json", results)
    note(folder, "scored", sha256=file_sha256(folder / "external.json"), draws=options.draws)
    show(results, folder, console)
    return results
