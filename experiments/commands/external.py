"""``external``: score an external cohort with a study's frozen models; nothing is trained, nothing is chosen.

In this order: models, thresholds and calibration are frozen (``frozen.json``), the cohort's labels are read (logged with the
time in ``events.jsonl``), images meet the models (``predictions.tsv``), results are written (``external.json``); all in
``studies/<study>/external/<cohort>/``. Every later call checks first that nothing was touched, ``--verify`` does only that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.files.atomic import locked
from experiments.externals.errors import ExternalError
from experiments.externals.scoring import DRAWS, ScoringOptions, external, verify
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.study.arguments import CommandOptions, read, require, study_folder
from experiments.study.runs import PlanError, named_like


@dataclass(frozen=True)
class Options(CommandOptions, ScoringOptions):
    """Which cohort is scored with which study's models."""

    cohort: Path = Path()
    """The external cohort: a BIDS folder or a table."""
    study: str = ""
    """Name of the study whose models are frozen."""
    studies: Path = Path("studies")
    """Folder of all studies."""
    name: str = ""
    """Name of the external cohort; empty: that of its folder."""
    verify: bool = False
    """Only say whether anything was touched since the freeze."""


def run(options: Options) -> int:
    """Score the cohort, or check that nothing was touched."""
    install_handlers()
    if options.draws < 100:
        raise PlanError(f"--draws is {options.draws}; an interval needs at least 100, the default is {DRAWS}")
    study = study_folder(options.study, options.studies)
    folder = study / "external" / named_like(options.name, options.cohort, "--name")

    console = plain_console()
    if options.verify:
        return verify(folder, console)
    if not options.cohort.exists():
        raise ExternalError(f"cohort {options.cohort} does not exist; give a BIDS folder or a table (.tsv, .csv)")
    with locked(folder / ".lock"):
        try:
            external(study, folder, options, console)
        except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
            console.print("interrupted; the same command goes on with the next model")
            return RESUME
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``external``."""
    options = read(Options, arguments)
    example = "external needs a study and a cohort; for example: make external COHORT=cohorts/other STUDY=mine"
    require(arguments, ("study", "cohort"), example)
    return run(options)
