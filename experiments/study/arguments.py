"""Command-line arguments of the words that read a finished or running study: which study, and nothing heavy imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments.study.runs import PlanError, study_name


class PlainParser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions with one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving.

        Raises:
            PlanError: with the command's name and what is wrong.
        """
        raise PlanError(f"{self.prog.split()[-1]}: {message}")


def study_parser(word: str) -> PlainParser:
    """A parser that knows --study, --studies and --cohort; further arguments may be added."""
    parser = PlainParser(prog=f"regionwise {word}", add_help=False, allow_abbrev=False)
    parser.add_argument("--study", default="")
    parser.add_argument("--studies", type=Path, default=Path("studies"))
    parser.add_argument("--cohort", type=Path, default=Path("cohorts/demo"))
    parser.add_argument("--preset", default="", help=argparse.SUPPRESS)
    return parser


def study_folder(known: argparse.Namespace) -> Path:
    """The study's folder: as named, or named like the cohort.

    Raises:
        PlanError: if there is no such study.
    """
    name = study_name(known.study or known.cohort.resolve().name.split(".")[0])
    folder = Path(known.studies) / name
    if not folder.is_dir():
        raise PlanError(f"there is no study {folder}; start one with: make sweep STUDY={name}")
    return folder


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, Path]:
    """Parse a command line and find its study."""
    known = parser.parse_args(arguments)
    return known, study_folder(known)


def only_study(arguments: Sequence[str]) -> list[str]:
    """Those words of a longer command line that name the study and its cohort."""
    known, _ = study_parser("study").parse_known_args(arguments)
    return [f"--study={known.study}", f"--studies={known.studies}", f"--cohort={known.cohort}"]
