"""Cross-conformal sets: against crepes, against the definition written out, and their coverage on drawn patients."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import comb, factorial

import numpy as np
import pytest
from scipy.special import expit

from experiments.statistics.conformal import (
    LEVELS,
    ConformalScores,
    Part,
    calibrated_p,
    conformal_scores,
    label_sets,
    least_patients,
    mean_distribution,
    nonconformity,
    p_values,
    prediction_sets,
    set_name,
)
from experiments.statistics.conformal_numbers import NumberScores, number_intervals, number_scores
from experiments.statistics.predictions import PredictionsError

Y = np.array([0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1])
P = np.array([0.12, 0.81, 0.55, 0.33, 0.47, 0.64, 0.05, 0.72, 0.38, 0.21, 0.18, 0.29, 0.93, 0.41, 0.09, 0.70])
NEW = np.array([0.5, 0.15, 0.85, 0.33, 0.64, 0.99, 0.02])
CREPES = [
    [0.18181818, 0.28571429],
    [0.72727273, 0.14285714],
    [0.09090909, 0.85714286],
    [0.45454545, 0.14285714],
    [0.18181818, 0.57142857],
    [0.09090909, 1.0],
    [1.0, 0.14285714],
]
"""ConformalClassifier of crepes 0.9.1, class-conditional, without smoothing, hinge scores, on Y, P and NEW."""


def one_each(y: np.ndarray, p: np.ndarray, start: int = 0) -> Part:
    return Part([f"sub-{start + row}" for row in range(len(y))], [""] * len(y), y, p)


def test_one_fold_with_a_scan_a_patient_gives_the_p_values_of_crepes() -> None:
    kept = conformal_scores({0: one_each(Y, P)})
    assert p_values(kept, NEW[:, None]) == pytest.approx(np.array(CREPES), abs=1e-8)


def drawn_parts(rng: np.random.Generator, folds: int = 4) -> dict[int, Part]:
    parts = {}
    for fold in range(folds):
        patients = [f"sub-{fold}-{row}" for row in rng.integers(0, 9, 14)]
        y = rng.integers(0, 2, 14)
        parts[fold] = Part(patients, [str(row) for row in range(14)], y, np.round(expit(rng.normal(size=14) + y), 2))
    return parts


def by_definition(parts: dict[int, Part], p: np.ndarray, label: int) -> float:
    """The definition in Vovk 2015 with a patient's scans of a label weighing 1 in all, as loops."""
    count, patients = 1.0, 0
    for fold, tuning in parts.items():
        rows = [row for row in range(len(tuning.y)) if tuning.y[row] == label]
        own = float(nonconformity([p[fold]], label)[0])
        for patient in {tuning.patient[row] for row in rows}:
            theirs = [row for row in rows if tuning.patient[row] == patient]
            scores = nonconformity(tuning.p[theirs], label)
            count += sum(score >= own for score in scores) / len(theirs)
            patients += 1
    return count / (patients + 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_definition_written_out_gives_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = drawn_parts(rng)
    new = np.round(expit(rng.normal(size=(6, 4))), 2)
    values = p_values(conformal_scores(parts), new)
    expected = [[by_definition(parts, row, label) for label in (0, 1)] for row in new]
    assert values == pytest.approx(np.array(expected), abs=1e-12)


def test_a_temperature_of_each_network_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    parts = drawn_parts(rng)
    new = expit(rng.normal(size=(6, 4)))
    soft = {
        fold: Part(item.patient, item.session, item.y, expit(np.log(item.p / (1 - item.p)) / (1.5 + fold)))
        for fold, item in parts.items()
    }
    softened = np.stack([expit(np.log(new[:, k] / (1 - new[:, k])) / (1.5 + k)) for k in range(4)], axis=1)
    assert p_values(conformal_scores(soft), softened) == pytest.approx(p_values(conformal_scores(parts), new), abs=1e-12)


@pytest.mark.parametrize(("level", "least"), [(0.8, 4), (0.9, 9), (0.95, 19)])
def test_so_many_patients_are_needed_to_exclude_a_label(level: float, least: int) -> None:
    assert least_patients(level) == least
    for count in (least - 1, least):
        y = np.repeat([0, 1], count)
        kept = conformal_scores({0: one_each(y, np.where(y == 1, 0.9, 0.1))})
        members = prediction_sets(kept, np.array([[0.999]]), level)[0]
        assert set_name(members) == ("positive" if count == least else "undecided")


def test_a_scan_unlike_both_labels_gets_an_empty_set() -> None:
    y = np.repeat([0, 1], 20)
    kept = conformal_scores({0: one_each(y, np.where(y == 1, 0.99, 0.01))})
    assert set_name(label_sets(p_values(kept, np.array([[0.5]])), 0.9)[0]) == "neither"


def test_what_is_kept_goes_through_json_unchanged() -> None:
    parts = drawn_parts(np.random.default_rng(1))
    kept = conformal_scores(parts, parts)
    assert ConformalScores.of(json.loads(json.dumps(asdict(kept)))) == kept
    numbers = number_scores(parts, parts)
    assert NumberScores.of(json.loads(json.dumps(asdict(numbers)))) == numbers
    assert "sub-" not in json.dumps([asdict(kept), asdict(numbers)])


def test_a_patient_who_is_tuned_on_twice_is_refused() -> None:
    with pytest.raises(PredictionsError, match="is tuned on in folds 0 and 1"):
        conformal_scores({0: one_each(Y, P), 1: one_each(Y[:3], P[:3], start=3)})


def test_coverage_of_test_parts_is_that_of_a_direct_count() -> None:
    rng = np.random.default_rng(8)
    tuning, test = drawn_parts(rng), drawn_parts(rng)
    kept = conformal_scores(tuning, test)
    for item in kept.coverage:
        weight = covered = 0.0
        for fold, tested in test.items():
            for patient in {p for p, y in zip(tested.patient, tested.y, strict=True) if y == item.label}:
                rows = [r for r in range(14) if tested.patient[r] == patient and tested.y[r] == item.label]
                inside = [by_definition({0: tuning[fold]}, [tested.p[row]], item.label) > 1 - item.level + 1e-9 for row in rows]
                covered, weight = covered + np.mean(inside), weight + 1
        assert item.covered == pytest.approx(covered / weight)
        assert item.patients == weight
    assert {item.level for item in kept.coverage} == set(LEVELS)


def simulated_coverage(repeats: int, patients: int, noise: float, rng: np.random.Generator, folds: int = 7) -> np.ndarray:
    """Share of new patients whose true label is in the set at 90 %, by label, 35 % of the patients being positive.

    ``noise`` is how far one network's scores lie from another's, in SDs of the patients of one label; each network has a
    scale and a shift of its own, and 30 % of the patients have two scans.
    """
    held = np.zeros(2)
    for _ in range(repeats):
        label = (rng.random(patients) < 0.35).astype(int)
        who = np.concatenate([np.arange(patients), np.flatnonzero(rng.random(patients) < 0.3)])
        latent = 1.3 * label[who] + rng.normal(size=patients)[who]
        part_of = (rng.permutation(patients) % folds)[who]
        slope, shift = rng.uniform(0.5, 2, folds), rng.normal(size=folds)

        def network(fold: int, latent: np.ndarray, slope: np.ndarray = slope, shift: np.ndarray = shift) -> np.ndarray:
            return expit(slope[fold] * (latent + noise * rng.normal(size=len(latent))) + shift[fold])

        tuning, test = {}, {}
        for fold in range(folds):
            for parts, rows in (
                (test, np.flatnonzero(part_of == fold)),
                (tuning, np.flatnonzero(part_of == (fold + 1) % folds)),
            ):
                scans = [str(row) for row in rows]
                parts[fold] = Part([str(w) for w in who[rows]], scans, label[who[rows]], network(fold, latent[rows]))
        y = np.repeat([0, 1], 100)
        fresh = 1.3 * y + rng.normal(size=200)
        new = np.stack([network(fold, fresh) for fold in range(folds)], axis=1)
        members = prediction_sets(conformal_scores(tuning, test), new, 0.9)
        held += [members[y == k, k].mean() for k in (0, 1)]
    return held / repeats


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_ninety_percent_of_new_patients_are_covered_in_each_class(noise: float) -> None:
    shares = simulated_coverage(40, 140, noise, np.random.default_rng(0))
    assert (np.abs(shares - 0.9) < 0.03).all(), shares


@pytest.mark.long
@pytest.mark.parametrize("noise", [0.0, 0.33, 0.5, 0.8])
@pytest.mark.parametrize("patients", [60, 140, 320])
def test_coverage_is_ninety_percent_within_three_points(patients: int, noise: float) -> None:
    """With 60 patients, 21 of them positive, sets may be wider; see docs/statistics.md."""
    shares = simulated_coverage(300, patients, noise, np.random.default_rng(patients))
    print(patients, noise, shares.round(3))
    assert (shares > 0.87).all(), shares
    assert (shares < (0.93 if patients > 100 else 0.95)).all(), shares


def test_the_mean_of_p_values_that_agree_wholly_stays_as_it_is() -> None:
    values = np.linspace(0.02, 0.98, 25)
    assert mean_distribution(values, 7, 1.0) == pytest.approx(values, abs=2e-3)


def test_the_mean_of_two_independent_uniforms_has_the_triangular_distribution() -> None:
    values = np.linspace(0.05, 0.95, 19)
    expected = np.where(values < 0.5, 2 * values**2, 1 - 2 * (1 - values) ** 2)
    assert mean_distribution(values, 2, 0.0) == pytest.approx(expected, abs=3e-3)


def test_the_mean_of_seven_independent_uniforms_has_the_distribution_of_bates() -> None:
    values = np.array([0.2, 0.35, 0.5, 0.6])
    expected = [sum((-1) ** k * comb(7, k) * (7 * x - k) ** 7 for k in range(int(7 * x) + 1)) / factorial(7) for x in values]
    assert mean_distribution(values, 7, 0.0) == pytest.approx(expected, abs=3e-3)


def test_networks_that_agree_leave_p_values_alone_and_others_raise_the_bar() -> None:
    rng = np.random.default_rng(2)
    y = np.repeat([0, 1], [40, 30])
    tuning, test = {}, {}
    for fold in range(4):
        p = expit(rng.normal(size=70) + y)
        scans = [f"sub-{fold}-{row}" for row in range(70)]
        tuning[fold], test[(fold + 1) % 4] = Part(scans, [""] * 70, y, p), Part(scans, [""] * 70, y, p)
    alike = conformal_scores(tuning, test)
    assert min(alike.agreement) > 0.99
    shuffled = {fold: Part(part.patient, part.session, y, expit(rng.normal(size=70))) for fold, part in test.items()}
    apart = conformal_scores(tuning, shuffled)
    assert max(apart.agreement) < 0.4
    new = np.full((1, 4), 0.3)
    assert calibrated_p(alike, new)[0, 1] == pytest.approx(p_values(alike, new)[0, 1], abs=0.02)
    assert calibrated_p(apart, new)[0, 1] < p_values(apart, new)[0, 1] - 0.02


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_of_numbers_hold_at_least_what_they_promise(level: float) -> None:
    rng = np.random.default_rng(4)
    held = []
    for _ in range(60):
        truth = rng.normal(size=140)
        parts = {
            fold: Part([f"sub-{row}" for row in range(fold, 140, 7)], [""] * 20, truth[fold::7],
                       truth[fold::7] + rng.normal(size=20))
            for fold in range(7)
        }  # fmt: skip
        fresh = rng.normal(size=50)
        error = rng.normal(size=50)
        new = fresh[:, None] + 0.9 * error[:, None] + np.sqrt(1 - 0.81) * rng.normal(size=(50, 7))
        ends = number_intervals(number_scores(parts), new, level)
        held.append(np.mean((ends[:, 0] <= fresh) & (fresh <= ends[:, 1])))
    assert level - 0.02 < np.mean(held) < level + 0.08


def test_an_interval_of_one_fold_is_that_of_the_ranked_residuals() -> None:
    """Nine residuals 1 ... 9: at 80 % the eighth, at 90 % the ninth, at 95 % none is large enough."""
    part = Part([f"sub-{row}" for row in range(9)], [""] * 9, np.arange(1.0, 10.0), np.zeros(9))
    kept = number_scores({0: part})
    new = np.array([[5.0]])
    assert number_intervals(kept, new, 0.8)[0].tolist() == [-3.0, 13.0]
    assert number_intervals(kept, new, 0.9)[0].tolist() == [-4.0, 14.0]
    assert number_intervals(kept, new, 0.95)[0].tolist() == [-np.inf, np.inf]
