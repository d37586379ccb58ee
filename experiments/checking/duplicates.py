"""Scans that look like one scan twice: equal files, equal brains, or brains that deviate from the cohort in the same places.

Two names for one patient put the patient into training and test. Brains in one space resemble each other, so that plain
correlations lie above 0.9 for many of them; what tells them apart is what is left when the cohort's mean is taken away. On
phantoms, in blocks of about 8 mm, that residual correlates by at most 0.69 between two patients (3 mm voxels, 4 900 pairs; at
6 mm 0.60, 80 000 pairs), by 0.96 or more between a scan and its copy with noise of a tenth of a standard deviation or a 20 %
intensity ramp, and by 0.1 to 0.9 between two sessions of one patient. ``NEAR`` therefore finds copies that were saved, filtered
or normalised again. It does not find another session of the same patient under a second name, nor a copy moved by a voxel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.cohort.records import Scan
from datamodules.store.sources import Source
from regions.atlas import template_on
from regions.grid import Grid

BLOCK_MM = 8.0
NEAR = 0.9
LEAST_SCANS = 10
"""With fewer scans the cohort's mean is mostly the scan itself."""


@dataclass(frozen=True)
class Duplicate:
    """Two scans that look like one, and how they were found."""

    first: str
    second: str
    same_patient: bool
    how: str
    correlation: float | None = None


def fingerprint(image: NDArray[np.float16], grid: Grid) -> NDArray[np.float32]:
    """Mean of each block of about 8 mm in the template's brain, (2, blocks) float32.

    Args:
        image: (2, I, J, K) stored volume.
        grid: Where its voxels lie.
    """
    sides = [max(round(BLOCK_MM / side), 1) for side in grid.spacing]
    brain = _blocks((template_on(grid) > 0).astype(np.float32), sides) > 0.5
    return np.stack([_blocks(channel.astype(np.float32), sides)[brain] for channel in image])


def _blocks(volume: NDArray[np.float32], sides: Sequence[int]) -> NDArray[np.float32]:
    counts = [-(-length // side) for length, side in zip(volume.shape, sides, strict=True)]
    pad = [(0, count * side - length) for count, side, length in zip(counts, sides, volume.shape, strict=True)]
    shape = [number for pair in zip(counts, sides, strict=True) for number in pair]
    return np.asarray(np.pad(volume, pad).reshape(shape).mean(axis=(1, 3, 5)))


def find_duplicates(
    scans: Sequence[Scan],
    sources: Mapping[str, Source],
    voxels: Sequence[tuple[str, str]],
    prints: Sequence[NDArray[np.float32]],
) -> list[Duplicate]:
    """Every pair of scans that look like one, each named once, by the strongest evidence.

    Args:
        scans: The cohort's scans.
        sources: Hash of each source file by path, see ``datamodules.store.sources``.
        voxels: Hash of each scan's two stored images, brain only.
        prints: Each scan's ``fingerprint``.
    """
    pairs: dict[tuple[int, int], Duplicate] = {}
    for how, keys in (
        ("the same T1w file", [sources[str(scan.t1w)].sha256 for scan in scans]),
        ("the same FLAIR file", [sources[str(scan.flair)].sha256 for scan in scans]),
        ("the same T1w voxels in the brain", [item for item, _ in voxels]),
        ("the same FLAIR voxels in the brain", [two for _, two in voxels]),
    ):
        for pair in _equal(keys):
            pairs.setdefault(pair, _duplicate(scans, pair, how, None))
    for first, second, value in near_pairs(prints):
        if scans[first].patient != scans[second].patient:
            pairs.setdefault((first, second), _duplicate(scans, (first, second), "nearly the same brain", value))
    return sorted(pairs.values(), key=lambda item: (item.same_patient, item.first, item.second))


def _equal(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Rows with equal keys: each with the first of its kind."""
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return [(same[0], other) for same in rows.values() for other in same[1:]]


def _duplicate(scans: Sequence[Scan], pair: tuple[int, int], how: str, value: float | None) -> Duplicate:
    first, second = (scans[row] for row in pair)
    return Duplicate(first.name, second.name, first.patient == second.patient, how, value)


def residual_correlation(prints: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(scans, scans) correlation after the cohort's mean is taken away, the larger of T1w and FLAIR; 0 on the diagonal."""
    table = np.stack(prints).astype(np.float32)
    best = np.full((len(prints), len(prints)), -1, dtype=np.float32)
    for channel in range(table.shape[1]):
        left = table[:, channel] - table[:, channel].mean(axis=0)
        left -= left.mean(axis=1, keepdims=True)
        left /= np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9)
        best = np.maximum(best, left @ left.T)
    np.fill_diagonal(best, 0)
    return best


def near_pairs(prints: Sequence[NDArray[np.float32]]) -> list[tuple[int, int, float]]:
    """Rows of scans that correlate by ``NEAR`` or more; none where there are too few scans."""
    if len(prints) < LEAST_SCANS:
        return []
    values = residual_correlation(prints)
    rows, columns = np.nonzero(np.triu(values >= NEAR, 1))
    return [(int(row), int(column), float(values[row, column])) for row, column in zip(rows, columns, strict=True)]
