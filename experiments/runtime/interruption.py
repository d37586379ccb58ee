"""Stop cleanly on a signal: USR1 and TERM (schedulers) and INT (Ctrl-C) set a flag that is looked at after each batch.

The handlers go in before torch is imported, so that a signal in the first seconds is not lost. A run that was stopped so exits
with 75: run me again. Nothing is saved in the handler; the last checkpoint is that of the last finished epoch.

A training is one process that knows no scheduler, so it also forgets the variables from which libraries would guess one.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
RESUME = 75
"""Exit status of a run that was interrupted and can go on (EX_TEMPFAIL)."""
TAKEN = 69
"""Exit status when another process is training the run (EX_UNAVAILABLE): nothing was done, and nothing needs to be."""
SCHEDULERS = ("SLURM_", "SLURMD_", "PMI_", "PMIX_", "JSM_NAMESPACE_")

_received: list[int] = []


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal asked this run to stop; it can be resumed."""


def install_handlers() -> None:
    """Let the signals set the flag; a second Ctrl-C stops at once."""
    for number in SIGNALS:
        signal.signal(number, _note)


def forget_scheduler() -> None:
    """Take a scheduler's variables out of this process; call it before Lightning is imported.

    Lightning reads its rank from SLURM_PROCID, looks for checkpoints of its own where SLURM_NTASKS is set, and stays silent on
    every rank but 0; W&B would record account, user and node. Which GPU the process has stands in CUDA_VISIBLE_DEVICES.
    """
    for name in [name for name in os.environ if name.startswith(SCHEDULERS)]:
        del os.environ[name]


def _note(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and signal.SIGINT in _received:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    _received.append(number)


def interrupted() -> bool:
    """Whether a signal has come."""
    return bool(_received)


def stop_if_interrupted() -> None:
    """Raise ``Interrupted`` if a signal has come."""
    if _received:
        raise Interrupted(signal.Signals(_received[0]).name)
