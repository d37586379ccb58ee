"""Tables wait for the upload in the run folder; W&B knows them by a path that tells nothing, because it sends that path on.

    /tmp/regionwise-<random>/data -> <run folder>/wandb/data

The link lives while it is needed: until a run ends, and again while it is uploaded, wherever the study lies by then.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "WANDB_DATA_DIR"
_LINK = re.compile(r"(/tmp/regionwise-[^/]+/data)/(.+)")


def data_folder(run_folder: Path) -> Path:
    """Where the tables of a run lie."""
    return run_folder / "wandb" / "data"


def stage_tables(run_folder: Path) -> None:
    """Let W&B put tables into the run folder until ``unstage_tables``."""
    if VARIABLE not in os.environ:
        link = Path(tempfile.mkdtemp(prefix="regionwise-", dir="/tmp")) / "data"
        _make(link, run_folder)
        os.environ[VARIABLE] = str(link)


def unstage_tables() -> None:
    """Remove the link, if there is one; the tables stay."""
    if VARIABLE in os.environ:
        shutil.rmtree(Path(os.environ.pop(VARIABLE)).parent)


def real_path(staged: str, run_folder: Path) -> tuple[Path, Path | None]:
    """Where a staged file lies, and the link by which W&B looks for it; no link for a path that is none of these."""
    match = _LINK.fullmatch(staged)
    return (data_folder(run_folder) / match[2], Path(match[1])) if match else (Path(staged), None)


@contextmanager
def staged_again(link: Path, run_folder: Path) -> Iterator[None]:
    """The link of an earlier process, while W&B uploads what it finds there."""
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.unlink(missing_ok=True)
    _make(link, run_folder)
    try:
        yield
    finally:
        shutil.rmtree(link.parent)


def _make(link: Path, run_folder: Path) -> None:
    data = data_folder(run_folder).absolute()
    data.mkdir(parents=True, exist_ok=True)
    link.symlink_to(data)
