"""The change from internal test to external cohort, simulated: networks that lose nothing must be said to lose nothing."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from experiments.externals.score import Known, Scored, change, like_for_like, tables_of
from experiments.statistics.predictions import FloatArray, IntArray, Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import METRICS, Estimate, mean_values

FOLDS = 7
PATIENTS = 140
DRAWS = 200
STUDIES = 120
ENTRY = {"threshold": 0.5, "models": [{"temperature": 1.0, "threshold": 0.5}] * FOLDS}


def cohort(rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Labels, and what every one of the exchangeable networks says of each scan: one signal, noise of its own."""
    y = rng.permutation(np.arange(PATIENTS) % 5 < 2).astype(np.int64)
    signal = 1.5 * (y - 0.5) + rng.normal(size=PATIENTS)
    return y, expit(signal[:, None] + 2 * rng.normal(size=(PATIENTS, FOLDS)))


def internal_test(rng: np.random.Generator) -> Predictions:
    """Each scan is scored by the network of its own fold alone."""
    y, p = cohort(rng)
    rows = np.arange(PATIENTS)
    mine = p[rows, rows % FOLDS]
    return Predictions(rows, rows % FOLDS, y, mine, (mine >= 0.5).astype(np.int64), np.full(PATIENTS, "1"))


def external_tables(rng: np.random.Generator) -> Scored:
    y, p = cohort(rng)
    return tables_of(ENTRY, p, Known(np.arange(PATIENTS), np.full(PATIENTS, "1"), np.full(PATIENTS, "A"), y))


def changes(rng: np.random.Generator) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """The change to the single networks and to their ensemble, as the external results have them."""
    internal, outside = internal_test(rng), external_tables(rng)
    inside = mean_values(internal, draw_patient_weights(internal, DRAWS, rng))
    weights = draw_patient_weights(outside.ensemble, DRAWS, rng)
    singles, ensemble = mean_values(outside.singles, weights), mean_values(outside.ensemble, weights)
    return ({m: change(singles[m], inside[m]) for m in METRICS}, {m: change(ensemble[m], inside[m]) for m in METRICS})


def test_exchangeable_networks_change_by_nothing_like_for_like_and_seem_to_gain_as_an_ensemble() -> None:
    rng = np.random.default_rng(0)
    studies = [changes(rng) for _ in range(STUDIES)]
    for metric in ("auc", "balanced_accuracy"):
        alike, mixed = ([pair[kind][metric] for pair in studies] for kind in (0, 1))
        assert abs(np.mean([estimate.value for estimate in alike])) < 0.012
        assert 0.9 <= np.mean([estimate.low <= 0 <= estimate.high for estimate in alike]) <= 0.99
        assert np.mean([estimate.value for estimate in mixed]) > 0.05
        assert np.mean([estimate.low <= 0 <= estimate.high for estimate in mixed]) < 0.7


def test_the_sentence_counts_the_networks_of_both_sides() -> None:
    text = like_for_like({"single": {"balanced_accuracy": {"values": [0.6, None, 0.7]}}})
    assert "1 network a scan on both sides" in text
    assert "the mean of the 3 networks' scores; their ensemble averages 3 networks" in text
