"""With which programs a study's scans were prepared, from the description of the derivative that they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.files.tables import read_object

DESCRIPTION = "dataset_description.json"


def programs_of(image: Path) -> list[dict[str, Any]]:
    """The entries of ``GeneratedBy`` in the nearest folder above an image that has them; empty where none has."""
    return next((made for folder in image.parents if (made := _generated_by(folder))), [])


def _generated_by(folder: Path) -> list[dict[str, Any]]:
    path = folder / DESCRIPTION
    content = read_object(path) if path.is_file() else {}
    return [dict(program) for program in content.get("GeneratedBy", ())]


def plain_programs(image: Path) -> list[dict[str, Any]]:
    """The same without anything that could be a path: name, version, versions of libraries, and parameters that are plain."""
    programs = []
    for program in programs_of(image):
        texts = {name: str(program[name]) for name in ("Name", "Version") if name in program}
        tables = {name: _plain(program[name]) for name in ("Versions", "Parameters") if isinstance(program.get(name), dict)}
        programs.append(texts | tables)
    return programs


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    simple = {name: value for name, value in table.items() if isinstance(value, str | int | float | bool | None)}
    lists = {n: v for n, v in table.items() if isinstance(v, list) and all(isinstance(item, str | int | float) for item in v)}
    return {name: value for name, value in (simple | lists).items() if "/" not in str(value) and "\\" not in str(value)}
