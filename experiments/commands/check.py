"""``check``: what would be trained, before anything is: quality, exclusions, balance, duplicates, precision and cost.

``--hold`` writes the verdicts on a cohort's scans beside it (qc.tsv), as ``prepare`` does for the scans that it makes: from
then on every command leaves out the scans that are beyond a limit and not accepted in qc_accept.tsv.

``--verify`` reads the study's prepared volumes and its store's packed boxes and compares each file with its checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from datamodules.cohort.splits import TooFewPatientsError
from experiments.checking.check import check, hold, unsplit
from experiments.checking.gather import Subject
from experiments.runtime.console import plain_console
from experiments.study.arguments import CommandOptions, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.opening import open_with_progress
from experiments.study.settings import parse_settings


@dataclass(frozen=True)
class Options(CommandOptions):
    """What is done beside the check."""

    takes_settings: ClassVar[bool] = True

    hold: bool = False
    """Write the verdicts on the scans beside the cohort (qc.tsv); scans beyond a limit are then left out by every command."""
    verify: bool = False
    """Compare every prepared file with its checksum first, and stop where one is not what was written."""


def run(options: Options, settings_args: list[str]) -> int:
    """Check the cohort.

    Returns:
        1 where two patients seem to have one scan, or a prepared file is not what was written, else 0.
    """
    console = plain_console()
    settings = parse_settings(settings_args)
    ensure_demo_cohort(settings.values.cohort, console)
    if options.hold:
        hold(settings, console)
    try:
        study = open_with_progress(settings, console, look_only=True)
    except TooFewPatientsError as error:
        check(settings, unsplit(settings, str(error)), console, options.verify)
        raise
    return check(settings, Subject(study.folder, study.cohort, study.prepared, study.splits), console, options.verify)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``check``."""
    return run(*split(Options, arguments))
