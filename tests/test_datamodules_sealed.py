"""JSON that carries its own SHA-256: what was written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.files.sealed import DamagedError, read_sealed, write_sealed

CONTENT = {"a": 0.1 + 0.2, "b": [1, None, "ü\n"], "c": {"1": True, "x": 1e-300}, "d": -0.0, "e": 10**20}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", CONTENT)
    assert read_sealed(tmp_path / "x.json", "make it again") == CONTENT


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({3: float("nan")}, {"3": None}),
        ({"a": (1, np.float64(2))}, {"a": [1, 2.0]}),
        ({"a": np.int64(7)}, {"a": 7}),
        ({}, {}),
    ],
)
def test_what_json_cannot_hold_is_written_as_it_can(tmp_path: Path, written: dict[Any, Any], read: dict[str, Any]) -> None:
    write_sealed(tmp_path / "x.json", written)
    assert read_sealed(tmp_path / "x.json", "") == read


def test_order_and_white_space_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, CONTENT)
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert read_sealed(path, "") == CONTENT


@pytest.mark.parametrize(
    "change",
    [{"a": 0.3}, {"b": [1, None, "ü"]}, {"c": {"1": 1, "x": 1e-300, "y": 0}}, {"new": None}, {"sha256": "0" * 64}],
)
def test_a_changed_value_is_named_with_the_way_out(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, CONTENT)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DamagedError, match=r"x\.json was changed after it was written; make it again"):
        read_sealed(path, "make it again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("", "is damaged"),
        ("\udcff", "is damaged"),
        ("[1]", "was changed after it was written"),
        ("{}", "has no sha256: an earlier version wrote it, or it was changed"),
    ],
)
def test_another_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(DamagedError, match=message):
        read_sealed(path, "make it again")
