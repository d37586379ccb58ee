"""How many processor cores this process may use, and what to tell where more is started than they can do."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def too_many(jobs: int, threads: int = 1) -> str:
    """What to tell of so many jobs at a time, each with so many threads; empty where the cores suffice."""
    if jobs <= 1 or jobs * threads <= cores():
        return ""
    each = f" of {threads} threads each" if threads > 1 else ""
    return f"{jobs} jobs at a time{each} on {cores()} cores slow each other down; {max(1, cores() // threads)} fit"
