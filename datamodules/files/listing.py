"""What lies in a folder: the only way in which folders are listed, so that hidden files are passed over everywhere alike."""

from __future__ import annotations

from pathlib import Path

SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}
"""Files and folders, in lower case, that operating systems leave beside data without hiding them."""


def is_hidden(name: str) -> bool:
    """Whether a name belongs to no data: ``.DS_Store``, ``._scan.nii.gz``, ``~$table.xlsx``, ``Thumbs.db`` and the like."""
    return name.startswith((".", "~$")) or name.lower() in SYSTEM_FILES


def list_folder(folder: Path, pattern: str = "*") -> list[Path]:
    """Sorted paths below a folder that fit a pattern, without hidden files and without what lies in hidden folders.

    Args:
        folder: May itself be hidden, or missing; then nothing is found.
        pattern: As for ``Path.glob``; ``**/`` looks into all folders, links to folders apart.
    """
    return sorted(path for path in folder.glob(pattern) if not any(is_hidden(name) for name in path.relative_to(folder).parts))
