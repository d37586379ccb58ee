"""Is a cross-validated score above chance? The training parts of the folds overlap, so their scores are correlated."""

from __future__ import annotations

from dataclasses import replace

from experiments.statistics.significance import Estimate

OVERLAP = 2**0.5
"""By how much the standard error of a cross-validated score grows where there is little or nothing to learn.

Each fold is tested by a model that was trained on most patients of the other folds. In noise the models find the same
accidental direction; whether the folds agree on it is one event, not seven. The bootstrap holds the models fixed and does not
see this. Nadeau and Bengio (Inference for the generalization error, Mach Learn 2003;52:239-281) put the correlation of two
folds at n_test / (n_test + n_train). With K - 2 of K parts in training that is 1 / (K - 1), and the variance of the mean of K
folds doubles, whatever K is. Linear models trained on noise had 1.3 to 1.8 times the bootstrap's variance. The excess fades as
the signal grows, so reported intervals are not widened; only what is said about chance is. That binomial limits are too narrow
for cross-validated accuracies is known: Noirhomme et al., NeuroImage Clin 2014;4:687-694; Varoquaux, NeuroImage 2018;180:68-77.
"""
DECISION_OVERLAP = 1.5**0.5
"""The same for the difference of two balanced accuracies: by how much its permuted differences are stretched.

In noise the permutations' variance is large enough. With a signal it is not: models trained on overlapping parts are right and
wrong together. Linear models that were trained in every simulated study had up to 1.54 times the permutations' variance, and
unstretched the test rejected in up to 12 % where 5 % were meant (docs/statistics.md, `tests/simulated_levels.py`).
"""
CHANCE = 0.5
WORDS = ("above chance", "below chance", "not distinguishable from chance", "no ranking to judge", "too few patients to judge")


def widened(estimate: Estimate, factor: float = OVERLAP) -> Estimate:
    """The interval with both arms lengthened by a factor; it may reach beyond 0 and 1. Unchanged if it is undefined."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    low = estimate.value - factor * (estimate.value - estimate.low)
    high = estimate.value + factor * (estimate.high - estimate.value)
    return replace(estimate, low=low, high=high)


def against_chance(estimate: Estimate, silent: bool = False, few: bool = False, chance: float = CHANCE) -> str:
    """One of `WORDS`, by the interval widened for overlapping training parts; the third if it is undefined.

    Args:
        estimate: The score.
        silent: Whether it comes from one probability for all scans of most folds (`experiments.statistics.constant`).
        few: Whether a class has too few patients for a word.
        chance: The score without any information.
    """
    if silent or few:
        return WORDS[3] if silent else WORDS[4]
    wide = widened(estimate)
    if wide.low is not None and wide.low > chance:
        return WORDS[0]
    if wide.high is not None and wide.high < chance:
        return WORDS[1]
    return WORDS[2]
