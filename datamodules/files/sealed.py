"""JSON that is known to hold what was written: it carries the SHA-256 of its own content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.files.atomic import content_sha256, finite, write_json
from regions.errors import UserError

SEAL = "sha256"


class DamagedError(UserError):
    """A file that does not hold what was written."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON holds it, with its own SHA-256."""
    plain: dict[str, Any] = json.loads(json.dumps(finite({key: value for key, value in content.items() if key != SEAL})))
    return plain | {SEAL: content_sha256(plain)}


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, with its own SHA-256."""
    write_json(path, sealed(content))


def read_sealed(path: Path, way_out: str) -> dict[str, Any]:
    """Read JSON that carries its own SHA-256.

    Args:
        path: The file.
        way_out: What the user can do when it is damaged.

    Raises:
        FileNotFoundError: if there is none.
        DamagedError: if it is no JSON, or not what was written.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); {way_out}") from None
    return unsealed(path, content, way_out)


def unsealed(path: Path, content: Any, way_out: str) -> dict[str, Any]:
    """A file's content without its seal.

    Raises:
        DamagedError: if it is not what was written.
    """
    if isinstance(content, dict) and SEAL not in content:
        raise DamagedError(f"{path} has no {SEAL}: an earlier version wrote it, or it was changed; {way_out}")
    if not isinstance(content, dict) or content[SEAL] != sealed(content)[SEAL]:
        raise DamagedError(f"{path} was changed after it was written; {way_out}")
    return {key: value for key, value in content.items() if key != SEAL}
