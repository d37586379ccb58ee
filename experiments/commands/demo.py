"""``demo``: a phantom cohort, the split, all 42 runs, the baselines, the comparison and the report; from nothing, offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from experiments.commands import baselines, compare, report, sweep
from experiments.study.arguments import StudyChoice, split


@dataclass(frozen=True)
class Options(sweep.Options):
    """Options of the demo: those of ``sweep``."""


def run(options: Options, settings_args: list[str]) -> int:
    """Play every step in turn; a sweep that is not complete ends it."""
    status = sweep.run(options, settings_args)
    if status != 0:
        return status
    baselines.run(baselines.Options(), settings_args)
    study, _ = split(StudyChoice, settings_args)
    compare.run(compare.Options(study.study, study.studies, study.cohort))
    report.write(study.folder, Console(highlight=False, soft_wrap=True))
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``demo``."""
    return run(*split(Options, arguments))
