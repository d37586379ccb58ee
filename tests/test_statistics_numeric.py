"""Scores, intervals and tests of predicted numbers, each against another implementation of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import linregress, spearmanr
from simulated_numbers import FACTORS, level
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from experiments.analysis.numeric_compare import _constant
from experiments.statistics.chance import OVERLAP
from experiments.statistics.constant import constant_folds
from experiments.statistics.numeric import METRICS, Numbers, drawn_scores, fold_scores, has_few, point_scores, title_of
from experiments.statistics.numeric_pairs import (
    PRIMARY,
    SECONDARY,
    TOO_FEW,
    compare_numbers,
    numeric_estimates,
    numeric_shares,
    numeric_test,
    numeric_values,
)
from experiments.statistics.paired import SILENT
from experiments.statistics.predictions import PredictionsError
from experiments.statistics.resampling import draw_patient_weights
from experiments.study.runs import Run


def made(scans: int = 70, patients: int = 49, steps: int = 0, noise: float = 0.8, seed: int = 0) -> Numbers:
    rng = np.random.default_rng(seed)
    patient = np.arange(scans) % patients
    fold = patient % 7
    y = np.round(rng.uniform(0, steps, scans)) if steps else rng.normal(40, 10, scans)
    spread = y.std()
    p = y + noise * spread * np.random.default_rng(seed + 100 + int(100 * noise)).normal(size=scans)
    mean = y.mean() + rng.normal(0, 0.2 * spread, 7)[fold]
    return Numbers(patient, fold, y, np.clip(p, 0, steps) if steps else p, mean, steps=steps)


def test_scores_of_a_number_are_those_of_scikit_learn_and_scipy() -> None:
    table = made()
    scores = point_scores(table)
    assert list(scores) == list(METRICS)
    assert scores["mae"] == pytest.approx(mean_absolute_error(table.y, table.p))
    assert scores["rmse"] == pytest.approx(mean_squared_error(table.y, table.p) ** 0.5)
    # R2 against the training mean is scikit-learn's where that is the mean of the test scans
    centred = Numbers(table.patient, table.fold, table.y, table.p, np.full(table.y.size, table.y.mean()))
    assert point_scores(centred)["r2"] == pytest.approx(r2_score(table.y, table.p))
    around = 1 - mean_squared_error(table.y, table.p) / mean_squared_error(table.y, table.mean)
    assert scores["r2"] == pytest.approx(around)
    line = linregress(table.p, table.y)
    assert (scores["intercept"], scores["slope"]) == pytest.approx((line.intercept, line.slope))
    rows = [table.fold == fold for fold in range(7)]
    each = [spearmanr(table.y[row], table.p[row]).statistic for row in rows]
    assert scores["spearman"] == pytest.approx(np.average(each, weights=[row.sum() for row in rows]))


def test_scores_of_steps_are_those_of_scikit_learn() -> None:
    table = made(steps=3)
    scores = point_scores(table)
    assert list(scores) == [*METRICS, "kappa", "auc_1", "auc_2", "auc_3"]
    rounded = np.floor(table.p + 0.5).astype(int)
    assert scores["kappa"] == pytest.approx(cohen_kappa_score(table.y.astype(int), rounded, weights="quadratic"))
    whole = Numbers(table.patient, np.zeros_like(table.fold), table.y, table.p, table.mean, steps=3)
    for step in (1, 2, 3):
        assert point_scores(whole)[f"auc_{step}"] == pytest.approx(roc_auc_score(table.y >= step, table.p))
    assert title_of("auc_2") == "AUC, step 2 or more"


@pytest.mark.parametrize("steps", [0, 3])
def test_scores_under_whole_weights_are_those_of_repeated_scans(steps: int) -> None:
    table = made(steps=steps)
    weights = np.random.default_rng(1).integers(0, 4, (5, table.patients.size)).astype(float)
    drawn = drawn_scores(table, weights)
    for draw, row in enumerate(weights):
        repeated = table.part(np.repeat(np.arange(table.y.size), row[table.patient_index].astype(int)))
        for metric, value in point_scores(repeated).items():
            assert drawn[metric][draw] == pytest.approx(value), metric


def test_what_a_constant_prediction_leaves_undefined() -> None:
    table = made()
    constant = Numbers(table.patient, table.fold, table.y, table.mean, table.mean)
    flat = Numbers(table.patient, table.fold, table.y, np.full(table.y.size, 40.0), table.mean)
    assert point_scores(constant)["r2"] == pytest.approx(0)
    assert point_scores(constant)["spearman"] == 0
    assert point_scores(flat)["slope"] is None
    assert point_scores(flat)["intercept"] is None
    weights = draw_patient_weights(table, 200, np.random.default_rng(0))
    estimate = numeric_estimates(numeric_values({"a": [flat]}, weights)["a"])["spearman"]
    assert (estimate.value, estimate.low) == (0, None)


def test_tables_that_cannot_be_scored_are_refused_in_one_line() -> None:
    table = made(steps=3)
    columns = {name: getattr(table, name) for name in ("patient", "fold", "y", "p", "mean")}
    for change, words in (
        ({"y": np.full(table.y.size, 2.0)}, "all 70 scans have the value 2"),
        ({"y": table.y + 0.5, "steps": 3}, "steps 0 to 3"),
        ({"p": np.where(np.arange(table.y.size) == 3, np.nan, table.p)}, "column p holds nan"),
        ({"fold": np.arange(table.y.size) % 6}, "must be tested in one fold only"),
        ({"mean": table.mean[1:]}, "column mean has shape"),
    ):
        with pytest.raises(PredictionsError, match=words) as error:
            Numbers(**{**columns, **change})  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no permutation test"):
        numeric_shares([table], [table], "rmse")


@pytest.mark.parametrize("metric", [PRIMARY, SECONDARY])
def test_shares_of_the_patients_sum_to_the_difference_and_turn_with_a_swap(metric: str) -> None:
    first, second = made(noise=0.5), made(noise=1.0)
    shares = numeric_shares([first], [second], metric)
    gap = (point_scores(first)[metric] or 0) - (point_scores(second)[metric] or 0)
    assert shares.sum() == pytest.approx(gap)
    assert numeric_shares([second], [first], metric) == pytest.approx(-shares)
    if metric == PRIMARY:
        swapped = first.patient == first.patients[4]
        exchanged = [
            Numbers(first.patient, first.fold, first.y, np.where(swapped, b.p, a.p), first.mean)
            for a, b in ((first, second), (second, first))
        ]
        other = numeric_shares([exchanged[0]], [exchanged[1]], metric)
        assert other[4] == pytest.approx(-shares[4])


def test_a_better_input_is_different_with_holm_and_the_same_words() -> None:
    inputs = {"global": [made(280, 196, noise=0.4)], "worse": [made(280, 196, noise=1.5)], "like": [made(280, 196, noise=0.41)]}
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(inputs["global"][0], 500, rng)
    values = numeric_values(inputs, weights)
    family = {pair.first: pair for pair in compare_numbers(inputs, weights, rng, values, permutations=999)}
    assert family["worse"].verdict == "different"
    assert family["like"].verdict == "not distinguishable"
    assert (family["worse"].difference.low or 0) > 0
    assert family["worse"].p_holm == pytest.approx(2 * (family["worse"].p or 0))
    ranked = compare_numbers(inputs, weights, rng, values, metric=SECONDARY, permutations=999, role="secondary")
    assert [pair.verdict for pair in ranked] == ["different (secondary)", "not distinguishable (secondary)"]
    assert (
        compare_numbers(
            {"global": inputs["global"], "same": inputs["global"]}, weights, rng, values | {"same": values["global"]}
        )[0].p
        == 1
    )


def test_a_note_on_a_fold_of_one_number_names_the_seed_where_there_are_several() -> None:
    table = made()
    flat = Numbers(table.patient, table.fold, table.y, np.where(table.fold == 1, 2.0, table.p), table.mean)
    runs = {seed: Run("global", 1, seed) for seed in (0, 3)}
    scans = np.sum(table.fold == 1)
    assert _constant({"global": [flat]}, {"global": [runs[0]]}) == [
        f"fold 1 of global gave one number to all its {scans} scans"
    ]
    assert _constant({"global": [flat, flat]}, {"global": list(runs.values())}) == [
        f"fold 1 of global, seed {seed}, gave one number to all its {scans} scans" for seed in runs
    ]


def test_nothing_is_said_of_few_patients_or_of_a_constant_ranking() -> None:
    small = {"global": [made(9, 9)], "other": [made(9, 9, noise=2.0)]}
    assert has_few(small["global"][0])
    weights = draw_patient_weights(small["global"][0], 100, np.random.default_rng(0))
    pair = compare_numbers(small, weights, np.random.default_rng(0), numeric_values(small, weights), permutations=99)[0]
    assert pair.verdict == TOO_FEW
    table = made()
    flat = {"global": [table], "flat": [Numbers(table.patient, table.fold, table.y, table.mean, table.mean)]}
    weights = draw_patient_weights(table, 100, np.random.default_rng(0))
    values = numeric_values(flat, weights)
    silent = compare_numbers(flat, weights, np.random.default_rng(0), values, metric=SECONDARY, permutations=99)[0]
    assert silent.verdict == SILENT["auc"]


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e9])
def test_the_scale_of_the_values_changes_no_p_no_verdict_and_no_interval_but_by_itself(scale: float) -> None:
    inputs = {"global": [made(noise=1.0)], "better": [made(noise=0.3)], "flat": [replace(made(), p=made().mean)]}
    scaled = {name: [replace(t, y=scale * t.y, p=scale * t.p, mean=scale * t.mean) for t in of] for name, of in inputs.items()}
    weights = draw_patient_weights(inputs["global"][0], 200, np.random.default_rng(0))
    values, others = numeric_values(inputs, weights), numeric_values(scaled, weights)
    for name in inputs:
        assert constant_folds(scaled[name][0]) == constant_folds(inputs[name][0])
        usual, other = (numeric_estimates(of_scale[name]) for of_scale in (values, others))
        assert other["mae"].low == pytest.approx(scale * usual["mae"].low, rel=1e-6)
        assert other["slope"].low == pytest.approx(usual["slope"].low, rel=1e-6)
    for metric in (PRIMARY, SECONDARY):
        pairs, again = (
            compare_numbers(of, weights, np.random.default_rng(0), drawn, metric=metric, permutations=999)
            for of, drawn in ((inputs, values), (scaled, others))
        )
        assert [(pair.p, pair.verdict) for pair in again] == [(pair.p, pair.verdict) for pair in pairs]
    assert [pair.verdict for pair in again] == ["different", SILENT["auc"]]


def test_values_over_seeds_are_means_and_folds_have_their_own() -> None:
    seeds = [made(noise=0.5), made(noise=0.9)]
    weights = draw_patient_weights(seeds[0], 100, np.random.default_rng(0))
    values = numeric_values({"a": seeds}, weights)["a"]
    assert values["mae"][0] == pytest.approx(np.mean([point_scores(table)["mae"] or 0 for table in seeds]))
    folds = fold_scores(seeds)["mae"]
    estimate = numeric_estimates(values, seeds)["mae"]
    assert estimate.folds == 7
    assert estimate.fold_mean == pytest.approx(np.mean(list(folds.values())))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]


def test_intervals_cover_the_truth_in_repeated_cohorts() -> None:
    """The MAE of normal errors of SD 1 is sqrt(2 / pi); 300 cohorts of 70 patients, SE of a rate of 95 %: 1.3 points."""
    rng, truth, inside = np.random.default_rng(2), np.sqrt(2 / np.pi), 0
    fold = np.arange(70) % 7
    for _ in range(300):
        y = rng.normal(0, 2, 70)
        table = Numbers(np.arange(70), fold, y, y + rng.normal(size=70), np.zeros(70))
        draws = drawn_scores(table, draw_patient_weights(table, 400, rng))["mae"]
        low, high = np.quantile(draws, (0.025, 0.975))
        inside += low <= truth <= high
    assert inside / 300 >= 0.91


@pytest.mark.parametrize("metric", [PRIMARY, SECONDARY])
def test_equally_good_trained_inputs_are_rarely_told_apart(metric: str) -> None:
    """150 studies; a rate of 5 % has a standard error of 1.8 points."""
    assert FACTORS[-1] == OVERLAP
    assert level(84, 32, 0.2, 0.0, metric, 150)[-1] <= 0.09


@pytest.mark.long
@pytest.mark.parametrize("metric", [PRIMARY, SECONDARY])
@pytest.mark.parametrize("patients", [84, 320])
@pytest.mark.parametrize("signal", [0.0, 0.2, 0.45])
def test_equally_good_trained_inputs_differ_in_five_percent_of_the_studies_at_most(
    metric: str, patients: int, signal: float
) -> None:
    """2,000 studies with 32 features; a rate of 5 % has a standard error of 0.5 points."""
    assert level(patients, 32, signal, 0.0, metric, 2000, seed=1)[-1] <= 0.06


def test_the_test_finds_a_difference_that_is_there() -> None:
    first, second = made(280, 196, noise=0.4), made(280, 196, noise=1.5)
    for metric in (PRIMARY, SECONDARY):
        assert numeric_test([first], [second], metric, 999, np.random.default_rng(0)) < 0.01
