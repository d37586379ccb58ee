"""Is the difference of two inputs smaller than a margin? What a claim of equivalence rests on.

A bootstrap resamples the few patients that two inputs decide differently. If these are few by accident, it is too narrow, and
with none it has no width at all: equivalence is then claimed where little is known. Bonett and Price (Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data, J Educ Behav Stat 2012;37:479-488) add one pair to each
of the two discordant cells; Fagerland et al. recommend it at all sample sizes (Stat Med 2014;33:2850-2875). Here a patient is a
pair, and the two classes are combined. docs/statistics.md says how often each interval errs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from experiments.statistics.predictions import FloatArray
from experiments.statistics.significance import Estimate, Runs, runs

DISCORDANT = 10
"""Patients that two inputs must decide differently. Only these tell how wide the interval is: with k of them its width is
known to a relative 1 / sqrt(2 k), 22 % with ten. Fewer are also what copies, or inputs that hardly decide, leave."""
SEEDS = 3
"""Seeds that a claim of equivalence needs: another training moves a difference by as much as the margin."""


@dataclass(frozen=True)
class Evidence:
    """What a claim of equivalence rests on.

    Attributes:
        interval: The difference with its adjusted interval, as shares.
        discordant: Patients with a scan that the two inputs decide differently in a seed.
        seeds: Seeds of both inputs.
    """

    interval: Estimate
    discordant: int
    seeds: int

    def holds(self, margin: float) -> bool:
        """Whether equivalence may be said."""
        return _inside(self.interval, margin) and self.discordant >= DISCORDANT and self.seeds >= SEEDS

    def objection(self, shown: Estimate, margin: float) -> str:
        """Why equivalence is not said although the interval shown lies inside the margin; otherwise empty."""
        if self.holds(margin) or not _inside(shown, margin):
            return ""
        if self.seeds < SEEDS:
            return f"equivalence needs {SEEDS} seeds, here {'is' if self.seeds == 1 else 'are'} {self.seeds}"
        if self.discordant < DISCORDANT:
            return f"equivalence needs {DISCORDANT} patients who were decided differently, here are {self.discordant}"
        return "the interval that equivalence is judged by, which allows for few patients and another training, is wider"


def _inside(interval: Estimate, margin: float) -> bool:
    return interval.low is not None and interval.high is not None and -margin < interval.low and interval.high < margin


def evidence(first: Runs, second: Runs, overlap: float = 1.0, level: float = 0.95) -> Evidence:
    """The evidence for equivalent balanced accuracies, first minus second.

    Several seeds enter with each scan's mean gain.

    Args:
        first: Predictions of one input, or one table for each seed.
        second: The same for the other input.
        overlap: Factor on the standard error for overlapping training parts; see `experiments.statistics.chance`.
        level: Level of the interval.
    """
    a, b = runs(first), runs(second)
    y = a[0].y
    gain = np.stack([(x.decision == y).astype(np.float64) - (z.decision == y) for x, z in zip(a, b, strict=True)])
    sizes = np.stack([a[0].per_patient(y == label) for label in (0, 1)])
    gains = np.stack([a[0].per_patient(gain.mean(axis=0) * (y == label)) for label in (0, 1)])
    centre, error = adjusted_wald(gains, sizes)
    reach = float(norm.isf((1 - level) / 2) * error * overlap)
    interval = Estimate(float(np.mean(gains.sum(axis=1) / sizes.sum(axis=1))), float(centre) - reach, float(centre) + reach)
    return Evidence(interval, int(np.count_nonzero(a[0].per_patient(np.abs(gain).sum(axis=0)))), len(a))


def adjusted_wald(gains: FloatArray, sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre and standard error of a mean over classes of paired differences, a patient being one pair.

    In each class two patients of average size are added, one whom the first input alone decides rightly and one whom the second
    does. With one class and one scan of each patient this is the interval of Bonett and Price.

    Args:
        gains: (classes, ..., patients) sums over a patient's scans of the difference in hits.
        sizes: (classes, patients) scans of each patient.

    Returns:
        Two arrays of the middle axes.
    """
    centre, influence, added = np.zeros(gains.shape[1:-1]), np.zeros(gains.shape[1:]), np.zeros(gains.shape[1:-1])
    for gain, size in zip(gains, sizes, strict=True):
        average = size.sum() / np.count_nonzero(size)
        total = size.sum() + 2 * average
        mean = gain.sum(axis=-1) / total
        centre += mean / len(sizes)
        influence += (gain - mean[..., None] * size) / total / len(sizes)
        added += 2 * (average / total / len(sizes)) ** 2 * (1 + mean**2)
    return centre, np.sqrt(np.sum(influence**2, axis=-1) + added)
