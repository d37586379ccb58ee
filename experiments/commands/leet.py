"""``leet``: the study in W&B's terminal dashboard; no key, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.study.arguments import StudyChoice, read
from experiments.tracking.leet import leet


@dataclass(frozen=True)
class Options(StudyChoice):
    """Which study is shown."""


def run(options: Options) -> int:
    """Show the study until the user quits."""
    return leet(options.folder)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``leet``."""
    return run(read(Options, arguments))
