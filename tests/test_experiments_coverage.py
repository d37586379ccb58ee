"""Do the intervals and tests keep their promises? Simulated studies whose truth is known. Slow.

Scores are normal with sd 1 and shift D between classes; the decision cuts at D / 2. Then sensitivity, specificity and
balanced accuracy are Phi(D / 2), and the AUC is Phi(D / sqrt 2). Scans of a patient have intraclass correlation 0.9.

Simulated shares have a Monte Carlo standard error: 1.1 points for a coverage of 95 % in 400 studies, 0.4 points for a
level of 5 % in 3,000. Seeds are fixed and the bands asserted allow for about two such errors, so a correct method could
miss one with another seed. Decisions take few values, so their permutation test stays a little below its level: 4.7 %
in 8,000 studies. With three positive patients a fold the rescaled interval of balanced accuracy covers 92 % in 1,200
studies, the plain one 88 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from experiments.statistics.permutation import permutation_test
from experiments.statistics.significance import Predictions, bootstrap_interval, draw_patient_weights

D = 1.2
TRUTH = {"balanced_accuracy": float(norm.cdf(D / 2)), "auc": float(norm.cdf(D / 2**0.5))}


def study(patients: int, scans: int, rng: np.random.Generator, shared: np.ndarray | None = None) -> Predictions:
    """One study of seven folds, 30 % of the patients positive; `shared` (patients,) correlates two inputs."""
    patient = np.repeat(np.arange(patients), scans)
    label, fold = (np.arange(patients) % 10 < 3).astype(int), (np.arange(patients) // 10) % 7
    own = rng.normal(size=patients)
    if shared is not None:
        own = np.sqrt(0.5) * own + np.sqrt(0.5) * shared
    score = np.sqrt(0.9) * own[patient] + np.sqrt(0.1) * rng.normal(size=patient.size) + D * label[patient]
    return Predictions(patient, fold[patient], label[patient], norm.cdf(score - D / 2), (score > D / 2).astype(int))


@pytest.mark.slow
def test_drawing_patients_covers_and_drawing_scans_does_not() -> None:
    rng = np.random.default_rng(20)
    hits: dict[tuple[str, str], list[bool]] = {}
    for _ in range(400):
        by_patient = study(140, 4, rng)
        by_scan = Predictions(np.arange(by_patient.y.size), by_patient.fold, by_patient.y, by_patient.p, by_patient.decision)
        for unit, pred in (("patient", by_patient), ("scan", by_scan)):
            found = bootstrap_interval(pred, draw_patient_weights(pred, 400, rng))
            for metric, truth in TRUTH.items():
                low, high = found[metric].low, found[metric].high
                assert low is not None
                assert high is not None
                hits.setdefault((unit, metric), []).append(low <= truth <= high)
    coverage = {key: float(np.mean(values)) for key, values in hits.items()}
    for metric in TRUTH:
        assert 0.93 <= coverage["patient", metric] <= 0.97, coverage
        assert coverage["scan", metric] < 0.80, coverage


@pytest.mark.slow
def test_small_folds_need_the_rescaled_draws() -> None:
    """70 patients in seven folds, three positive patients a fold: plain draws of n are too narrow."""
    rng = np.random.default_rng(21)
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(600):
        pred = study(70, 1, rng)
        for rescale, values in hits.items():
            found = bootstrap_interval(pred, draw_patient_weights(pred, 400, rng, rescale=rescale))["balanced_accuracy"]
            assert found.low is not None
            assert found.high is not None
            values.append(found.low <= TRUTH["balanced_accuracy"] <= found.high)
    assert np.mean(hits[True]) >= 0.90, np.mean(hits[True])
    assert np.mean(hits[False]) <= np.mean(hits[True]) - 0.015, np.mean(hits[False])


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_the_permutation_test_keeps_its_level(metric: str) -> None:
    """Two inputs of equal performance that share part of each patient, 20 patients a fold."""
    rng = np.random.default_rng(22)
    p_values = []
    for _ in range(3000):
        shared = rng.normal(size=140)
        p_values.append(permutation_test(study(140, 2, rng, shared), study(140, 2, rng, shared), metric, 299, rng))
    level = float(np.mean([p is not None and p <= 0.05 for p in p_values]))
    assert 0.04 <= level <= 0.06, level
