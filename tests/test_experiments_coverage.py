"""Do the intervals and tests keep their promises? Simulated studies whose truth is known.

Scores are normal with sd 1 and shift D between classes; the decision cuts at D / 2. Then sensitivity, specificity and
balanced accuracy are Phi(D / 2), and the AUC is Phi(D / sqrt 2). Scans of a patient have intraclass correlation 0.9.

Patients, folds and labels are those of every simulated study, so the bootstrap draws are made once; only scores are drawn anew.
Simulated shares have a Monte Carlo standard error: 0.9 points for a coverage of 95 % in 600 studies, 0.3 to 0.6 points for
a level of 5 % in 4,000 and 1,500. Decisions take few values, so their permutation test stays a little below its level.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from experiments.statistics.paired import compare_family
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


def scan_level(pred: Predictions) -> Predictions:
    """The same rows, as if every scan were a patient of its own."""
    return Predictions(np.arange(pred.y.size), pred.fold, pred.y, pred.p, pred.decision)


def coverage(hits: list[dict[str, bool]]) -> dict[str, float]:
    return {metric: float(np.mean([hit[metric] for hit in hits])) for metric in TRUTH}


def hit(pred: Predictions, weights: np.ndarray) -> dict[str, bool]:
    found = bootstrap_interval(pred, weights)
    out = {}
    for metric, truth in TRUTH.items():
        low, high = found[metric].low, found[metric].high
        assert low is not None
        assert high is not None
        out[metric] = low <= truth <= high
    return out


@pytest.mark.slow
def test_drawing_patients_covers_and_drawing_scans_does_not() -> None:
    """140 patients with four scans each: the truth lies in 93 to 97 % of the patient intervals, in far fewer scan intervals."""
    rng = np.random.default_rng(20)
    first = study(140, 4, rng)
    weights = {unit: draw_patient_weights(pred, 300, rng) for unit, pred in (("patient", first), ("scan", scan_level(first)))}
    studies = [study(140, 4, rng) for _ in range(600)]
    by_patient = coverage([hit(pred, weights["patient"]) for pred in studies])
    by_scan = coverage([hit(scan_level(pred), weights["scan"]) for pred in studies[:300]])
    for metric in TRUTH:
        assert 0.93 <= by_patient[metric] <= 0.97, (by_patient, by_scan)
        assert by_scan[metric] < 0.80, (by_patient, by_scan)


@pytest.mark.slow
def test_small_folds_need_the_rescaled_draws() -> None:
    """70 patients in seven folds, three positive patients a fold: plain draws of n are too narrow."""
    rng = np.random.default_rng(21)
    first = study(70, 1, rng)
    weights = {rescale: draw_patient_weights(first, 400, rng, rescale=rescale) for rescale in (True, False)}
    studies = [study(70, 1, rng) for _ in range(600)]
    share = {
        rescale: coverage([hit(pred, drawn) for pred in studies])["balanced_accuracy"] for rescale, drawn in weights.items()
    }
    assert share[True] >= 0.90, share
    assert share[False] <= share[True] - 0.015, share


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "studies"), [("balanced_accuracy", 4000), ("auc", 1500)])
def test_the_permutation_test_keeps_its_level(metric: str, studies: int) -> None:
    """Two inputs of equal performance that share part of each patient, 20 patients a fold."""
    rng = np.random.default_rng(22)
    p_values = []
    for _ in range(studies):
        shared = rng.normal(size=140)
        p_values.append(permutation_test(study(140, 2, rng, shared), study(140, 2, rng, shared), metric, 299, rng))
    level = float(np.mean([p is not None and p <= 0.05 for p in p_values]))
    assert 0.04 <= level <= 0.06, level


@pytest.mark.long
def test_without_an_effect_few_studies_name_any_region_different() -> None:
    """Six inputs of equal performance that share part of each patient: Holm and the interval hold the family's 5 %."""
    rng = np.random.default_rng(23)
    names = ("global", "white_matter", "gray_matter", "subcortical_gray_matter", "ventricles", "brainstem")
    weights = draw_patient_weights(study(140, 2, rng), 400, rng)
    false = []
    for _ in range(400):
        shared = rng.normal(size=140)
        inputs = {name: study(140, 2, rng, shared) for name in names}
        verdicts = {one.verdict for one in compare_family(inputs, weights, rng, permutations=399)}
        false.append("different" in verdicts)
    assert np.mean(false) <= 0.07, np.mean(false)
