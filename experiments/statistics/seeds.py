"""What changes when only the seed of the training changes: spread and rank order of the inputs.

The patient bootstrap holds the trained models fixed. This is the other part, shown beside the interval and never
folded into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class SeedSpread:
    """One input over seeds.

    Attributes:
        mean: Mean over seeds.
        sd: Standard deviation over seeds (ddof 1), or None with one seed.
        best_rank: Best rank among the inputs in any seed, 1 is the highest value; ties share a rank.
        worst_rank: Worst rank among the inputs in any seed.
    """

    mean: float
    sd: float | None
    best_rank: float
    worst_rank: float


@dataclass(frozen=True)
class SeedReport:
    """All inputs over seeds.

    Attributes:
        spread: Input -> spread.
        seeds: Number of seeds.
        concordance: Kendall's W of the rank orders, 0 (no agreement) to 1 (the same order in every seed), or None with
            one seed, one input, or nothing but ties.
        same_leader: Share of seeds in which the input with the highest mean leads or shares the lead.
    """

    spread: Mapping[str, SeedSpread]
    seeds: int
    concordance: float | None
    same_leader: float


def seed_report(values: Mapping[str, Sequence[float]]) -> SeedReport:
    """Describe how a metric varies between seeds.

    Args:
        values: Input -> value for each seed, the same seeds in the same order for all.

    Raises:
        ValueError: If there is no input, the inputs differ in their number of seeds, or a value is not finite.

    References:
        Kendall and Babington Smith, The problem of m rankings, Ann Math Stat 1939;10:275-287; with correction for ties.
    """
    lengths = {name: len(row) for name, row in values.items()}
    if not lengths or 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise ValueError(f"every input needs the same number of seeds, got {lengths}")
    table = np.array([list(row) for row in values.values()], dtype=np.float64)
    if not np.all(np.isfinite(table)):
        raise ValueError("a value is missing or not finite; leave out seeds that are not complete for all inputs")
    ranks = rankdata(-table, axis=0)
    seeds = table.shape[1]
    spread = {
        name: SeedSpread(
            float(np.mean(row)), float(np.std(row, ddof=1)) if seeds > 1 else None, float(rank.min()), float(rank.max())
        )
        for name, row, rank in zip(values, table, ranks, strict=True)
    }
    leader = int(np.argmax(table.mean(axis=1)))
    return SeedReport(spread, seeds, _kendall_w(ranks), float(np.mean(table[leader] == table.max(axis=0))))


def _kendall_w(ranks: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float | None:
    inputs, seeds = ranks.shape
    if inputs < 2 or seeds < 2:
        return None
    ties = sum(float(np.sum(size**3 - size)) for size in (np.unique(r, return_counts=True)[1] for r in ranks.T))
    most = (seeds**2 * (inputs**3 - inputs) - seeds * ties) / 12
    totals = ranks.sum(axis=1)
    return float(np.sum((totals - totals.mean()) ** 2)) / most if most > 0 else None
