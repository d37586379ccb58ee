"""``demo``: a phantom cohort, the split, all 42 runs, the baselines, the comparison and the report; from nothing, offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.analysis.comparison import StudyComparison, read_comparison
from experiments.commands import baselines, compare, report, sweep
from experiments.runtime.console import plain_console
from experiments.study.arguments import StudyChoice, split
from experiments.study.demo_cohort import PLANTED, require_demo_cohort
from experiments.study.recorded import DEMO_COHORT


@dataclass(frozen=True)
class Options(sweep.Options):
    """Options of the demo: those of ``sweep``."""


def run(options: Options, settings_args: list[str]) -> int:
    """Play every step in turn; a sweep that is not complete ends it."""
    study, _ = split(StudyChoice, settings_args)
    require_demo_cohort(study.cohort)
    status = sweep.run(options, settings_args)
    if status != 0:
        return status
    baselines.run(baselines.Options(), settings_args)
    compare.run(compare.Options(study.study, study.studies, study.cohort, inputs=options.inputs))
    console = plain_console()
    report.write(study.folder, console)
    comparison = read_comparison(study.folder)
    if study.cohort == DEMO_COHORT and {PLANTED, "global"} <= {*comparison.estimates}:
        console.print("\n".join(explanation(comparison, PLANTED)))
    return 0


def explanation(comparison: StudyComparison, planted: str) -> list[str]:
    """What was planted in the demo's cohort, what the statistics found of it, and what that means; a line each.

    The truth counts as found when the planted region, and no other, has an AUC above chance and is not *different* from global,
    or different by being better.

    Args:
        comparison: Of the demo's study.
        planted: The only region that differs between the classes.
    """
    chance = {name: facts["words"] for name, facts in comparison.details["chance"].items()}
    above = [name for name in comparison.estimates if chance[name] == "above chance"]
    different = [pair for pair in comparison.paired if pair.verdict == "different"]
    worse = [pair.first for pair in different if (pair.difference.value or 0.0) < 0]
    carriers = [pair.first for pair in comparison.paired if pair.first in above and pair.first not in worse]
    lines = [
        f"planted: the classes of this cohort differ in the {planted} alone; no other region carries anything",
        f"found: AUC above chance in {_listed(above)}; balanced accuracy different from that of global in "
        + _listed([f"{pair.first} ({pair.difference.value:+.2f})" for pair in different]),
    ]
    if carriers != [planted]:
        return [
            *lines,
            f"so the truth was not found: the statistics point to {_listed(carriers)}; more patients are needed",
        ]
    alone, whole = (comparison.estimates[name]["balanced_accuracy"].value for name in (planted, "global"))
    return [
        *lines,
        f"so the truth was found: of the regions the {planted} alone holds what the whole brain is read by "
        f"({alone:.2f} against {whole:.2f})",
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def main(arguments: Sequence[str]) -> int:
    """Command line of ``demo``."""
    return run(*split(Options, arguments))
