"""``dashboard``: the study's W&B workspace as code.

Needs the optional package wandb-workspaces. Bars and curves show mean and standard deviation over folds; that is a
description, the tests are in the `compare` run and in comparison.tsv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.study.arguments import TrackedStudy, read
from experiments.tracking.workspace import dashboard


@dataclass(frozen=True)
class Options(TrackedStudy):
    """Which study's workspace is made, and where it is saved."""


def run(options: Options) -> int:
    """Write the workspace, save it where there is a key, and say where it is."""
    folder = options.folder
    made = dashboard(folder.name, folder, options.tracking())
    print(f"workspace: {made.url or made.file}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``dashboard``."""
    return run(read(Options, arguments))
