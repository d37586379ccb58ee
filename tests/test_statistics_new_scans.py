"""What is said of a new scan beside its probability: prior shift and distance of features, against worked numbers."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from experiments.statistics.feature_distance import MOST_FACTORS, FeatureReference, feature_reference, shrunk_covariance
from experiments.statistics.predictions import PredictionsError
from experiments.statistics.prior_shift import at_prevalence


def test_a_probability_at_another_prevalence_is_that_of_bayes() -> None:
    """Sensitivity 0.8, specificity 0.9: a positive result means 8/9 at a prevalence of 1/2, and 2/3 at one of 1/5."""
    assert at_prevalence([0.8 / 0.9], 0.5, 0.2) == pytest.approx([0.16 / (0.16 + 0.08)])


def test_the_same_prevalence_changes_nothing_and_the_way_back_returns() -> None:
    p = np.array([0.01, 0.3, 0.77])
    assert at_prevalence(p, 0.3, 0.3) == pytest.approx(p)
    assert at_prevalence(at_prevalence(p, 0.3, 0.05), 0.05, 0.3) == pytest.approx(p)


@pytest.mark.parametrize("wrong", [0.0, 1.0, 20.0, -0.1])
def test_a_prevalence_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(PredictionsError, match="between 0 and 1"):
        at_prevalence([0.5], 0.3, wrong)


def rows(n: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size))
    return rng.normal(size=(n, size)) @ mixing + 3.0


def test_the_shrinkage_is_that_of_scikit_learn() -> None:
    training = rows(60, 40)
    covariance, share = shrunk_covariance(training)
    expected, expected_share = ledoit_wolf(training)
    ridge = 1e-3 * np.trace(expected) / 40 * np.eye(40)
    assert share == pytest.approx(expected_share)
    assert covariance == pytest.approx(expected + ridge)


def test_distances_are_mahalanobis_where_all_directions_are_kept() -> None:
    training, unseen = rows(80, 20), rows(40, 20, 1)
    reference = feature_reference(training, unseen)
    inverse = np.linalg.inv(shrunk_covariance(training)[0])
    expected = [mahalanobis(row, training.mean(axis=0), inverse) / np.sqrt(20) for row in unseen]
    assert reference.distances(unseen) == pytest.approx(expected)


def test_far_features_are_far_and_those_of_the_cohort_are_not() -> None:
    reference = feature_reference(rows(100, 64), rows(60, 64, 1))
    assert len(reference.variances) == MOST_FACTORS
    assert reference.rest > 0
    ours, far = reference.robust_z(rows(200, 64, 2)), reference.robust_z(2 * rows(20, 64, 3) + 5)
    assert (ours > 6).mean() == 0
    assert (ours > 3.5).mean() < 0.03
    assert far.min() > 6


def test_few_unseen_scans_give_no_verdict() -> None:
    reference = feature_reference(rows(30, 8), rows(9, 8, 1))
    assert np.isnan(reference.robust_z(rows(3, 8, 2))).all()


def test_features_that_are_all_alike_give_a_distance_all_the_same() -> None:
    reference = feature_reference(np.ones((12, 4)), np.ones((12, 4)))
    assert reference.distances(np.ones((1, 4)))[0] == 0
    assert reference.distances(np.full((1, 4), 3.0))[0] == pytest.approx(2.0)


def test_a_reference_goes_through_json_unchanged() -> None:
    reference = feature_reference(rows(50, 6), rows(20, 6, 1))
    assert FeatureReference.of(json.loads(json.dumps(asdict(reference)))) == reference


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(PredictionsError, match="finite"):
        feature_reference(np.full((5, 3), np.nan), rows(20, 3))
