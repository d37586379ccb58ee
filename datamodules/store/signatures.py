"""Know a scan again without keeping it: a hash of its voxels, and the signs of a few projections of how it deviates.

Both are kept of every scan of a training cohort and tell nothing else of it. The hash knows the same prepared volume; the
signature also one that was saved again, with noise or another scale. What is signed is what is left of a scan in blocks of
about 8 mm when the cohort's mean is taken away (``datamodules.store.duplicates``), in ``BITS`` directions of chance: two
scans whose remainders correlate by r differ in a share arccos(r) / pi of the bits (Charikar 2002). ``MOST_BITS`` is that of r
= 0.8, from which on two scans count as one person there.

References:
    Charikar 2002, Similarity estimation techniques from rounding algorithms, STOC 34:380-388, doi 10.1145/509907.509965.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import acos, cos, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cohort.images import kind_of
from datamodules.store.duplicates import LEAST_SCANS, NEAR, fingerprint
from datamodules.store.prepared import PreparedCohort
from regions.grid import Grid

BITS = 512
MOST_BITS = round(BITS * acos(NEAR) / pi)
"""Differing bits up to which two scans count as one."""
DIGITS = 4
"""Decimals of the cohort's mean, whose values are z-scores."""

TABLES = ("voxels", "signatures", "mean")


@dataclass(frozen=True)
class Match:
    """How a scan of the training cohort was known again; ``correlation`` is an estimate, 1 where the voxels are the same."""

    how: str
    correlation: float


@dataclass(frozen=True)
class KnownScans:
    """What is kept of a cohort's contrasts.

    Attributes:
        names: Of the contrasts.
        voxels: Contrast -> SHA-256 of each scan's float16 voxels, in ascending order.
        signatures: Contrast -> signature of each scan, in ascending order, which is another order; empty with too few scans.
        mean: Contrast -> (blocks,) the cohort's mean, which is taken away.
    """

    names: tuple[str, ...]
    voxels: Mapping[str, tuple[str, ...]]
    signatures: Mapping[str, tuple[str, ...]]
    mean: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> KnownScans:
        """From plain JSON content, as ``plain`` gives it."""
        tables = (
            {str(name): tuple(values) for name, values in recorded[key].items()} for key in ("voxels", "signatures", "mean")
        )
        return cls(tuple(map(str, recorded["names"])), *tables)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        tables = {key: {n: list(v) for n, v in getattr(self, key).items()} for key in TABLES}
        return {"names": list(self.names), "bits": BITS, **tables}

    def match(self, images: Mapping[str, NDArray[np.float16]], grid: Grid) -> Match | None:
        """The best evidence that a scan is one of the cohort; None where there is none.

        Args:
            images: (I, J, K) float16 each, prepared as the cohort's, by name.
            grid: The cohort's grid, on its scans' own voxels.
        """
        nearest = BITS
        for name in (name for name in self.names if name in images):
            if hashlib.sha256(np.ascontiguousarray(images[name]).tobytes()).hexdigest() in self.voxels[name]:
                return Match("the same voxels", 1.0)
            if self.signatures.get(name):
                blocks = fingerprint(images[name][None], grid)[0]
                own = int(signature(blocks, np.asarray(self.mean[name])), 16)
                nearest = min(nearest, *((own ^ int(other, 16)).bit_count() for other in self.signatures[name]))
        return Match("nearly the same brain", cos(pi * nearest / BITS)) if nearest <= MOST_BITS else None


def known_scans(prepared: PreparedCohort, on_scan: Callable[[int, int], None] | None = None) -> KnownScans:
    """What is kept of a cohort.

    Args:
        prepared: Its scans on their own voxels; what is no contrast is passed over.
        on_scan: Called with (done, to do) after each scan.
    """
    names = tuple(name for name in prepared.names if kind_of(name) == "contrast")
    count = len(prepared.scans) if names else 0
    digests: dict[str, list[str]] = {name: [] for name in names}
    blocks: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for row in range(count):
        for name, image in prepared.contrasts(row).items():
            digests[name].append(hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())
            blocks[name].append(fingerprint(image[None], prepared.grid)[0])
        if on_scan:
            on_scan(row + 1, count)
    voxels = {name: tuple(sorted({*values})) for name, values in digests.items()}
    enough = {name: np.stack(prints) for name, prints in blocks.items() if len(prints) >= LEAST_SCANS}
    means = {name: table.mean(axis=0, dtype=np.float64).round(DIGITS) for name, table in enough.items()}
    signatures = {name: tuple(sorted({signature(row, means[name]) for row in table})) for name, table in enough.items()}
    return KnownScans(names, voxels, signatures, {name: tuple(mean.tolist()) for name, mean in means.items()})


def signature(blocks: NDArray[np.floating[Any]], mean: NDArray[np.float64]) -> str:
    """The signs of a scan's projections, hexadecimal.

    Args:
        blocks: (blocks,) of one contrast, from ``fingerprint``.
        mean: (blocks,) of the cohort.
    """
    left = blocks.astype(np.float64) - blocks.mean(dtype=np.float64) - (mean - mean.mean())
    return np.packbits(directions(left.size) @ left > 0).tobytes().hex()


@lru_cache(maxsize=2)
def directions(size: int) -> NDArray[np.float64]:
    """(BITS, size) of 1 and -1, the same on every machine and with every version of numpy."""
    stream = hashlib.shake_256(f"regionwise signature {BITS} x {size}".encode()).digest(BITS * (-(-size // 8)))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8).reshape(BITS, -1), axis=1)[:, :size]
    return bits.astype(np.float64) * 2 - 1
