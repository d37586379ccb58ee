"""``report``: print a study's comparison again, and write its report: report.html, figures/ and tables/.

From files alone: no GPU, no network, nothing is trained or scored. report.html is one file that can be sent or printed;
patients have pseudonyms in it, and images of patients enter with --images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.analysis.comparison import read_comparison
from experiments.analysis.view import show
from experiments.reporting.build import write_report
from experiments.reporting.sources import read_sources
from experiments.runtime.console import plain_console
from experiments.study.arguments import StudyChoice, read


@dataclass(frozen=True)
class Options(StudyChoice):
    """Which study is reported, and where the report is written."""

    images: bool = False
    """Show slices of the most confident errors; these are patient data."""
    out: Path | None = None
    """Folder of the report; without it the study's."""


def run(options: Options) -> int:
    """Show the comparison and write the report."""
    folder = options.folder
    console = plain_console()
    show(read_comparison(folder), folder, console)
    write(folder, console, options.out or folder, options.images)
    return 0


def write(folder: Path, console: Console, out: Path | None = None, images: bool = False) -> None:
    """Write a study's report and say where it is."""
    written = write_report(read_sources(folder), out or folder, images)
    console.print(f"report: {written.page}, with {written.figures} figures and {written.tables} tables beside it")


def main(arguments: Sequence[str]) -> int:
    """Command line of ``report``."""
    return run(read(Options, arguments))
