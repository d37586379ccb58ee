"""Ensembles of the seeds: the networks of a fold averaged into one prediction for each scan, compared with one another.

An ensemble is mostly the better predictor, so it is compared with ensembles alone; a mean over seeds describes one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from experiments.analysis.pooling import Pooled, Tables
from experiments.statistics.calibration import clipped_logit
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import FloatArray, check_same_scans
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import family_values, summarise
from lightning_modules.decision import Decision, choose_threshold

ROLE = "ensembles"


def mean_log_odds(probabilities: Sequence[FloatArray]) -> FloatArray:
    """Probabilities whose log odds are the mean of those given: (n,) from one (n,) array for each network."""
    return np.asarray(expit(np.mean([clipped_logit(p) for p in probabilities], axis=0)), dtype=np.float64)


def tuning_probabilities(models: Sequence[Pooled], fold: int) -> list[FloatArray]:
    """Probabilities (n,) of each model for the tuning scans of a fold, in the order of the first model's rows."""
    rows = [dict(zip(pooled.tuning_scans[fold], pooled.tuning[fold][1], strict=True)) for pooled in models]
    return [np.array([p[scan] for scan in models[0].tuning_scans[fold]]) for p in rows]


def ensemble(seeds: Sequence[Pooled], decision: Decision) -> Pooled:
    """Average the seeds of one input; each fold decides at the threshold that the study's rule gives its averaged tuning rows.

    Networks that decide by ``prior`` have the training part's prevalence as their threshold, and so has their ensemble.

    Raises:
        PredictionsError: If the seeds did not score the same internal test scans.
    """
    check_same_scans({f"seed table {number}": pooled.test for number, pooled in enumerate(seeds)})
    first = seeds[0]
    tuning = {}
    for fold, (y, _) in first.tuning.items():
        tuning[fold] = (y, mean_log_odds(tuning_probabilities(seeds, fold)))
    thresholds = {fold: choose_threshold(decision, *rows, first.thresholds[fold]) for fold, rows in tuning.items()}
    p = mean_log_odds([pooled.test.p for pooled in seeds])
    decided = (p >= np.array([thresholds[fold] for fold in first.test.fold.tolist()])).astype(np.int64)
    return replace(first, test=replace(first.test, p=p, decision=decided), tuning=tuning, thresholds=thresholds)


def ensembles_of(networks: Tables, decision: Decision) -> dict[str, list[Pooled]]:
    """Input -> the ensemble of its seeds, alone in a list; empty with one seed."""
    if any(len(seeds) < 2 for seeds in networks.values()):
        return {}
    return {name: [ensemble(seeds, decision)] for name, seeds in networks.items()}


def compare_ensembles(ensembles: Tables, weights: WeightArray, rng: np.random.Generator, reference: str) -> dict[str, Any]:
    """Scores of each input's ensemble, and each region's against the reference's; nothing with one seed.

    Args:
        ensembles: What ``ensembles_of`` gives.
        weights: (draws, patients), those of the single networks.
        rng: Source of the swaps.
        reference: The input that the others are compared with.

    Returns:
        `ensembles`, `paired_ensembles` and `paired_ensembles_auc` of a comparison.
    """
    tests = {name: pooled.test for name, (pooled,) in ensembles.items()}
    if not tests:
        return {}
    values = family_values(tests, weights)
    content: dict[str, Any] = {
        "ensembles": {name: summarise(test, weights, values=values[name]) for name, test in tests.items()}
    }
    if reference in tests and len(tests) > 1:
        for name, metric, role in (("", "balanced_accuracy", ROLE), ("_auc", "auc", f"{ROLE}, secondary")):
            content[f"paired_ensembles{name}"] = compare_family(
                tests, weights, rng, reference=reference, metric=metric, permutations=len(weights), values=values, role=role
            )
    return content
