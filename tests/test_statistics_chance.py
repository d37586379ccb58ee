"""Models that are trained on noise, as every fold of a null study is: how often do intervals and tests see something?

The simulated scores of ``test_experiments_coverage.py`` come from no training. Here a linear discriminant is trained in each
fold on five parts of seven, its threshold comes from the tuning part, and labels have nothing to do with the features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.statistics.chance import DECISION_OVERLAP, OVERLAP, against_chance, widened
from experiments.statistics.paired import compare_family
from experiments.statistics.permutation import permutation_test
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate, Predictions, family_values, percentile_interval
from lightning_modules.decision import midpoint

FOLDS = 7


def test_both_arms_grow_by_the_factor() -> None:
    found = widened(Estimate(0.6, 0.5, 0.65, 0.61, 0.1, 7))
    assert (found.low, found.high) == pytest.approx((0.6 - 0.1 * OVERLAP, 0.6 + 0.05 * OVERLAP))
    assert (found.value, found.fold_mean, found.fold_sd, found.folds) == (0.6, 0.61, 0.1, 7)
    undefined = Estimate(0.6, None, None)
    assert widened(undefined) is undefined


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Estimate(0.60, 0.52, 0.68), "not distinguishable from chance"),
        (Estimate(0.60, 0.53, 0.67), "above chance"),
        (Estimate(0.40, 0.32, 0.48), "not distinguishable from chance"),
        (Estimate(0.40, 0.33, 0.47), "below chance"),
        (Estimate(0.50, 0.50, 0.50), "not distinguishable from chance"),
        (Estimate(None, None, None), "not distinguishable from chance"),
    ],
)
def test_chance_is_judged_by_the_widened_interval(one: Estimate, words: str) -> None:
    assert against_chance(one) == words
    assert against_chance(one, silent=True) == "no ranking to judge"


@pytest.mark.parametrize("folds", [3, 5, 7, 10])
def test_the_factor_doubles_the_variance_for_any_number_of_folds(folds: int) -> None:
    """Nadeau and Bengio 2003: correlation of two folds n_test / (n_test + n_train), here 1 / (1 + K - 2)."""
    correlation = 1 / (1 + (folds - 2))
    assert 1 + (folds - 1) * correlation == pytest.approx(OVERLAP**2)


def test_both_families_allow_for_the_overlap_where_there_are_folds() -> None:
    rng = np.random.default_rng(4)
    label, fold = design(84)
    inputs = {name: trained(rng.normal(size=(84, 2)), label, fold) for name in ("global", "ventricles")}
    weights = draw_patient_weights(inputs["global"], 100, rng)
    one_fold = {name: replace(pred, fold=0 * pred.fold) for name, pred in inputs.items()}
    for metric, factor in (("auc", OVERLAP), ("balanced_accuracy", DECISION_OVERLAP)):
        for tables, wanted in ((inputs, factor), (one_fold, 1.0)):
            found = compare_family(tables, weights, np.random.default_rng(0), metric=metric, permutations=200)[0]
            assert found.p == permutation_test(*reversed(tables.values()), metric, 200, np.random.default_rng(0), wanted)
    plain, stretched = (permutation_test(*inputs.values(), "auc", 999, np.random.default_rng(0), f) for f in (1.0, OVERLAP))
    assert plain is not None
    assert stretched is not None
    assert stretched > plain


def design(patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, 40 % positive, and folds; each fold has the same share."""
    return (np.arange(patients) % 5 < 2).astype(int), (np.arange(patients) // 5) % FOLDS


def trained(features: np.ndarray, label: np.ndarray, fold: np.ndarray) -> Predictions:
    """Internal test predictions of a ridge discriminant, trained, tuned and tested as a study does it."""
    p, decision = np.empty(label.size), np.empty(label.size, dtype=int)
    for k in range(FOLDS):
        test, tuning = fold == k, fold == (k + 1) % FOLDS
        train = ~test & ~tuning
        score = features @ direction(features[train], label[train])
        own = 1 / (1 + np.exp(-(score - score[train].mean()) / score[train].std()))
        p[test] = own[test]
        decision[test] = own[test] >= midpoint(label[tuning], own[tuning])
    return Predictions(np.arange(label.size), fold, label, p, decision)


def direction(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    means = np.stack([features[label == value].mean(axis=0) for value in (0, 1)])
    spread = np.cov((features - means[label]).T).reshape(features.shape[1], -1)
    return np.linalg.solve(spread + 0.5 * np.eye(features.shape[1]), means[1] - means[0])


@pytest.mark.long
@pytest.mark.parametrize(("patients", "features"), [(84, 1), (84, 4), (320, 4)])
def test_models_trained_on_noise_are_told_from_chance_and_from_each_other_at_the_nominal_rate(
    patients: int, features: int
) -> None:
    """Five inputs with features of their own and a global one that sees all, 200 studies.

    Standard errors: 1.5 points for a family's 5 %, about 0.8 for the share of 1200 intervals.
    """
    rng = np.random.default_rng(patients + features)
    label, fold = design(patients)
    first = trained(rng.normal(size=(patients, 1)), label, fold)
    weights = draw_patient_weights(first, 400, rng)
    excluded: dict[str, list[bool]] = {"auc": [], "balanced_accuracy": []}
    told: dict[str, list[bool]] = {"auc": [], "balanced_accuracy": []}
    families: dict[str, list[bool]] = {"auc": [], "balanced_accuracy": []}
    for _ in range(200):
        parts = [rng.normal(size=(patients, features)) for _ in range(5)]
        inputs = {"global": trained(np.hstack(parts), label, fold)}
        inputs |= {f"region {number}": trained(part, label, fold) for number, part in enumerate(parts)}
        values = family_values(inputs, weights)
        for metric in told:
            for name in inputs:
                point, draws = values[name][metric]
                one = Estimate(point, *percentile_interval(draws))
                assert one.low is not None
                assert one.high is not None
                excluded[metric].append(not one.low <= 0.5 <= one.high)
                told[metric].append(against_chance(one) != "not distinguishable from chance")
            family = compare_family(inputs, weights, rng, metric=metric, permutations=399, values=values)
            families[metric].append(any(pair.verdict == "different" for pair in family))
    for metric in told:
        assert np.mean(excluded[metric]) > 0.06, (metric, np.mean(excluded[metric]))
        assert np.mean(told[metric]) <= 0.06, (metric, np.mean(told[metric]))
        assert np.mean(families[metric]) <= 0.08, (metric, np.mean(families[metric]))
