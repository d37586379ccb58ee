"""Simulated studies whose truth is known: how often do the primary test and its words err?

    python tests/simulated_levels.py equal             # two equally good inputs, models trained in every study: rejections
    python tests/simulated_levels.py margin            # a true difference of exactly 5 points: how often "equivalent" is said
    python tests/simulated_levels.py trained_margin    # the same with trained models
    python tests/simulated_levels.py equal balanced_accuracy    # any of them with the other rule of the threshold

docs/statistics.md has the tables in short. All studies of a row share patients, labels and folds. There are 2,000 in each, so a
rate of 5 % has a standard error of 0.5 points. A table takes minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from experiments.statistics.chance import DECISION_OVERLAP
from experiments.statistics.equivalence import DISCORDANT, adjusted_wald
from experiments.statistics.paired import MARGIN
from experiments.statistics.permutation import permutation_p

FOLDS = 7
REPEATS = 2000
BATCH = 100
AUCS = (0.5, 0.65, 0.75, 0.85)
DIFFERENCES = ((0.05, 0.05), (0.0, 0.1), (0.1, 0.0), (-0.1, 0.2), (0.2, -0.1))
"""True differences of specificity and sensitivity whose mean is the margin."""


@dataclass(frozen=True)
class Design:
    """Scans of a study: (scans,) patient, label and fold; every fifth patient has two scans."""

    patient: np.ndarray
    label: np.ndarray
    fold: np.ndarray


def design(patients: int, prevalence: float) -> Design:
    """Patients in seven folds, each label in its share, dealt out in turn as a stratified split does."""
    positive = np.arange(patients) < round(prevalence * patients)
    patient = np.repeat(np.arange(patients), 1 + (np.arange(patients) % 5 == 0))
    return Design(patient, positive[patient].astype(int), patient % FOLDS)


def per_patient(plan: Design, values: np.ndarray) -> np.ndarray:
    """Sums over each patient's scans along the last axis."""
    return np.add.reduceat(values, np.flatnonzero(np.diff(plan.patient, prepend=-1)), axis=-1)


def contributions(plan: Design, gain: np.ndarray) -> np.ndarray:
    """(studies, patients) shares in the difference of balanced accuracy; gain (studies, scans) is a difference of hits."""
    positives = plan.label.sum()
    return per_patient(plan, gain * np.where(plan.label == 1, 0.5 / positives, 0.5 / (plan.label.size - positives)))


def features(
    plan: Design, shifts: tuple[float, float], size: int, correlation: float, studies: int, rng: np.random.Generator
) -> np.ndarray:
    """(2, studies, scans, size): two inputs that share part of each patient; scans of a patient agree to 0.8."""
    patients = plan.patient[-1] + 1
    shared, own = rng.normal(size=(studies, patients, size)), rng.normal(size=(2, studies, patients, size))
    of_patient = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    noise = rng.normal(size=(2, studies, plan.patient.size, size))
    signal = np.array(shifts)[:, None, None, None] / size**0.5 * plan.label[:, None]
    return np.sqrt(0.8) * of_patient[:, :, plan.patient] + np.sqrt(0.2) * noise + signal


def trained(plan: Design, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and decisions (studies, scans) of ridge discriminants: five parts train, one tunes, one tests."""
    p, decision = np.empty(values.shape[:2]), np.empty(values.shape[:2], dtype=int)
    for k in range(FOLDS):
        test, tuning = plan.fold == k, plan.fold == (k + 1) % FOLDS
        train = ~test & ~tuning
        x, y = values[:, train], plan.label[train]
        means = np.stack([x[:, y == value].mean(axis=1) for value in (0, 1)])
        centred = x - np.moveaxis(means, 0, 1)[:, y]
        spread = np.einsum("rnf,rng->rfg", centred, centred) / y.size + 0.5 * np.eye(x.shape[2])
        direction = np.linalg.solve(spread, (means[1] - means[0])[:, :, None])
        score = (values @ direction)[:, :, 0]
        score = (score - score[:, train].mean(axis=1, keepdims=True)) / score[:, train].std(axis=1, keepdims=True)
        own = expit(score)
        p[:, test] = own[:, test]
        decision[:, test] = own[:, test] >= rule(plan.label[tuning], own[:, tuning])[:, None]
    return p, decision


def thresholds(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """``best_threshold`` of many studies at once: (studies,) for p (studies, scans) without ties."""
    order = np.argsort(p, axis=1)
    ends = np.ones((p.shape[0], 1))
    values = np.hstack([0 * ends, np.take_along_axis(p, order, axis=1), ends])
    candidates = (values[:, :-1] + values[:, 1:]) / 2
    below = np.cumsum(np.hstack([0 * ends, y[order]]), axis=1)
    negatives_below = np.arange(y.size + 1) - below
    accuracy = (y.sum() - below) * (y.size - y.sum()) + negatives_below * y.sum()
    best = accuracy == accuracy.max(axis=1, keepdims=True)
    nearest = np.argmin(np.where(best, np.abs(candidates - 0.5), np.inf), axis=1)
    return candidates[np.arange(p.shape[0]), nearest]


def midpoints(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """``midpoint`` of many studies at once: (studies,) for p (studies, scans) that are neither 0 nor 1."""
    odds = logit(p)
    return expit((odds[:, y == 1].mean(axis=1) + odds[:, y == 0].mean(axis=1)) / 2)


RULES = {"midpoint": midpoints, "balanced_accuracy": thresholds}
rule = midpoints


def area(plan: Design, p: np.ndarray) -> float:
    """Mean fold AUC over studies."""
    wins = []
    for k in range(FOLDS):
        positive, negative = (p[:, (plan.fold == k) & (plan.label == value)] for value in (1, 0))
        wins.append(np.mean(positive[:, :, None] > negative[:, None, :]))
    return float(np.mean(wins))


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function crosses 0, to a two-hundredth of the range."""
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2


def shift_for(plan: Design, auc: float, size: int) -> float:
    """The shift between classes at which models of this size attain the wanted mean AUC."""
    if auc == 0.5:
        return 0.0

    def excess(shift: float) -> float:
        values = features(plan, (shift, shift), size, 0.5, BATCH, np.random.default_rng(0))
        return area(plan, trained(plan, values[0])[0]) - auc

    return root(excess, 0.0, 4.0)


def retrained_gains(
    plan: Design, shifts: tuple[float, float], size: int, correlation: float, studies: int, rng: np.random.Generator
) -> np.ndarray:
    """(studies, scans) differences in hits of two inputs whose models were trained in every study."""
    out = []
    for _ in range(studies // BATCH):
        values = features(plan, shifts, size, correlation, BATCH, rng)
        hits = [(trained(plan, part)[1] == plan.label).astype(int) for part in values]
        out.append(hits[0] - hits[1])
    return np.concatenate(out)


def rejections(shares: np.ndarray, overlap: float, rng: np.random.Generator) -> float:
    """Share of studies in which the permutation test of 499 swaps rejects at 5 %."""
    return float(np.mean([permutation_p(row, 499, rng, overlap) <= 0.05 for row in shares]))


def drawn_gains(
    plan: Design, differences: tuple[float, float], discordance: float, spread: float, studies: int, rng: np.random.Generator
) -> np.ndarray:
    """(studies, scans) differences in hits with known truth; no training.

    Args:
        plan: The scans.
        differences: True differences of specificity and of sensitivity.
        discordance: Share of patients decided differently; more where the differences need it.
        spread: By how much the folds' differences lie apart, against each other in the two classes as thresholds do it.
        studies: Number of studies.
        rng: Source of randomness.
    """
    truth = np.array(differences)[plan.label] + np.linspace(-spread, spread, FOLDS)[plan.fold] * (2 * plan.label - 1)
    for label in (0, 1):
        truth[plan.label == label] += differences[label] - truth[plan.label == label].mean()
    level = np.maximum(discordance, np.abs(truth))
    own, shared = rng.random((studies, plan.label.size)), rng.random((studies, plan.patient[-1] + 1))
    draw = np.where(rng.random((studies, plan.label.size)) < 0.8, shared[:, plan.patient], own)
    return np.where(draw < (level + truth) / 2, 1, np.where(draw < level, -1, 0))


def gains_at_margin(
    plan: Design, auc: float, size: int, correlation: float, studies: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Gains of two inputs about the margin apart, trained, and the true difference: its mean over all studies."""
    high = shift_for(plan, auc, size)

    def lack(low: float) -> float:
        gain = retrained_gains(plan, (high, low), size, correlation, 4 * BATCH, np.random.default_rng(0))
        return MARGIN - float(contributions(plan, gain).sum(axis=1).mean())

    gain = retrained_gains(plan, (high, root(lack, 0.0, high)), size, correlation, studies, rng)
    return gain, float(contributions(plan, gain).sum(axis=1).mean())


def claims(plan: Design, gain: np.ndarray, margin: float) -> tuple[float, float, float]:
    """Shares of studies called equivalent: by the rule, by its interval alone and without the allowance, by a plain interval.

    The plain interval has the variance of the patient bootstrap, without draws.
    """
    of_class = [plan.label == label for label in (0, 1)]
    gains = np.stack([per_patient(plan, gain * rows) for rows in of_class])
    sizes = np.stack([per_patient(plan, 1.0 * rows) for rows in of_class])
    centre, error = adjusted_wald(gains, sizes)
    enough = np.count_nonzero(per_patient(plan, np.abs(gain)), axis=-1) >= DISCORDANT
    z = norm.isf(0.025)
    rule = (np.abs(centre) + z * DECISION_OVERLAP * error < margin) & enough
    rates = gains.sum(axis=-1) / sizes.sum(axis=-1)[:, None]
    influence = np.mean((gains - rates[..., None] * sizes[:, None]) / sizes.sum(axis=-1)[:, None, None], axis=0)
    plain = np.abs(rates.mean(axis=0)) + z * np.sqrt(np.sum(influence**2, axis=-1)) < margin
    return float(rule.mean()), float(np.mean(np.abs(centre) + z * error < margin)), float(plain.mean())


def equal_table(studies: int = REPEATS) -> None:
    """Two inputs of equal truth, models trained in every study: how often the test rejects, in percent, before and after."""
    print("patients  prevalence  features  correlation  AUC  variance ratio  plain  stretched")
    for patients, prevalence, size, correlation, auc in product((84, 320), (0.3, 0.5), (2, 8, 32), (0.0, 0.7), AUCS):
        plan, rng = design(patients, prevalence), np.random.default_rng(patients + size)
        shift = shift_for(plan, auc, size)
        shares = contributions(plan, retrained_gains(plan, (shift, shift), size, correlation, studies, rng))
        ratio = shares.sum(axis=1).var() / np.mean(np.sum(shares**2, axis=1))
        levels = "  ".join(f"{100 * rejections(shares, factor, rng):.1f}" for factor in (1.0, DECISION_OVERLAP))
        print(f"{patients}  {prevalence}  {size}  {correlation}  {auc}  {ratio:.2f}  {levels}", flush=True)


def margin_table(studies: int = REPEATS) -> None:
    """A true difference of exactly 5 points, drawn: how often it is called equivalent, in percent."""
    print("patients  prevalence  differences  discordance  spread  sign  rule  interval  plain")
    cases = product((84, 320), (0.3, 0.5), DIFFERENCES, (0.0, 0.05, 0.1, 0.15, 0.2, 0.3), (0.0, 0.05), (1, -1))
    for patients, prevalence, pair, discordance, spread, sign in cases:
        plan, rng = design(patients, prevalence), np.random.default_rng(patients)
        gain = drawn_gains(plan, (sign * pair[0], sign * pair[1]), discordance, spread, studies, rng)
        rates = "  ".join(f"{100 * rate:.1f}" for rate in claims(plan, gain, MARGIN))
        print(f"{patients}  {prevalence}  {pair}  {discordance}  {spread}  {sign}  {rates}", flush=True)


def trained_margin_table(studies: int = REPEATS) -> None:
    """The second input is worse, models trained in every study; the margin is the true difference, about 5 points."""
    print("patients  prevalence  features  correlation  AUC  difference  rule  interval  plain")
    for patients, prevalence, size, correlation, auc in product((84, 320), (0.3, 0.5), (8, 32), (0.7, 0.95), AUCS[1:]):
        plan, rng = design(patients, prevalence), np.random.default_rng(patients + size)
        gain, truth = gains_at_margin(plan, auc, size, correlation, studies, rng)
        rates = "  ".join(f"{100 * rate:.1f}" for rate in claims(plan, gain, truth))
        print(f"{patients}  {prevalence}  {size}  {correlation}  {auc}  {truth:.3f}  {rates}", flush=True)


TABLES = {"equal": equal_table, "margin": margin_table, "trained_margin": trained_margin_table}

if __name__ == "__main__":
    rule = RULES[(sys.argv[2:] or ["midpoint"])[0]]
    TABLES[sys.argv[1]]()
