"""``demo``: a phantom cohort, the split, all 42 runs, the baselines, the comparison and the report; from nothing, offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from experiments.analysis.comparison import StudyComparison, read_comparison
from experiments.commands import baselines, compare, report, sweep
from experiments.study.arguments import StudyChoice, split
from experiments.study.demo_cohort import PLANTED
from experiments.study.settings import DEMO_COHORT


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
    console = Console(highlight=False, soft_wrap=True)
    report.write(study.folder, console)
    if study.cohort == DEMO_COHORT:
        console.print("\n".join(explanation(read_comparison(study.folder), PLANTED)))
    return 0


def explanation(comparison: StudyComparison, planted: str) -> list[str]:
    """What was planted in the demo's cohort, what the statistics found of it, and what that means; a line each.

    Args:
        comparison: Of the demo's study.
        planted: The only region that differs between the classes.
    """
    chance = {name: facts["words"] for name, facts in comparison.details["chance"].items()}
    above = [name for name, words in chance.items() if words == "above chance"]
    different = [f"{pair.first} ({pair.difference.value:+.2f})" for pair in comparison.paired if pair.verdict == "different"]
    pair = next((pair for pair in comparison.paired if pair.first == planted), None)
    best = max(comparison.estimates, key=lambda name: comparison.estimates[name]["auc"].value or 0.0)
    lines = [
        f"planted: the classes of this cohort differ in the {planted} alone; no other region carries anything",
        f"found: AUC above chance in {_listed(above)}; highest in {best}; different from global: {_listed(different)}",
    ]
    if best == planted and pair is not None and pair.verdict == "different":
        return [
            *lines,
            f"so the truth was found: a network that sees the {planted} alone reads what one of the whole brain misses",
        ]
    return [*lines, f"so the truth was not found: more patients or longer training would be needed to name the {planted}"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def main(arguments: Sequence[str]) -> int:
    """Command line of ``demo``."""
    return run(*split(Options, arguments))
