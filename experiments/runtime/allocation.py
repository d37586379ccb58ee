"""Memory that is freed stays with the process: trainings ask for the same large tensors batch after batch, stores scan by scan.

By default the C library gives each of them back to the system and fetches it again, and the system clears every page again.
Kept, a training step of the whole brain at 3 mm takes 0.86 of that time (median of 7 pairs, one thread). Threads share one
pool: with one each, as is the default, what one of them freed is lost to the others, and a store was built with 0.85 GB of
memory instead of 0.53.
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
"""Parameters of ``mallopt``, from malloc.h of the GNU C library."""
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the GNU C library keep what is freed; called once, when a command starts.

    Returns:
        Whether it was done: with another C library nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, 64 << 20))
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted])
