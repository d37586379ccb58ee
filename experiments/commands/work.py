"""``work``: take the study's missing runs one after another until none is left; started by ``sweep``, once per device.

Workers need no list and no leader: a run belongs to the process that holds its lock, so any number of them, also on several
machines that share the folder, do each run once. A worker stops when the process that started it is gone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.runtime.interruption import install_handlers
from experiments.study.arguments import CommandOptions, split
from experiments.study.grid import planned_runs
from experiments.study.settings import parse_settings
from experiments.study.study import open_study


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which runs a worker takes."""

    takes_settings: ClassVar[bool] = True

    inputs: str = ""
    """Inputs, separated by commas; empty: all."""
    seeds: str = ""
    """Seeds, separated by commas; empty: that of the settings."""
    follow: int = 0
    """Number of the process with which this one stops; 0: none."""
    isolate: bool = False
    """Train each run in a process of its own, as runs on several devices always are: each starts its other processes."""


def run(options: Options, settings_args: list[str]) -> int:
    """Take missing runs one after another until none is left."""
    install_handlers()
    if options.follow:
        threading.Thread(target=_follow, args=(options.follow,), daemon=True).start()

    from experiments.training.worker import work

    settings = parse_settings(settings_args)
    study = open_study(settings.study_options())
    runs = planned_runs(settings, options.inputs, options.seeds, study.splits.folds)
    apart = options.isolate or str(settings.values.trainer.devices) != "1"
    return work(settings, study, runs, settings_args if apart else None)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``work``."""
    return run(*split(Options, arguments))
