"""Scans that look like one scan, or one person, twice: equal files, equal brains, or brains that deviate in the same places.

Two names for one patient put the patient into training and test. Brains in one space resemble each other, so that plain
correlations lie above 0.9 for many of them; what tells them apart is what is left when the mean of the cohort's other scans is
taken away, in blocks of about 8 mm. ``NEAR`` lies between what different people and what one person reach there.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.cohort.images import kind_of, title
from datamodules.cohort.records import Scan
from datamodules.store.prepared import PreparedCohort
from datamodules.store.sources import Source, hash_sources
from regions.atlas import template_on
from regions.grid import Grid

BLOCK_MM = 8.0
NEAR = 0.8
"""Correlation from which two scans look like one person.

Midway between two people and one person. Two people reached at most 0.58 in 28 real sessions of elderly people and of patients
with MS (372 pairs), and phantoms of two patients at most 0.73 (16,000 pairs at 2 to 6 mm); one person under two names reached
0.88 to 0.975 in the real sessions, a phantom's copy with noise or an intensity ramp 0.96. Two phantom sessions of one patient,
0.8 to 0.87 at 1 mm, reach 0.25 to 0.92 with larger voxels, where scanner and noise count for more than in real ones: not all
phantoms under a second name are named. A copy moved by a voxel is not found."""
LEAST_SCANS = 5
"""With fewer scans the others' mean says too little."""


@dataclass(frozen=True)
class Duplicate:
    """Two scans that look like one, and how they were found."""

    first: str
    second: str
    same_patient: bool
    how: str
    correlation: float | None = None

    def __str__(self) -> str:
        value = "" if self.correlation is None else f" (correlation {self.correlation:.2f})"
        return f"{self.first} and {self.second}: {self.how}{value}"


def fingerprint(image: NDArray[np.float16], grid: Grid) -> NDArray[np.float32]:
    """Mean of each block of about 8 mm in the template's brain, (C, blocks) float32.

    Args:
        image: (C, I, J, K) stored contrasts.
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


def duplicates_of(
    scans: Sequence[Scan], prepared: PreparedCohort, workers: int = 1, on_scan: Callable[[int, int], None] | None = None
) -> list[Duplicate]:
    """``find_duplicates`` of a cohort, from its files and its stored volumes.

    Args:
        scans: The cohort's scans.
        prepared: Their stored volumes.
        workers: Threads that read them.
        on_scan: Called with (done, to do) after each scan.
    """
    names = [name for name in prepared.names if kind_of(name) == "contrast"]

    def read(row: int) -> tuple[list[str], NDArray[np.float32]]:
        images = prepared.contrasts(row)
        digests = [hashlib.sha256(images[name].tobytes()).hexdigest() if name in images else "" for name in names]
        blank = np.full(prepared.grid.shape, np.float16(np.nan))
        return digests, fingerprint(np.stack([images.get(name, blank) for name in names]), prepared.grid)

    if not names:
        return []

    marks = []
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for mark in pool.map(read, range(len(scans))):
            marks.append(mark)
            if on_scan:
                on_scan(len(marks), len(scans))
    sources, _ = hash_sources(scans, prepared.folder / "sources.json", workers)
    return find_duplicates(scans, sources, [voxels for voxels, _ in marks], [blocks for _, blocks in marks])


def find_duplicates(
    scans: Sequence[Scan],
    sources: Mapping[str, Source],
    voxels: Sequence[Sequence[str]],
    prints: Sequence[NDArray[np.float32]],
) -> list[Duplicate]:
    """Every pair of scans that look like one, each named once, by the strongest evidence.

    Args:
        scans: The cohort's scans.
        sources: Hash of each source file by path, see ``datamodules.store.sources``.
        voxels: Hash of each scan's stored contrasts, brain only; empty where it lacks one.
        prints: Each scan's ``fingerprint``, NaN where it lacks a contrast.
    """
    pairs: dict[tuple[int, int], Duplicate] = {}
    names = [name for name in (scans[0].names if scans else ()) if kind_of(name) == "contrast"]
    for how, keys in (
        *((f"the same {title(name)} file", [_sha256(scan, name, sources) for scan in scans]) for name in names),
        *(
            (f"the same {title(name)} voxels in the brain", [hashes[channel] for hashes in voxels])
            for channel, name in enumerate(names)
        ),
    ):
        for pair in _equal(keys):
            pairs.setdefault(pair, _duplicate(scans, pair, how, None))
    for first, second, value in near_pairs(prints):
        if scans[first].patient != scans[second].patient:
            pairs.setdefault((first, second), _duplicate(scans, (first, second), "nearly the same brain", value))
    return sorted(pairs.values(), key=lambda item: (item.same_patient, item.first, item.second))


def _sha256(scan: Scan, name: str, sources: Mapping[str, Source]) -> str:
    return sources[str(scan.images[name])].sha256 if name in scan.images else ""


def _equal(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Rows with equal keys that are not empty: each with the first of its kind."""
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        if key:
            rows[key].append(row)
    return [(same[0], other) for same in rows.values() for other in same[1:]]


def _duplicate(scans: Sequence[Scan], pair: tuple[int, int], how: str, value: float | None) -> Duplicate:
    first, second = (scans[row] for row in pair)
    return Duplicate(first.name, second.name, first.patient == second.patient, how, value)


def residual_correlation(prints: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """(scans, scans) correlation of what is left of two scans without the mean of the others, the largest of all contrasts.

    The mean of the n - 2 others is in both scans of a pair, so that unrelated ones would correlate by 1 / (n - 1); the values
    are scaled to 0 there. The diagonal is 0. With the pair itself in the mean, a pair of five scans loses a sixth. Scans that
    lack a contrast have no part in it.
    """
    table = np.stack(prints).astype(np.float64)
    best = np.full((len(prints), len(prints)), -1.0)
    for channel in range(table.shape[1]):
        there = np.flatnonzero(np.isfinite(table[:, channel]).all(axis=1))
        if there.size >= LEAST_SCANS:
            pairs = np.ix_(there, there)
            best[pairs] = np.maximum(best[pairs], _left_over(table[there, channel]))
    np.fill_diagonal(best, 0)
    return best


def _left_over(prints: NDArray[np.float64]) -> NDArray[np.float64]:
    """(scans, scans) correlation of what is left of one contrast, (scans, blocks)."""
    count = len(prints)
    centred = prints - prints.mean(axis=1, keepdims=True)
    gram = centred @ centred.T
    own = np.diag(gram)[:, None]
    with_others = (gram.sum(axis=1)[:, None] - own - gram) / (count - 2)
    among_others = gram.sum() - 2 * (gram.sum(axis=1)[:, None] + gram.sum(axis=1)) + own + own.T + 2 * gram
    mean_square = among_others / (count - 2) ** 2
    left = np.maximum(own - 2 * with_others + mean_square, 1e-9)
    value = (gram - with_others - with_others.T + mean_square) / np.sqrt(left * left.T)
    return np.asarray((value * (count - 1) - 1) / (count - 2))


def near_pairs(prints: Sequence[NDArray[np.float32]]) -> list[tuple[int, int, float]]:
    """Rows of scans that correlate by ``NEAR`` or more; none where there are too few scans."""
    if len(prints) < LEAST_SCANS:
        return []
    values = residual_correlation(prints)
    rows, columns = np.nonzero(np.triu(values >= NEAR, 1))
    return [(int(row), int(column), float(values[row, column])) for row, column in zip(rows, columns, strict=True)]
