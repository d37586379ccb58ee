"""Several splits of the same patients: how often does the paired test err, and how often does the interval hold the truth?

    python tests/simulated_partitions.py 500        # the rows of the table in docs/statistics.md, with so many studies each

Two equally good inputs, models trained in every fold of every partition of every study (see ``simulated_levels``); the truth of
their difference is 0, that of a score its mean over all studies. ``compare --partitions`` takes the corrected resampled t test
on all folds of all partitions, with n_test / n_train = 1/5 (Nadeau and Bengio 2003; Bouckaert and Frank, PAKDD 2004), for the
AUC with the degrees of freedom of one partition. Beside it
stands the test that a single partition has: the permutation of the patients' contributions, here of their means, stretched.
"""

from __future__ import annotations

import sys
from dataclasses import astuple, dataclass, replace
from itertools import product

import numpy as np
from scipy.stats import t as student
from simulated_levels import BATCH, FOLDS, Design, contributions, design, features, shift_for, trained

from experiments.analysis.partitions import OF_ONE_PARTITION
from experiments.statistics.chance import DECISION_OVERLAP
from experiments.statistics.permutation import permutation_p

TEST_TO_TRAIN = 1 / (FOLDS - 2)
PARTITIONS = (1, 3, 5)
CASES = (
    *product((84, 320), (0.3,), (2, 8), (0.0, 0.7), (0.5, 0.65, 0.75)),
    *product((84,), (0.5,), (2, 32), (0.7,), (0.5, 0.75)),
)


@dataclass(frozen=True)
class Rates:
    """Shares of studies, of one number of partitions; ``ratio`` is a ratio and ``spread`` a difference of balanced accuracies.

    Attributes:
        ratio: Variance of the mean difference over that of the permutations.
        permuted: The stretched permutation test of mean contributions rejects at 5 %.
        resampled: The corrected resampled t test rejects; of balanced accuracy, as all above.
        resampled_auc: The same of the AUC.
        covered: The corrected interval of one input's balanced accuracy holds the truth.
        covered_auc: The same of the AUC.
        spread: Mean over studies of the standard deviation of the difference over partitions.
    """

    ratio: float
    permuted: float
    resampled: float
    resampled_auc: float
    covered: float
    covered_auc: float
    spread: float


@dataclass(frozen=True)
class Simulated:
    """Studies of one setting.

    Attributes:
        plans: The partitions, which all studies share.
        gains: (partitions, studies, scans) differences in hits.
        scores: Metric -> (2 inputs, partitions, studies, folds).
    """

    plans: list[Design]
    gains: np.ndarray
    scores: dict[str, np.ndarray]


def dealt(plan: Design, rng: np.random.Generator) -> Design:
    """The same scans in a new split: patients of each label dealt out to the folds again."""
    first = np.flatnonzero(np.diff(plan.patient, prepend=-1))
    fold, label = plan.fold[first].copy(), plan.label[first]
    for value in (0, 1):
        fold[label == value] = rng.permutation(fold[label == value])
    return replace(plan, fold=fold[plan.patient])


def fold_scores(plan: Design, p: np.ndarray, decision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(studies, folds) balanced accuracy and AUC of each fold, from (studies, scans)."""
    hit, accuracy, area = decision == plan.label, [], []
    for fold in range(FOLDS):
        rows = [(plan.fold == fold) & (plan.label == label) for label in (0, 1)]
        accuracy.append(np.mean([hit[:, of].mean(axis=1) for of in rows], axis=0))
        area.append(np.mean(p[:, rows[1]][:, :, None] > p[:, rows[0]][:, None, :], axis=(1, 2)))
    return np.array(accuracy).T, np.array(area).T


def simulate(plan: Design, shift: float, size: int, correlation: float, studies: int, rng: np.random.Generator) -> Simulated:
    """Train two equally good inputs in every fold of every partition."""
    plans = [plan, *(dealt(plan, rng) for _ in range(max(PARTITIONS) - 1))]
    gains, accuracies, areas = [], [], []
    for start in range(0, studies, BATCH):
        values = features(plan, (shift, shift), size, correlation, min(BATCH, studies - start), rng)
        made = [[trained(part, of) for part in plans] for of in values]
        hits = [[decision == plan.label for _, decision in of] for of in made]
        gains.append(np.stack([a.astype(int) - b for a, b in zip(*hits, strict=True)]))
        scored = [[fold_scores(part, *run) for part, run in zip(plans, of, strict=True)] for of in made]
        accuracies.append([[score[0] for score in of] for of in scored])
        areas.append([[score[1] for score in of] for of in scored])
    scores = {"balanced_accuracy": np.concatenate(accuracies, axis=2), "auc": np.concatenate(areas, axis=2)}
    return Simulated(plans, np.concatenate(gains, axis=1), scores)


def resampled(values: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(studies,) mean and half width of the corrected 95 % interval of (studies, partitions * folds) values."""
    count, spread = values.shape[1], values.var(axis=1, ddof=1)
    df = FOLDS - 1 if metric in OF_ONE_PARTITION else count - 1
    return values.mean(axis=1), student.ppf(0.975, df) * np.sqrt((1 / count + TEST_TO_TRAIN) * spread)


def rates_of(made: Simulated, partitions: int, rng: np.random.Generator) -> Rates:
    """What tests and intervals do with the first so many partitions."""
    each = np.stack([contributions(plan, gain) for plan, gain in zip(made.plans, made.gains, strict=True)])[:partitions]
    shares = each.mean(axis=0)
    rejected, covered = {}, {}
    for metric, scores in made.scores.items():
        both = np.concatenate(list(np.moveaxis(scores[:, :partitions], 1, 0)), axis=-1)
        gap, reach = resampled(both[0] - both[1], metric)
        rejected[metric] = float(np.mean(np.abs(gap) > reach))
        value, reach = resampled(both[0], metric)
        covered[metric] = float(np.mean(np.abs(value - scores[:, :partitions].mean()) <= reach))
    return Rates(
        ratio=float(shares.sum(axis=1).var() / np.mean(np.sum(shares**2, axis=1))),
        permuted=float(np.mean([permutation_p(row, 499, rng, DECISION_OVERLAP) <= 0.05 for row in shares])),
        resampled=rejected["balanced_accuracy"],
        resampled_auc=rejected["auc"],
        covered=covered["balanced_accuracy"],
        covered_auc=covered["auc"],
        spread=float(each.sum(axis=2).std(axis=0, ddof=1).mean()) if partitions > 1 else float("nan"),
    )


def table(studies: int) -> None:
    """Print one row for each setting and number of partitions; shares in percent, the spread in points."""
    print(
        "patients  prevalence  features  correlation  AUC  partitions  ratio  permuted  t  t_auc  covered  covered_auc  spread"
    )
    for patients, prevalence, size, correlation, auc in CASES:
        plan, rng = design(patients, prevalence), np.random.default_rng(patients + size)
        made = simulate(plan, shift_for(plan, auc, size), size, correlation, studies, rng)
        for partitions in PARTITIONS:
            ratio, *shares = astuple(rates_of(made, partitions, rng))
            setting = f"{patients}  {prevalence}  {size}  {correlation}  {auc}  {partitions}"
            print(f"{setting}  {ratio:.2f}", *(f"{100 * share:.1f}" for share in shares), sep="  ", flush=True)


if __name__ == "__main__":
    table(int(sys.argv[1]))
