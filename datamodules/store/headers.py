"""The grids of images that were seen before, so that opening a study reads no header twice.

``grids.json`` of a store holds the RAS+ grid of every image by the SHA-256 of its bytes::

    {"version": 1, "grids": {"<sha256>": {"shape": [i, j, k], "affine": [[...], ...]}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from datamodules.files.atomic import locked, write_text
from datamodules.files.volumes import canonical_grid
from datamodules.store.sources import Source
from regions.grid import Grid

VERSION = 1
"""Raised whenever other headers are accepted, or read otherwise, so that all are read again."""


class KnownGrids:
    """``canonical_grid`` with a memory.

    Args:
        record: ``grids.json``, made or extended by ``save``.
        sources: The images' SHA-256, by path as given.
    """

    def __init__(self, record: Path, sources: Mapping[str, Source]) -> None:
        self.record, self.sources = record, sources
        self.known, self.fresh = _read(record), dict[str, Grid]()

    def __call__(self, path: Path) -> Grid:
        """The RAS+ grid of an image; headers that cannot be used are not remembered.

        Raises:
            ScanError: if the header cannot be used.
            SpaceError: if the voxel axes are oblique.
        """
        if str(path) not in self.sources:
            return canonical_grid(path)
        digest = self.sources[str(path)].sha256
        if digest not in self.known:
            self.known[digest] = self.fresh[digest] = canonical_grid(path)
        return self.known[digest]

    def save(self) -> None:
        """Add what was read to the record."""
        if not self.fresh:
            return
        with locked(self.record.with_name("locks") / "grids"):
            merged = _read(self.record) | self.fresh
            grids = {digest: asdict(grid) for digest, grid in merged.items()}
            write_text(self.record, json.dumps({"version": VERSION, "grids": grids}))


def _read(record: Path) -> dict[str, Grid]:
    """The recorded grids; empty if the record cannot be understood, the headers are then read again."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return {}
        made: dict[str, Grid] = {}
        grids: dict[str, Grid] = {}
        for digest, entry in content["grids"].items():
            key = json.dumps(entry)
            if key not in made:
                made[key] = Grid(tuple(entry["shape"]), tuple(tuple(row) for row in entry["affine"]))
            grids[digest] = made[key]
        return grids
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}
