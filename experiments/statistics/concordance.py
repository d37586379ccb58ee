"""Which scans of a fold are ordered rightly, patient by patient: the ground of every AUC statistic here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics.predictions import FloatArray, IntArray, Predictions


def concordance(pred: Predictions, fold: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Compare positive and negative scans of one fold.

    Args:
        pred: Predictions of one input.
        fold: Fold number.

    Returns:
        Positions of the patients of the fold in `pred.patients` (k,); wins (k, k): entry (a, b) counts the positive
        scans of patient a that score above negative scans of patient b, ties 1/2; and the number of pairs (k, k).
    """
    members = np.flatnonzero(pred.patient_fold == fold)
    rows = pred.fold == fold
    wins = cross_wins(pred.y[rows], pred.p[rows], pred.p[rows], np.searchsorted(members, pred.patient_index[rows]))
    ones = np.searchsorted(members, pred.patient_index[rows & (pred.y == 1)])
    zeros = np.searchsorted(members, pred.patient_index[rows & (pred.y == 0)])
    pairs = np.outer(np.bincount(ones, minlength=members.size), np.bincount(zeros, minlength=members.size))
    return members, wins, pairs.astype(np.float64)


def cross_wins(y: IntArray, score_positive: FloatArray, score_negative: FloatArray, patient_of: IntArray) -> FloatArray:
    """Wins (k, k) when positive scans take their score from one column and negative scans from another.

    Args:
        y: (n,) labels of the scans of one fold.
        score_positive: (n,) scores read for positive scans.
        score_negative: (n,) scores read for negative scans.
        patient_of: (n,) patient of each scan, 0 ... k - 1; every patient occurs.
    """
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    gap = score_positive[positive][:, None] - score_negative[negative][None, :]
    size = int(patient_of.max()) + 1
    cell = patient_of[positive][:, None] * size + patient_of[negative][None, :]
    won = (gap > 0) + 0.5 * (gap == 0)
    wins = np.bincount(cell.ravel(), weights=won.ravel(), minlength=size * size).astype(np.float64)
    return wins.reshape(size, size)


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of one fold: patients with positive and with negative scans, their scans, wins between them.

    The wins of several tables stand side by side: (positive, tables x negative).
    """

    positive: IntArray
    negative: IntArray
    wins: FloatArray
    positives: FloatArray
    negatives: FloatArray


def ordered_pairs(tables: Sequence[Predictions], fold: int) -> Pairs:
    """The pairs of one fold, for tables that list the same scans."""
    counted = [concordance(table, fold) for table in tables]
    members = counted[0][0]
    ones, zeros = (tables[0].per_patient(part)[members] for part in (tables[0].y, 1 - tables[0].y))
    a, b = np.flatnonzero(ones), np.flatnonzero(zeros)
    wins = np.concatenate([wins[np.ix_(a, b)] for _, wins, _ in counted], axis=1)
    return Pairs(members[a], members[b], wins, ones[a], zeros[b])


def weighted_auc(chunk: FloatArray, blocks: Sequence[Pairs], tables: int) -> FloatArray:
    """(tables, draws) area within folds: weighted wins over weighted pairs; a fold's pairs are a product of two sums."""
    wins, pairs = np.zeros((tables, chunk.shape[0])), np.zeros(chunk.shape[0])
    for block in blocks:
        positive, negative = chunk[:, block.positive], chunk[:, block.negative]
        against = (positive @ block.wins).reshape(chunk.shape[0], tables, block.negative.size)
        wins += np.einsum("dtn,dn->td", against, negative)
        pairs += (positive @ block.positives) * (negative @ block.negatives)
    return np.asarray(wins / pairs, dtype=np.float64)
