"""``sync``: upload the offline runs of a study, and online runs that lost their server; look whether they arrived.

`wandb sync` exits with 0 when it has left tables behind: they wait in files that may be missing. This is checked before, and
what the server has is compared after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.study.arguments import TrackedStudy, named, read
from experiments.tracking.sync import sync


@dataclass(frozen=True)
class Options(TrackedStudy):
    """Which study is uploaded, and where to."""

    without_tables: bool = named("without-tables", False)
    """Upload runs whose tables are missing too; their curves and numbers are complete."""


def run(options: Options) -> int:
    """Upload a study and print what happened."""
    return sync(options.folder, options.tracking(), options.without_tables)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``sync``."""
    return run(read(Options, arguments))
