"""A worker: take the study's missing runs one after another until none is left.

Workers need no list and no leader: a run belongs to the process that holds its lock, so any number of them, also on several
machines that share the folder, do each run once.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Sequence

from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, TAKEN, interrupted
from experiments.study.opening import fingerprint_of
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from experiments.study.study import Study
from experiments.training.run import fold
from lightning_modules.errors import ModelError
from regions.errors import UserError

WAIT_SECONDS = 2


POLL_SECONDS = 0.2


ATTEMPTS = 3
"""Processes that a run gets when the system kills them."""


def work(settings: Settings, study: Study, runs: Sequence[Run], isolated: Sequence[str] | None = None) -> int:
    """Train whatever is neither complete nor in another process's hands, and wait for what others have at hand.

    Args:
        settings: All settings.
        study: The opened study.
        runs: All runs.
        isolated: Settings as on the command line: each run gets a process of its own. None trains in this process.

    Returns:
        0 when every run is complete, 1 when a run failed or the disk takes nothing more, 75 when a signal came.
    """
    os.environ.setdefault("REGIONWISE_SWEEP", uuid.uuid4().hex[:12])
    lost: Counter[Run] = Counter()
    while True:
        states = {run: _state(settings, study, run) for run in runs}
        to_do = [run for run, state in states.items() if state in ("missing", "interrupted") and lost[run] < ATTEMPTS]
        for run in to_do:
            if interrupted():
                return RESUME
            if _state(settings, study, run) in ("missing", "interrupted"):
                try:
                    lost[run] += not (_train(settings, study, run) if isolated is None else _train_apart(run, isolated))
                except OSError as error:
                    print(f"stopped: {error}; every further run would fail alike", flush=True)
                    return 1
        if interrupted():
            return RESUME
        if not to_do:
            if "running" not in states.values():
                return int(any(state != "complete" for state in states.values()))
            time.sleep(WAIT_SECONDS)


def _train(settings: Settings, study: Study, run: Run) -> bool:
    """Train one run; False when it failed.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    print(f"== {run.name}", flush=True)
    try:
        fold(settings, study, run, plain_console())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        traceback.print_exc(file=sys.stdout)
    except (UserError, ModelError) as error:  # the run's folder says failed and why; the next run may still succeed
        print(f"failed: {error}")
    except Exception:
        traceback.print_exc(file=sys.stdout)
    else:
        return True
    finally:
        sys.stdout.flush()
    return False


def _train_apart(run: Run, arguments: Sequence[str]) -> bool:
    """Train one run in a fresh process, and pass a signal on to it; False when it failed.

    A failure is in the run's folder; a process that the system killed leaves its run interrupted, to be tried again.
    """
    print(f"== {run.name}, in a process of its own", flush=True)
    words = ["fold", "--roi", run.input, "--fold", str(run.fold), "--seed", str(run.seed), *arguments]
    with subprocess.Popen([sys.executable, "-m", "experiments", *words], stdin=subprocess.DEVNULL) as process:
        signalled = False
        while process.poll() is None:
            if interrupted() and not signalled:
                process.terminate()
                signalled = True
            time.sleep(POLL_SECONDS)
    return process.returncode in (0, RESUME, TAKEN)


def _state(settings: Settings, study: Study, run: Run) -> str:
    """The run's state, where a failure of an earlier sweep counts as interrupted: it is tried again."""
    folder = RunFolder(run.folder(study.folder))
    state = folder.state(fingerprint_of(settings, study))
    if state == "failed" and folder.facts().get("sweep") != os.environ["REGIONWISE_SWEEP"]:
        return "interrupted"
    return state
