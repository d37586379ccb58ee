"""``report``: print a study's comparison again, from comparison.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.compare import METRICS, StudyComparison
from experiments.compare_view import show
from experiments.plan import PlanError
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.significance import Estimate
from experiments.study_arguments import parse, study_parser


def main(arguments: Sequence[str]) -> int:
    """Command line of ``report``: --study, --studies, --cohort."""
    _, folder = parse(study_parser("report"), arguments)
    show(read_comparison(folder), folder, Console(highlight=False, soft_wrap=True))
    return 0


def read_comparison(folder: Path) -> StudyComparison:
    """Read comparison.json.

    Raises:
        PlanError: if there is none.
    """
    path = folder / "comparison.json"
    if not path.is_file():
        raise PlanError(f"{path} is missing; make it with: make compare STUDY={folder.name}")
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts.pop("interval")
    estimates = {
        row["input"]: {
            m: Estimate(row[m], row[f"{m}_low"], row[f"{m}_high"], row[f"{m}_fold_mean"], row[f"{m}_fold_sd"], row["folds"])
            for m in METRICS
        }
        for row in facts.pop("inputs")
    }
    paired = [Paired(**one | {"difference": Estimate(**one["difference"])}) for one in facts.pop("paired")]
    return StudyComparison(estimates=estimates, paired=paired, **facts)
