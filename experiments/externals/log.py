"""What happened to an external cohort, in order: ``events.jsonl``, a JSON object a line, each with the hash of the line before.

A line that is changed, removed or inserted is found. Somebody who writes the whole log again is not; the hash that is printed
with the results, kept elsewhere, tells that too.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.externals.errors import ExternalError

NAME = "events.jsonl"
START = "0" * 64


def note(folder: Path, event: str, **facts: Any) -> None:
    """Append an event with its time; it is on disk when this returns.

    Raises:
        OSError: if the log cannot be written.
    """
    path = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    lines = path.read_bytes().splitlines() if path.is_file() else []
    content = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "event": event,
        **facts,
        "previous": _hash(lines[-1]) if lines else START,
    }
    with path.open("ab") as file:
        file.write(json.dumps(content).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def events(folder: Path) -> list[dict[str, Any]]:
    """All events, oldest first; empty where there is no log.

    Raises:
        ExternalError: if a line is no event.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
        raise ExternalError(f"{path} is damaged ({error}); restore it") from None
    if not all(isinstance(entry, dict) and "event" in entry and "time" in entry for entry in entries):
        raise ExternalError(f"{path} holds a line that is no event; restore it")
    return entries


def latest(entries: list[dict[str, Any]], event: str) -> Mapping[str, Any] | None:
    """The last event of a kind since the last freeze, the freeze itself included; None where there is none."""
    for entry in reversed(entries):
        if entry["event"] == event:
            return entry
        if entry["event"] == "frozen":
            return None
    return None


def broken_line(folder: Path) -> int | None:
    """The first line, from 1, that does not continue the one before it; None where all do."""
    path = folder / NAME
    previous = START
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        try:
            if json.loads(line)["previous"] != previous:
                return number
        except (ValueError, KeyError, TypeError):
            return number
        previous = _hash(line)
    return None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
