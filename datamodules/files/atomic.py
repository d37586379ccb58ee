"""Files and folders that appear when they are complete (written beside the target, then renamed), locks and SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from datamodules.files.listing import list_folder

Write = Callable[[BinaryIO], object]
DAY_SECONDS = 86_400
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Which machine a temporary file is of, without its name."""
_TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9a-f]+\.partial")


def write_atomically(path: Path, write: Write) -> None:
    """Let ``write`` fill a temporary file and put it in the place of ``path`` in one step.

    Raises:
        OSError: naming the file, if it cannot be written; the old file, if any, is untouched then.
    """
    temporary = temporary_beside(path)
    try:
        with naming(path):
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name for what becomes ``path``; its folder is made, and what killed commands left unfinished there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent.absolute())
    return path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}.partial")


@cache
def _sweep(folder: Path) -> None:
    """Once a process: the process that made a temporary file stands in its name; those of other machines go after a day."""
    for left in folder.glob(".*.partial"):
        match = _TEMPORARY.fullmatch(left.name)
        if match is None or (match["machine"] == _MACHINE and _lives(int(match["process"]))):
            continue
        with suppress(FileNotFoundError, PermissionError):  # another command sweeps too, or it is another user's
            if match["machine"] != _MACHINE and time.time() - left.lstat().st_mtime < DAY_SECONDS:
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which takes the place of ``folder`` in one step when all its files have reached the disk.

    All are written before any is flushed, so that the disk takes them together. Only one process may do this at a time.

    Raises:
        OSError: naming the file, if one cannot be flushed; as when the block raises, the old folder, if any, is untouched then.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.iterdir():
            with naming(path), path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_taken(folder: Path) -> bool:
    """Whether a path cannot become a new folder: it is a file, or a folder that holds more than hidden files."""
    return folder.exists() and (not folder.is_dir() or bool(list_folder(folder)))


@contextmanager
def filled_folder(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which is renamed to ``folder`` when the block ends; ``folder`` must be missing or empty.

    Where it holds hidden files, or is the current folder, it stays, and the new files are moved in. The files are not flushed
    one by one; nothing is left if the block raises.
    """
    folder = folder.resolve()
    partial = temporary_beside(folder)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists() and (folder == Path.cwd() or any(folder.iterdir())):
            for path in partial.iterdir():
                path.rename(folder / path.name)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of writing say which file, and why."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


@contextmanager
def locked(path: Path, on_busy: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system releases it when the process ends.

    Args:
        path: The file, created if missing.
        on_busy: Called after each attempt that finds the lock held by another process; it waits before the next attempt, or
            raises. None waits without limit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if on_busy is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            while not _try_lock(file):
                on_busy()
        yield


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Try to take the lock on a file: True when it is held, False when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _try_lock(file)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; no file is made."""
    try:
        with path.open("r") as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(content: Any) -> str:
    """SHA-256 of what JSON can hold, hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; see ``finite``."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """A value as strict JSON can hold it: a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
