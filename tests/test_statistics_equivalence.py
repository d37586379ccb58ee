"""What a claim of equivalence rests on: the interval of Bonett and Price, enough patients, enough seeds, decisions at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from experiments.statistics.constant import constant_folds, is_silent
from experiments.statistics.equivalence import Evidence, adjusted_wald, evidence
from experiments.statistics.paired import Comparison, compare_family
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.scores import balanced_accuracy
from experiments.statistics.significance import Estimate, Predictions, Runs

CAVO = (59, 6, 16, 80)
"""Both, first only, second only, neither: complete response before and after consolidation therapy (Cavo et al. 2012)."""


def test_pairs_of_one_class_have_the_interval_of_bonett_and_price() -> None:
    """R 4, contingencytables 3.0.0, Wald_CI_BonettPrice_paired_2x2(cavo_2012): -0.0621 (95 % CI -0.1195 to -0.0032)."""
    both, first, second, neither = CAVO
    gains = np.repeat([0.0, 1.0, -1.0], [both + neither, first, second])
    centre, error = adjusted_wald(gains[None], np.ones((1, gains.size)))
    reach = norm.isf(0.025) * error
    assert (centre - reach, centre + reach) == pytest.approx((-0.1195, -0.0032), abs=5e-5)


def test_two_classes_are_the_mean_of_two_independent_intervals() -> None:
    rng = np.random.default_rng(0)
    gains = [rng.integers(-1, 2, size=size).astype(float) for size in (40, 25)]
    alone = [adjusted_wald(gain[None], np.ones((1, gain.size))) for gain in gains]
    joint = np.stack([np.concatenate([gains[0], np.zeros(25)]), np.concatenate([np.zeros(40), gains[1]])])
    sizes = np.stack([np.arange(65) < 40, np.arange(65) >= 40]).astype(float)
    centre, error = adjusted_wald(joint, sizes)
    assert centre == pytest.approx(np.mean([c for c, _ in alone]))
    assert error == pytest.approx(np.hypot(*(e for _, e in alone)) / 2)


def test_scans_of_a_patient_are_one_observation() -> None:
    """Every scan doubled within its patient changes nothing."""
    first, second = pair(np.random.default_rng(1), 84, 0.1)
    twice = [
        Predictions(*(np.repeat(getattr(p, c), 2) for c in ("patient", "fold", "y", "p", "decision"))) for p in (first, second)
    ]
    once, doubled = evidence(first, second), evidence(*twice)
    assert (doubled.interval.low, doubled.interval.high) == pytest.approx((once.interval.low, once.interval.high))
    assert doubled.discordant == once.discordant


def test_the_value_is_the_plain_difference_and_the_width_grows_with_the_overlap() -> None:
    first, second = pair(np.random.default_rng(2), 84, 0.1)
    plain, wide = evidence(first, second), evidence(first, second, overlap=1.5)
    a, b = balanced_accuracy(first), balanced_accuracy(second)
    assert a is not None
    assert b is not None
    assert plain.interval.value == pytest.approx(a - b)
    assert width(wide) == pytest.approx(1.5 * width(plain))


def test_seeds_enter_as_their_mean_and_a_patient_counts_where_any_seed_differs() -> None:
    first, second = pair(np.random.default_rng(3), 84, 0.1)
    both = evidence([first, second, second], [second, first, second])
    assert both.interval.value == pytest.approx(0, abs=1e-12)
    assert (both.seeds, both.discordant) == (3, int(np.sum(first.decision != second.decision)))
    assert width(both) < width(evidence(first, second))


@pytest.mark.parametrize("patients", [84, 320])
def test_no_patient_who_differs_is_no_interval_of_no_width(patients: int) -> None:
    first, _ = pair(np.random.default_rng(4), patients, 0.0)
    found = evidence(first, first)
    assert (found.interval.value, found.discordant) == (0.0, 0)
    assert width(found) > 0.02


@pytest.mark.parametrize(
    ("seeds", "differing", "words", "objection"),
    [
        (3, 12, "equivalent within 5 points", ""),
        (2, 12, "not distinguishable", "equivalence needs 3 seeds, here are 2"),
        (1, 12, "not distinguishable", "equivalence needs 3 seeds, here is 1"),
        (3, 8, "not distinguishable", "equivalence needs 10 patients who were decided differently, here are 8"),
        (3, 0, "not distinguishable", "equivalence needs 10 patients who were decided differently, here are 0"),
    ],
)
def test_equivalence_needs_seeds_and_patients_who_differ(seeds: int, differing: int, words: str, objection: str) -> None:
    """600 patients of whom as many are decided rightly by the one input alone as by the other."""
    first, _ = pair(np.random.default_rng(5), 600, 0.0)
    second = flipped(first, differing)
    found = compared({"global": [first] * seeds, "brainstem": [second] * seeds})
    assert (found.verdict, found.objection) == (words, objection)
    assert found.adjusted is not None
    assert found.adjusted.value == pytest.approx(found.difference.value, abs=1e-12)


def test_an_interval_that_is_narrow_by_accident_is_not_enough() -> None:
    """84 patients, 10 of whom differ: the bootstrap's interval can lie inside the margin, the adjusted one cannot."""
    shown, adjusted = Estimate(0.0, -0.04, 0.04), Estimate(0.0, -0.07, 0.07)
    basis = Evidence(adjusted, 10, 3)
    assert not basis.holds(0.05)
    assert basis.objection(shown, 0.05).startswith("the interval that equivalence is judged by")
    assert basis.objection(Estimate(0.0, -0.06, 0.04), 0.05) == ""
    assert basis.objection(Estimate(None, None, None), 0.05) == ""


def test_no_auc_is_called_equivalent() -> None:
    first, _ = pair(np.random.default_rng(6), 600, 0.0)
    found = compared({"global": [first] * 3, "brainstem": [flipped(first, 20)] * 3}, metric="auc")
    assert (found.difference.value, found.difference.low) == (0.0, None)
    assert (found.verdict, found.objection, found.adjusted) == ("not distinguishable", "", None)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
@pytest.mark.parametrize("kind", ["all negative", "all positive", "by fold", "one seed of three"])
@pytest.mark.parametrize("silent", ["global", "brainstem"])
def test_without_decisions_nothing_is_compared(metric: str, kind: str, silent: str) -> None:
    rng = np.random.default_rng(7)
    first, second = pair(rng, 320, 0.1)
    level = {"all negative": 0.2, "all positive": 0.8}.get(kind, 0.2 + 0.6 * (first.fold % 2))
    constant = replace(first, p=level * np.ones(first.y.size), decision=(level * np.ones(first.y.size) >= 0.5).astype(int))
    seeds = [first, constant, first] if kind == "one seed of three" else [constant] * 3
    inputs = {name: seeds if name == silent else [second] * 3 for name in ("global", "brainstem")}
    words = "no ranking to compare" if metric == "auc" else "no decision to compare"
    found = compared(inputs, metric=metric)
    assert (found.verdict, found.objection) == (words, "")


def test_a_ranking_behind_constant_decisions_can_be_compared() -> None:
    first, second = pair(np.random.default_rng(8), 320, 0.1)
    all_positive = replace(first, decision=np.ones(first.y.size, dtype=int))
    assert is_silent(all_positive, "balanced_accuracy")
    assert not is_silent(all_positive, "auc")
    assert compared({"global": [all_positive] * 3, "brainstem": [second] * 3}).verdict == "no decision to compare"
    assert compared({"global": [all_positive] * 3, "brainstem": [second] * 3}, metric="auc").verdict != "no ranking to compare"


def test_folds_of_one_probability_are_named() -> None:
    first, _ = pair(np.random.default_rng(9), 84, 0.1)
    p = np.where(first.fold == 5, 0.31, first.p)
    assert constant_folds(replace(first, p=p)) == [5]
    assert constant_folds(replace(first, p=np.where(first.fold == 5, 0.31 + 1e-9 * np.arange(first.y.size), first.p))) == [5]
    assert constant_folds(first) == []
    alone = Predictions(np.arange(4), np.arange(4), np.array([0, 1, 0, 1]), np.full(4, 0.5), np.zeros(4, dtype=int))
    assert constant_folds(alone) == []
    assert is_silent(alone, "auc")


def test_a_secondary_family_says_so_in_every_verdict() -> None:
    first, second = pair(np.random.default_rng(10), 84, 0.1)
    inputs: dict[str, Runs] = {"global": first, "a": second, "b": flipped(first, 60), "c": replace(first, decision=0 * first.y)}
    weights = draw_patient_weights(first, 200, np.random.default_rng(0))
    plain, second_family = (
        [pair.verdict for pair in compare_family(inputs, weights, np.random.default_rng(0), permutations=500, role=role)]
        for role in ("", "secondary")
    )
    assert second_family == [f"{words} (secondary)" for words in plain]
    assert plain == ["not distinguishable", "not distinguishable", "no decision to compare"]


def pair(rng: np.random.Generator, patients: int, differing: float) -> tuple[Predictions, Predictions]:
    """Two inputs that are right for 70 % of the patients; a share of the second's decisions is changed."""
    patient = np.arange(patients)
    y = (rng.permutation(patients) < 0.4 * patients).astype(int)
    decision = np.where(rng.random(patients) < 0.7, y, 1 - y)
    other = np.where(rng.random(patients) < differing, 1 - decision, decision)
    p = np.clip(0.3 + 0.4 * decision + rng.uniform(-0.2, 0.2, patients), 0, 1)
    return Predictions(patient, patient % 7, y, p, decision), Predictions(patient, patient % 7, y, p, other)


def flipped(first: Predictions, count: int) -> Predictions:
    """As many right decisions turned wrong as wrong ones turned right, in each class alike."""
    decision = first.decision.copy()
    for label in (0, 1):
        for hit in (True, False):
            rows = np.flatnonzero((first.y == label) & ((first.decision == first.y) == hit))[: count // 4]
            decision[rows] = 1 - decision[rows]
    return replace(first, decision=decision)


def compared(inputs: dict[str, Sequence[Predictions]], metric: str = "balanced_accuracy") -> Comparison:
    weights = draw_patient_weights(next(iter(inputs.values()))[0], 300, np.random.default_rng(0))
    return compare_family(inputs, weights, np.random.default_rng(0), metric=metric, permutations=300)[0]


def width(found: Evidence) -> float:
    assert found.interval.low is not None
    assert found.interval.high is not None
    return found.interval.high - found.interval.low
