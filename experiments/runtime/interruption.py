"""Stop cleanly on a signal: USR1 and TERM (schedulers) and INT (Ctrl-C) set a flag that is looked at after each batch.

The handlers go in before torch is imported, so that a signal in the first seconds is not lost. A run that was stopped so exits
with 75: run me again. Nothing is saved in the handler; the last checkpoint is that of the last finished epoch.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
RESUME = 75
"""Exit status of a run that was interrupted and can go on (EX_TEMPFAIL)."""
TAKEN = 69
"""Exit status when another process is training the run (EX_UNAVAILABLE): nothing was done, and nothing needs to be."""

_received: list[int] = []


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal asked this run to stop; it can be resumed."""


def install_handlers() -> None:
    """Let the signals set the flag; a second Ctrl-C stops at once."""
    for number in SIGNALS:
        signal.signal(number, _note)


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
