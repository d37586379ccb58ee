"""The images of a scan by name: the column of a plain table, the end of a BIDS file's name, and the word in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DEFAULT_IMAGES = ("t1w", "flair")
"""What is read of a scan unless a study asks for other images."""
TITLES = {"t1w": "T1w", "flair": "FLAIR", "t2w": "T2w", "pdw": "PDw", "t2starw": "T2starw"}


def images_of(**paths: Path | None) -> dict[str, Path]:
    """The images that are there, by name."""
    return {name: path for name, path in paths.items() if path is not None}


def title(name: str) -> str:
    """An image as a sentence names it."""
    return TITLES.get(name, name)


def titles(names: Iterable[str]) -> str:
    """Several images as a sentence names them: ``T1w, T2w and FLAIR``."""
    *most, last = map(title, names)
    return f"{', '.join(most)} and {last}" if most else last
