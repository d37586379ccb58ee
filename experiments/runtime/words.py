"""Numbers with their words."""

from __future__ import annotations


def plural(count: int, word: str) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
