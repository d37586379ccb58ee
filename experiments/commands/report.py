"""``report``: print a study's comparison again, and write its report: report.html, figures/ and tables/.

From files alone: no GPU, no network, nothing is trained or scored. report.html is one file that can be sent or printed;
patients have pseudonyms in it, and images of patients enter with --images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.analysis.comparison import read_comparison
from experiments.analysis.view import show
from experiments.reporting.build import write_report
from experiments.reporting.sources import read_sources
from experiments.study.arguments import parse, study_parser


def main(arguments: Sequence[str]) -> int:
    """Command line of ``report``: --study, --studies, --cohort, --images, --out DIR (the study's folder)."""
    parser = study_parser("report")
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    known, folder = parse(parser, arguments)
    console = Console(highlight=False, soft_wrap=True)
    show(read_comparison(folder), folder, console)
    write(folder, console, known.out or folder, known.images)
    return 0


def write(folder: Path, console: Console, out: Path | None = None, images: bool = False) -> None:
    """Write a study's report and say where it is."""
    written = write_report(read_sources(folder), out or folder, images)
    console.print(f"report: {written.page}, with {written.figures} figures and {written.tables} tables beside it")
