"""``external``: score an external cohort with a study's frozen models; nothing is trained, nothing is chosen.

In this order: models, thresholds and calibration are frozen (``frozen.json``), the cohort's labels are read (logged with the
time in ``events.jsonl``), images meet the models (``predictions.tsv``), results are written (``external.json``); all in
``studies/<study>/external/<cohort>/``. Every later call checks first that nothing was touched, ``--verify`` does only that.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.files.atomic import locked, write_json
from experiments.externals.errors import ExternalError
from experiments.externals.freeze import touched
from experiments.externals.log import events, hash_file, latest, note
from experiments.externals.protocol import facts, frozen_models, labels_read, write_tables
from experiments.externals.scans import open_external
from experiments.externals.score import known_of, score, tables_of
from experiments.externals.view import show
from experiments.runtime.console import bar
from experiments.runtime.interruption import RESUME, Interrupted, forget_scheduler, install_handlers
from experiments.runtime.quiet import quiet_libraries
from experiments.study.arguments import PlainParser, study_folder
from experiments.study.runs import PlanError, study_name

DRAWS = 10_000


def main(arguments: Sequence[str]) -> int:
    """Command line of ``external``.

    --study NAME, --cohort DIR (the external cohort), --name (its name, default: the folder's), --inputs A,B, --seed N,
    --draws N, --broken refuse|exclude, --store DIR, --accelerator, --verify (only tell whether anything was touched),
    --restart (set results aside and freeze anew; the log keeps that labels had been read).
    """
    install_handlers()
    forget_scheduler()
    known = _parser().parse_args(arguments)
    if not known.study or known.cohort is None:
        raise PlanError("external needs a study and a cohort; for example: make external COHORT=cohorts/other STUDY=mine")
    if known.draws < 100:
        raise PlanError(f"--draws is {known.draws}; an interval needs at least 100, the default is {DRAWS}")
    study = study_folder(known)
    folder = study / "external" / study_name(known.name or known.cohort.resolve().name.split(".")[0])

    console = Console(highlight=False, soft_wrap=True)
    if known.verify:
        return verify(folder, console)
    if not known.cohort.exists():
        raise ExternalError(f"cohort {known.cohort} does not exist; give a BIDS folder or a table (.tsv, .csv)")
    with locked(folder / ".lock"):
        try:
            external(study, folder, known, console)
        except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
            console.print("interrupted; the same command goes on with the next model")
            return RESUME
    return 0


def _parser() -> PlainParser:
    parser = PlainParser(prog="regionwise external", add_help=False, allow_abbrev=False)
    for name in ("study", "name", "inputs"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--studies", type=Path, default=Path("studies"))
    parser.add_argument("--cohort", type=Path, default=None)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--broken", choices=("refuse", "exclude"), default="refuse")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--restart", action="store_true")
    return parser


def verify(folder: Path, console: Console) -> int:
    """Tell whether anything was touched since the freeze.

    Returns:
        0 when nothing was, 1 when something was.

    Raises:
        ExternalError: if nothing was frozen here.
    """
    found = events(folder)
    freeze_event = latest(found, "frozen")
    if freeze_event is None:
        raise ExternalError(f"{folder} holds no frozen models; score the cohort first: make external")
    faults = touched(folder)
    for fault in faults:
        console.print(f"touched: {fault}", markup=False)
    if not faults:
        console.print(f"untouched since {freeze_event['time']}: models, thresholds, calibration, labels, results")
        console.print(f"SHA-256 of the freeze: {freeze_event['sha256']}")
    return int(bool(faults))


def external(study: Path, folder: Path, known: Namespace, console: Console) -> dict[str, Any]:
    """Freeze, read, predict, score; or go on where an earlier call stopped.

    Raises:
        ExternalError: if something was touched since the freeze, or the cohort cannot be scored.
        ResultsError: if runs are missing.
    """
    frozen = frozen_models(study, folder, known.inputs, known.seed, known.restart)
    read = labels_read(folder, known.cohort)
    with bar(console, "preparing scans") as on_scan:
        cohort = open_external(known.cohort, frozen, study, known.store, known.broken, known.workers, on_scan)

    from experiments.externals.predict import predict

    quiet_libraries()  # after Lightning was imported, which sets its own level of notices
    raw = predict(frozen, study, folder, cohort, console, known.accelerator)
    people = known_of(cohort.cohort.scans)
    tables = {one["input"]: tables_of(one, raw[one["input"]], people) for one in frozen["inputs"]}
    write_tables(folder, raw, tables, people)
    found = facts(folder, frozen, cohort, read) | score(frozen, study, tables, people, known.draws)
    write_json(folder / "external.json", found)
    note(folder, "scored", sha256=hash_file(folder / "external.json"), draws=known.draws)
    show(found, folder, console)
    return found
