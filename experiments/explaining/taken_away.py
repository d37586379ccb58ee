"""What the absence of each region costs: of the AUC, with a paired test, and of the distance of the classes in log odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from experiments.explaining.jobs import Job
from experiments.explaining.setup import Explained
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import FloatArray, Predictions
from experiments.statistics.relevance import separation
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate, percentile_interval
from experiments.study.run_folder import RunFolder

WHOLE = "whole input"


@dataclass(frozen=True)
class Tables:
    """The whole input, and the input without each region, by name.

    Attributes:
        predictions: One table for each seed, rows sorted by fold, patient and session.
        log_odds: (scans,) of the same rows, the mean over seeds.
    """

    predictions: Mapping[str, Sequence[Predictions]]
    log_odds: Mapping[str, FloatArray]


def taken_away(explained: Explained, trained: Mapping[Job, Mapping[str, Any]], draws: int) -> dict[str, dict[str, Any]]:
    """For each region the whole input minus the input without it.

    Args:
        explained: The study.
        trained: The networks of an input, with their parts.
        draws: Bootstrap draws and permutations.

    Returns:
        Region -> a comparison on the AUC (`experiments.statistics.paired`), and ``log_odds``: by how much the classes come
        nearer to each other, with its patient-cluster interval. Empty where no region was taken away.
    """
    if not trained or not all(part["log_odds"] for part in trained.values()):
        return {}
    tables = _tables(explained, trained)
    first = tables.predictions[WHOLE][0]
    weights = draw_patient_weights(first, draws, np.random.default_rng(0))
    regions = [name for name in tables.predictions if name != WHOLE]
    family = compare_family(
        tables.predictions, weights, np.random.default_rng(0), reference=None, metric="auc", permutations=draws,
        chosen=[(WHOLE, name) for name in regions],
    )  # fmt: skip
    pairs = {pair.second: asdict(pair) for pair in family}
    once = np.ones((1, weights.shape[1]))
    for name in regions:
        change = tables.log_odds[WHOLE] - tables.log_odds[name]
        value, drawn = (separation(change, first.y, first.patient_index, each) for each in (once, weights))
        pairs[name]["log_odds"] = asdict(Estimate(float(value[0]), *percentile_interval(drawn)))
    return pairs


def _tables(explained: Explained, trained: Mapping[Job, Mapping[str, Any]]) -> Tables:
    names = (WHOLE, *explained.pieces(next(iter(trained)).input).names)
    seeds = list(dict.fromkeys(job.number for job in trained))
    made = [_of_seed(explained, {job: part for job, part in trained.items() if job.number == seed}) for seed in seeds]
    predictions = {name: [_table(columns, values[:, at]) for columns, values in made] for at, name in enumerate(names)}
    log_odds = {name: np.mean([values[:, at] for _, values in made], axis=0) for at, name in enumerate(names)}
    return Tables(predictions, log_odds)


def _of_seed(explained: Explained, parts: Mapping[Job, Mapping[str, Any]]) -> tuple[dict[str, Any], FloatArray]:
    """Columns of the scans of one seed in the order of pooled predictions, and their log odds (scans, 1 + regions)."""
    limits = {job: float(RunFolder(job.run.folder(explained.folder)).facts()["threshold"]) for job in parts}
    scans = [(job, *scan) for job, part in parts.items() for scan in part["scans"]]
    columns = {
        "patient": np.array([scan[1] for scan in scans]),
        "session": np.array([scan[2] for scan in scans]),
        "fold": np.array([scan[0].fold for scan in scans]),
        "y": np.array([scan[3] for scan in scans]),
        "threshold": np.array([limits[scan[0]] for scan in scans]),
    }
    order = np.lexsort((columns["session"], columns["patient"], columns["fold"]))
    values = np.concatenate([np.array(part["log_odds"], dtype=np.float64) for part in parts.values()])
    return {name: column[order] for name, column in columns.items()}, values[order]


def _table(columns: Mapping[str, Any], log_odds: FloatArray) -> Predictions:
    p = expit(log_odds)
    given = {name: column for name, column in columns.items() if name != "threshold"}
    return Predictions(**given, p=p, decision=(p >= columns["threshold"]).astype(np.int64))
