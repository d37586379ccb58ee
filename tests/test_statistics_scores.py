"""Point scores against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from significance_rows import four, load
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from experiments.statistics.significance import (
    Predictions,
    balanced_accuracy,
    counts,
    fold_stratified_auc,
    fold_summary,
    pooled_auc,
    sensitivity,
    specificity,
)


@pytest.fixture(scope="module")
def pred() -> Predictions:
    return load()


def test_pooled_counts_and_rates_by_hand() -> None:
    pred = four()
    found = counts(pred)
    assert (found.true_positive, found.false_negative, found.true_negative, found.false_positive) == (2, 1, 1, 0)
    assert sensitivity(pred) == pytest.approx(2 / 3)
    assert specificity(pred) == 1.0
    assert balanced_accuracy(pred) == pytest.approx(5 / 6)


def test_pooled_scores_equal_scikit_learn(pred: Predictions) -> None:
    assert balanced_accuracy(pred) == pytest.approx(balanced_accuracy_score(pred.y, pred.decision), abs=1e-12)
    assert pooled_auc(pred) == pytest.approx(roc_auc_score(pred.y, pred.p), abs=1e-12)


def test_fold_stratified_auc_is_the_pair_weighted_mean_of_scikit_learn_areas(pred: Predictions) -> None:
    areas, pairs = [], []
    for fold in range(3):
        rows = pred.fold == fold
        areas.append(roc_auc_score(pred.y[rows], pred.p[rows]))
        pairs.append(np.sum(pred.y[rows]) * np.sum(1 - pred.y[rows]))
    assert fold_stratified_auc(pred) == pytest.approx(np.average(areas, weights=pairs), abs=1e-12)


def test_fold_stratified_auc_ignores_the_score_scale_of_a_fold(pred: Predictions) -> None:
    shifted = replace(pred, p=np.where(pred.fold == 1, pred.p**4, pred.p))
    assert fold_stratified_auc(shifted) == pytest.approx(fold_stratified_auc(pred), abs=1e-12)
    assert pooled_auc(shifted) != pytest.approx(pooled_auc(pred), abs=1e-3)


def test_a_fold_with_one_class_is_undefined_and_never_zero() -> None:
    found = fold_summary(four())
    assert found["auc"].values == {0: None, 1: 1.0}
    assert found["specificity"].values == {0: None, 1: 1.0}
    assert (found["auc"].mean, found["auc"].sd, found["auc"].folds) == (1.0, None, 1)
    assert (found["sensitivity"].mean, found["sensitivity"].folds) == (0.75, 2)
    assert found["sensitivity"].sd == pytest.approx(0.5 / np.sqrt(2))
