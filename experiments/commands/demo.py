"""``demo``: a phantom cohort, the split, all 42 runs, the baselines, the comparison and the report; from nothing, offline."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from experiments.commands import baselines, compare, report, sweep
from experiments.study.arguments import only_study, parse, study_parser
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.settings import DEMO_COHORT


def main(arguments: Sequence[str]) -> int:
    """Command line of ``demo``: takes every setting that ``sweep`` takes."""
    console = Console(highlight=False, soft_wrap=True)
    ensure_demo_cohort(DEMO_COHORT, console)
    status = sweep.main(arguments)
    if status != 0:
        return status
    baselines.main(sweep.split_arguments(arguments)[1])
    words = only_study(arguments)
    compare.main(words)
    report.write(parse(study_parser("report"), words)[1], console)
    return 0
