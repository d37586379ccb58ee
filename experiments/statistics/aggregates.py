"""Counts of one site's predictions from which the numbers of all sites together follow, without a row of any patient.

Scores enter the AUC as cells, the probability to ``DIGITS`` digits; the Brier score is summed at full precision, and decisions
are made before. A site gives, of each class: scans, how many of them were decided rightly, the sum of squared errors, and a
histogram of cells; and its own share of concordant pairs. Nothing is given of fewer than ``least`` patients:

- a class of 1 to least - 1 patients is withheld, apart from a multiple of ``least`` that its scans do not exceed;
- right (or wrong) decisions about 1 to least - 1 patients are withheld in the same way;
- neighbouring cells are put together until each bin holds scans of ``least`` patients; bins meet halfway between two scores.

What is withheld leaves a range for a pooled number, and ``pooled`` gives its ends. With ``least`` of 1 nothing is withheld and
the ends are equal: then the score of each scan can be read off to four digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.statistics.predictions import FloatArray, IntArray

DIGITS = 4
CELLS = 10**DIGITS
"""Cells from 0 to 1; a score is in the cell of its nearest multiple of 1 / CELLS."""
LEAST_PATIENTS = 5
"""Patients of whom something is told, at least, unless a site asks for another number."""
Bin = tuple[int, int, int]
"""First cell, last cell, scans."""


@dataclass(frozen=True)
class ClassCounts:
    """What a site tells of one class.

    Attributes:
        scans: None where withheld.
        patients: None where withheld.
        most: What the number of scans does not exceed.
        right_low: Scans that were decided rightly, at least.
        right_high: The same, at most.
        brier_sum: Sum of squared errors; None where withheld.
        bins: The histogram, from low to high; empty where withheld.
    """

    scans: int | None
    patients: int | None
    most: int
    right_low: int
    right_high: int
    brier_sum: float | None
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> ClassCounts:
        """From plain JSON content, as ``dataclasses.asdict`` gives it.

        Raises:
            ValueError: if the numbers contradict each other.
        """
        bins = tuple((int(first), int(last), int(scans)) for first, last, scans in recorded["bins"])
        counts = cls(**{**recorded, "bins": bins})
        withheld = counts.scans is None
        if not withheld and (counts.most != counts.scans or sum(scans for _, _, scans in bins) != counts.scans):
            raise ValueError(f"{counts.scans} scans, {counts.most} at most, and bins of {sum(scans for *_, scans in bins)}")
        if not 0 <= counts.right_low <= counts.right_high <= counts.most or (withheld and bins):
            raise ValueError(f"{counts.right_low} to {counts.right_high} of {counts.most} scans cannot be right")
        ends = [0, *(end for first, last, scans in bins for end in (first, last))]
        if ends != sorted(ends) or ends[-1] > CELLS or any(scans < 1 for _, _, scans in bins):
            raise ValueError("the bins are not in order")
        return counts


@dataclass(frozen=True)
class Aggregate:
    """What a site tells of its predictions.

    Attributes:
        least: Patients of whom something is told, at least.
        negative: Its scans of class 0.
        positive: Its scans of class 1.
        concordant: Pairs of a positive and a negative scan in which the positive one has the higher cell, ties one half; None
            where a class is withheld.
    """

    least: int
    negative: ClassCounts
    positive: ClassCounts
    concordant: float | None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Aggregate:
        """From plain JSON content, as ``dataclasses.asdict`` gives it.

        Raises:
            ValueError: if the numbers contradict each other.
        """
        negative, positive = (ClassCounts.of(recorded[name]) for name in ("negative", "positive"))
        concordant = None if recorded["concordant"] is None else float(recorded["concordant"])
        pairs = (negative.scans or 0) * (positive.scans or 0)
        if concordant is not None and not 0 <= concordant <= pairs:
            raise ValueError(f"{concordant} of {pairs} pairs cannot be concordant")
        return cls(int(recorded["least"]), negative, positive, concordant)


@dataclass(frozen=True)
class Range:
    """Where a number lies; both ends are equal where nothing was withheld, None where it is not defined."""

    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """The number, where it is known."""
        return self.low if self.low == self.high else None


def cells_of(p: FloatArray) -> IntArray:
    """The cell of each probability."""
    return np.rint(np.asarray(p) * CELLS).astype(np.int64)


@dataclass(frozen=True)
class Decided:
    """A site's scans as columns of one length: patient, class 0 or 1, probability of class 1, decision 0 or 1."""

    patient: npt.NDArray[Any]
    y: IntArray
    p: FloatArray
    decision: IntArray


def aggregate(table: Decided, least: int = LEAST_PATIENTS) -> Aggregate:
    """What a site tells.

    Args:
        table: The site's scans; it may hold one class only.
        least: Patients of whom something is told, at least.
    """
    negative, positive = (_class_counts(table, table.y == label, least) for label in (0, 1))
    cells = cells_of(table.p)
    known = negative.scans is not None and positive.scans is not None
    first, second = cells[table.y == 1], cells[table.y == 0]
    return Aggregate(least, negative, positive, _concordant(first, second) if known else None)


def _concordant(positive: IntArray, negative: IntArray) -> float:
    """Pairs with the positive cell above, ties one half."""
    ordered = np.sort(negative)
    below, up_to = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + up_to).sum()) / 2


def _class_counts(table: Decided, rows: npt.NDArray[np.bool_], least: int) -> ClassCounts:
    scans, patient = int(rows.sum()), table.patient[rows]
    people = int(np.unique(patient).size)
    if 0 < people < least:
        most = _multiple(scans, least)
        return ClassCounts(None, None, most, 0, most, None, ())
    right = (table.decision == table.y)[rows]
    low, high = _told(right, patient, least)
    errors = float(np.square(table.p - table.y)[rows].sum())
    return ClassCounts(scans, people, scans, low, high, errors, _bins(cells_of(table.p)[rows], patient, least))


def _told(right: npt.NDArray[np.bool_], patient: npt.NDArray[Any], least: int) -> tuple[int, int]:
    """How many decisions are right: twice the number, or the ends that are told of it."""
    count, scans = int(right.sum()), right.size
    if 0 < np.unique(patient[~right]).size < least:
        return max(scans - _multiple(scans - count, least), 0), scans - 1
    if 0 < np.unique(patient[right]).size < least:
        return 1, min(_multiple(count, least), scans)
    return count, count


def _multiple(count: int, of: int) -> int:
    return ceil(count / of) * of


def _bins(cells: IntArray, patient: npt.NDArray[Any], least: int) -> tuple[Bin, ...]:
    """Bins of ascending cells, each with scans of ``least`` patients; of single cells where least is 1."""
    if least == 1:
        return tuple(
            (int(cell), int(cell), int(scans)) for cell, scans in zip(*np.unique(cells, return_counts=True), strict=True)
        )
    order = np.argsort(cells, kind="stable")
    cells, patient = cells[order], patient[order]
    groups: list[tuple[int, int]] = []
    start, people = 0, set()
    for at in range(cells.size):
        people.add(patient[at])
        if len(people) >= least and (at + 1 == cells.size or cells[at + 1] > cells[at]):
            groups.append((start, at + 1))
            start, people = at + 1, set()
    if start < cells.size and groups:
        groups[-1] = (groups[-1][0], cells.size)
    cuts = [-1, *(int(cells[stop - 1] + cells[stop]) // 2 for _, stop in groups[:-1]), CELLS]
    return tuple((low + 1, high, stop - begin) for low, high, (begin, stop) in zip(cuts, cuts[1:], groups, strict=False))


def pooled(sites: Sequence[Aggregate]) -> dict[str, Range]:
    """Sensitivity, specificity, balanced accuracy, AUC and Brier score of all sites' scans together."""
    rates = {
        "sensitivity": _rate([site.positive for site in sites]),
        "specificity": _rate([site.negative for site in sites]),
    }
    balanced = Range(*(_mean(rates["sensitivity"], rates["specificity"], end) for end in ("low", "high")))
    return {"balanced_accuracy": balanced, **rates, "auc": _auc(sites), "brier": _brier(sites)}


def _mean(first: Range, second: Range, end: str) -> float | None:
    ends = getattr(first, end), getattr(second, end)
    return None if None in ends else (ends[0] + ends[1]) / 2


def _rate(counts: Sequence[ClassCounts]) -> Range:
    """Share of right decisions: withheld scans are all wrong or all right at the ends."""
    scans = sum(count.most for count in counts)
    if not scans:
        return Range(None, None)
    return Range(sum(count.right_low for count in counts) / scans, sum(count.right_high for count in counts) / scans)


def _brier(sites: Sequence[Aggregate]) -> Range:
    counts = [count for site in sites for count in (site.negative, site.positive)]
    scans = sum(count.most for count in counts)
    if not scans:
        return Range(None, None)
    known = sum(count.brier_sum or 0.0 for count in counts)
    withheld = sum(count.most for count in counts if count.scans is None)
    return Range(known / scans, (known + withheld) / scans)


def _auc(sites: Sequence[Aggregate]) -> Range:
    """Pairs within a site are known from the site; of others those whose bins do not meet, and equal single cells are ties."""
    positives, negatives = sum(site.positive.most for site in sites), sum(site.negative.most for site in sites)
    if not positives or not negatives:
        return Range(None, None)
    low = high = 0.0
    for i, first in enumerate(sites):
        for j, second in enumerate(sites):
            if i == j and first.concordant is not None:
                sure, possible = first.concordant, first.concordant
            else:
                sure, possible = _between(first.positive, second.negative)
            low, high = low + sure, high + possible
    return Range(low / (positives * negatives), high / (positives * negatives))


def _between(positive: ClassCounts, negative: ClassCounts) -> tuple[float, float]:
    """The least and the largest number of concordant pairs of two sites."""
    pairs = positive.most * negative.most
    if positive.scans is None or negative.scans is None or not pairs:
        return 0.0, float(pairs)
    (first, last, many), (begin, end, others) = np.array(positive.bins).T, np.array(negative.bins).T
    weight = many[:, None] * others[None, :]
    above, below = first[:, None] > end[None, :], last[:, None] < begin[None, :]
    tied = (first == last)[:, None] & (begin == end)[None, :] & (first[:, None] == begin[None, :])
    sure = float(weight[above].sum()) + float(weight[tied].sum()) / 2
    return sure, sure + float(weight[~above & ~below & ~tied].sum())
