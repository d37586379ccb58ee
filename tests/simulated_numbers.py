"""Simulated studies whose truth is known, where a number is predicted: how often do the paired tests err?

    python tests/simulated_numbers.py          # two equally good inputs, models trained in every study: rejections in percent

Each study has one scan a patient, seven folds of which five train, and two inputs of independent features that carry the value
equally well; a ridge regression is fitted in each fold. docs/statistics.md has the table in short.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np

from experiments.statistics.chance import DECISION_OVERLAP, OVERLAP
from experiments.statistics.numeric import Numbers
from experiments.statistics.numeric_pairs import PRIMARY, SECONDARY, numeric_shares

FOLDS = 7
FACTORS = (1.0, DECISION_OVERLAP, OVERLAP)


def trained_pair(patients: int, features: int, signal: float, correlation: float, rng: np.random.Generator) -> list[Numbers]:
    """Two equally good inputs of one study; ``signal`` is the share of the value's variance that each can explain."""
    weights = rng.normal(size=features)
    weights *= np.sqrt(signal) / np.linalg.norm(weights)
    shared = rng.normal(size=(patients, features))
    own = [np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.normal(size=shared.shape) for _ in range(2)]
    explained = sum(x @ weights for x in own) / (1 + correlation)
    y = explained + np.sqrt(max(1 - 2 * signal / (1 + correlation), 0.05)) * rng.normal(size=patients)
    fold = rng.permutation(patients) % FOLDS
    tables = []
    for x in own:
        p, mean = np.empty(patients), np.empty(patients)
        for k in range(FOLDS):
            test, train = fold == k, (fold != k) & (fold != (k + 1) % FOLDS)
            mean[test] = y[train].mean()
            seen = x[train]
            fit = np.linalg.solve(seen.T @ seen + features * np.eye(features), seen.T @ (y[train] - y[train].mean()))
            p[test] = y[train].mean() + x[test] @ fit
        tables.append(Numbers(np.arange(patients), fold, y, p, mean))
    return tables


def rejected(shares: np.ndarray, factor: float, fold: np.ndarray | None, rng: np.random.Generator, swaps: int = 1000) -> bool:
    """Whether the permutation test with a stretch rejects at 5 %."""
    size = np.ones(shares.size) if fold is None else np.sqrt((n := np.bincount(fold)[fold]) / (n - 1))
    null = np.abs(rng.choice((-1.0, 1.0), size=(swaps, shares.size)) @ (shares * size * factor))
    return bool((1 + np.sum(null >= abs(shares.sum()) - 1e-9)) / (1 + swaps) < 0.05)


def level(
    patients: int, features: int, signal: float, correlation: float, metric: str, studies: int, seed: int = 0
) -> list[float]:
    """Share of studies in which two equally good inputs are told apart, for each of ``FACTORS``."""
    rng = np.random.default_rng([seed, patients, features])
    hits = np.zeros(len(FACTORS))
    for _ in range(studies):
        first, second = trained_pair(patients, features, signal, correlation, rng)
        shares = numeric_shares([first], [second], metric)
        fold = first.patient_fold if metric == SECONDARY else None
        hits += [rejected(shares, factor, fold, rng) for factor in FACTORS]
    return [float(share) for share in hits / studies]


def main(studies: int) -> None:
    print("metric  patients  features  correlation  signal  " + "  ".join(f"x{factor:.2f}" for factor in FACTORS))
    for metric, patients, features, correlation, signal in product(
        (PRIMARY, SECONDARY), (84, 320), (8, 32), (0.0, 0.7), (0.0, 0.2, 0.45)
    ):
        rates = level(patients, features, signal, correlation, metric, studies)
        print(metric, patients, features, correlation, signal, *(f"{100 * rate:.1f}" for rate in rates), sep="  ", flush=True)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["1000"])[0]))
