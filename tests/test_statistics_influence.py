"""The influence-curve interval of the cross-validated AUC against R's cvAUC, published values, derivatives and the bootstrap.

Frozen values of R 4.2.2 with ROCR 1.0-11 and data.table 1.14.8, from the functions of the package cvAUC by LeDell, Petersen and
van der Laan (ci.pooled.cvAUC of the 1.1 series, ci.cvAUC of 1.0.2): ci.pooled.cvAUC(p, y, folds = fold, ids = patient) and
ci.cvAUC(p, y, folds = fold) on data/cvauc_rows.tsv.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from significance_rows import load
from sklearn.metrics import roc_auc_score

from experiments.statistics.influence import cv_auc_interval
from experiments.statistics.significance import (
    Predictions,
    PredictionsError,
    bootstrap_values,
    draw_patient_weights,
)

UNTIED = Path(__file__).parent / "data" / "cvauc_rows.tsv"


def untied(scans_as_patients: bool) -> Predictions:
    t = np.genfromtxt(UNTIED, delimiter="\t", names=True, dtype=None, encoding="utf-8")
    patient = np.arange(t.size) if scans_as_patients else t["patient"]
    return Predictions(patient, t["fold"], t["y"], t["p"], t["y"])


@pytest.mark.parametrize(
    ("function", "error", "low", "high"),
    [
        ("ci.pooled.cvAUC", 0.078655292913739641, 0.66263740049456366, 0.97096048310332006),
        ("ci.cvAUC", 0.07540242353381163, 0.66901290732563568, 0.96458497627224804),
    ],
)
def test_it_equals_the_r_package_cvauc(function: str, error: float, low: float, high: float) -> None:
    found, own_error = cv_auc_interval(untied(scans_as_patients=function == "ci.cvAUC"))
    assert found.value == pytest.approx(0.81679894179894186, abs=1e-12)
    assert own_error == pytest.approx(error, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_ties_are_half_in_area_and_contributions_where_r_halves_them_in_the_area_alone(pred: Predictions) -> None:
    """R on rows with ties: the same area, and 0.0634 in place of 0.0629, because its contributions take a tie as lost.

    They then do not sum to zero within a class, as an influence curve must (LeDell 2015, section 4); ours do.
    """
    found, error = cv_auc_interval(pred)
    assert found.value == pytest.approx(0.84529051195717864, abs=1e-12)
    r_error = 0.063414665626985278
    assert error < r_error
    assert error == pytest.approx(r_error, rel=0.01)


@pytest.fixture(scope="module")
def pred() -> Predictions:
    return load()


def test_influence_curve_equals_a_loop_over_scans(pred: Predictions) -> None:
    """Loop after LeDell 2015, section 4; ties count 1/2."""
    contributions: dict[str, float] = dict.fromkeys(pred.patients.tolist(), 0.0)
    share, areas = np.mean(pred.y), []
    for fold in range(3):
        rows = np.flatnonzero(pred.fold == fold)
        areas.append(roc_auc_score(pred.y[rows], pred.p[rows]))
        for i in rows:
            others = pred.p[rows][pred.y[rows] != pred.y[i]]
            gap = (pred.p[i] - others) * (1 if pred.y[i] else -1)
            right = np.mean((gap > 0) + 0.5 * (gap == 0)) - areas[-1]
            contributions[str(pred.patient[i])] += right / (share if pred.y[i] else 1 - share) * 36 / 49
    folds = {str(name): int(fold) for name, fold in zip(pred.patients, pred.patient_fold, strict=True)}
    blocks = [np.mean([v**2 for name, v in contributions.items() if folds[name] == fold]) for fold in range(3)]
    found, error = cv_auc_interval(pred)
    assert found.value == pytest.approx(np.mean(areas), abs=1e-12)
    assert error == pytest.approx(np.sqrt(np.mean(blocks) / 36), abs=1e-12)
    assert found.low == pytest.approx(np.mean(areas) - 1.959963984540054 * error, abs=1e-12)
    assert found.high == pytest.approx(min(1, np.mean(areas) + 1.959963984540054 * error), abs=1e-12)


def test_influence_curve_and_bootstrap_agree_on_a_large_table() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(700), 2)
    y = (patient % 3 == 0).astype(int)
    p = 1 / (1 + np.exp(-(1.2 * y + rng.normal(size=700)[patient] + 0.4 * rng.normal(size=1400))))
    pred = Predictions(patient, (patient // 3) % 7, y, p, (p > 0.6).astype(int))
    drawn = bootstrap_values(pred, draw_patient_weights(pred, 2000, rng))["auc"]
    assert cv_auc_interval(pred)[1] == pytest.approx(np.std(drawn), rel=0.06)


def test_influence_curve_refuses_a_fold_with_one_class() -> None:
    pred = Predictions(np.arange(4), np.arange(4) // 2, np.array([1, 1, 0, 1]), np.full(4, 0.5), np.ones(4, dtype=int))
    with pytest.raises(PredictionsError, match="fold 0 holds one class only; its area is undefined"):
        cv_auc_interval(pred)


def test_it_equals_the_worked_example_of_cvauc_ci() -> None:
    """github.com/dlaprins/cvauc-ci, tests/test_cvauc.py: fold areas 0.5 and 1, variance 1/3 over six scans."""
    y, p = np.array([0, 1, 0, 1, 0, 1]), np.array([0.6, 0.5, 0.4, 0.6, 0.3, 0.8])
    pred = Predictions(np.arange(6), np.arange(6) // 3, y, p, (p >= 0.5).astype(int))
    found, error = cv_auc_interval(pred)
    assert found.value == pytest.approx(0.75, abs=1e-12)
    assert error == pytest.approx(np.sqrt(1 / 3 / 6), abs=1e-12)
    assert found.low == pytest.approx(0.75 - 1.959963984540054 * np.sqrt(1 / 18), abs=1e-9)
    assert found.high == 1.0


def test_it_is_the_derivative_of_the_auc_by_each_patients_weight() -> None:
    """Infinitesimal jackknife: with equal folds and equal class shares both variances are the same sum of squares."""
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(60), 2)
    y, fold = (patient % 3 == 0).astype(int), (patient // 3) % 4
    p = 1 / (1 + np.exp(-(y + rng.normal(size=60)[patient] + 0.5 * rng.normal(size=120))))
    pred = Predictions(patient, fold, y, p, y)
    step = 1e-5

    def area(times: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(y[fold == k], p[fold == k], sample_weight=times[fold == k]) for k in range(4)]))

    slopes = []
    for one in range(60):
        up, down = np.ones(120), np.ones(120)
        up[patient == one] += step
        down[patient == one] -= step
        slopes.append((area(up) - area(down)) / (2 * step))
    assert cv_auc_interval(pred)[1] == pytest.approx(np.sqrt(np.sum(np.square(slopes))), rel=1e-6)
