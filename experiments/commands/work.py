"""``work``: take the study's missing runs one after another until none is left; started by ``sweep``, once per device.

Workers need no list and no leader: a run belongs to the process that holds its lock, so any number of them, also on several
machines that share the folder, do each run once. A worker stops when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Sequence

from experiments.runtime.interruption import forget_scheduler, install_handlers
from experiments.study.grid import planned_runs
from experiments.study.settings import parse_settings
from experiments.study.study import open_study
from experiments.training.worker import work


def main(arguments: Sequence[str]) -> int:
    """Command line of ``work``: --inputs, --seeds, --isolate, --follow (stop with the parent process), and every setting."""
    install_handlers()
    forget_scheduler()
    light = argparse.ArgumentParser(prog="regionwise work", add_help=False, allow_abbrev=False)
    light.add_argument("--inputs", default="")
    light.add_argument("--seeds", default="")
    light.add_argument("--follow", type=int, default=0)
    light.add_argument("--isolate", action="store_true")
    known, rest = light.parse_known_args(arguments)
    if known.follow:
        threading.Thread(target=_follow, args=(known.follow,), daemon=True).start()

    settings = parse_settings(rest)
    runs = planned_runs(settings, known.inputs, known.seeds)
    return work(settings, open_study(settings.study_options()), runs, rest if known.isolate else None)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
