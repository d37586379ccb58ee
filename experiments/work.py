"""``work``: take the study's missing runs one after another until none is left; started by ``sweep``, once per device.

Workers need no list and no leader: a run belongs to the process that holds its lock, so any number of them, also on several
machines that share the folder, do each run once. A worker stops when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.interruption import RESUME, forget_scheduler, install_handlers, interrupted

if TYPE_CHECKING:
    from experiments.plan import Run
    from experiments.settings import Settings
    from experiments.study import Study


def main(arguments: Sequence[str]) -> int:
    """Command line of ``work``: --inputs, --seeds, --follow (stop with the parent process), and every setting."""
    install_handlers()
    forget_scheduler()
    light = argparse.ArgumentParser(prog="regionwise work", add_help=False, allow_abbrev=False)
    light.add_argument("--inputs", default="")
    light.add_argument("--seeds", default="")
    light.add_argument("--follow", type=int, default=0)
    known, rest = light.parse_known_args(arguments)
    if known.follow:
        threading.Thread(target=_follow, args=(known.follow,), daemon=True).start()

    from experiments.grid import planned_runs
    from experiments.settings import parse_settings
    from experiments.study import open_study

    settings = parse_settings(rest)
    runs = planned_runs(settings, known.inputs, known.seeds)
    return work(settings, open_study(settings.study_options()), runs)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def work(settings: Settings, study: Study, runs: Sequence[Run]) -> int:
    """Train whatever is neither complete nor in another process's hands.

    Returns:
        0 when all that was tried is complete, 1 when a run failed, 75 when a signal came.
    """
    from rich.console import Console

    from experiments.fold import fold

    console = Console(highlight=False, soft_wrap=True)
    failed = False
    for run in runs:
        if interrupted():
            return RESUME
        if not _to_do(settings, study, run):
            continue
        print(f"== {run.name}", flush=True)
        try:
            fold(settings, study, run, console)
        except Exception:  # the run's folder says failed and why; the next run may still succeed
            traceback.print_exc(file=sys.stdout)
            failed = True
        sys.stdout.flush()
    return RESUME if interrupted() else int(failed)


def _to_do(settings: Settings, study: Study, run: Run) -> bool:
    from experiments.fold import fingerprint_of
    from experiments.results import RunFolder

    folder = RunFolder(run.folder(study.folder))
    state = folder.state(fingerprint_of(settings, study))
    if state == "failed":
        return folder.facts().get("sweep") != os.environ.get("REGIONWISE_SWEEP")
    return state in ("missing", "interrupted")
