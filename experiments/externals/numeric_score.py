"""What an external cohort says of frozen models that predict a number, in the form of ``experiments.externals.score``.

The primary model of an input is the mean of its folds' predictions. The change, external minus internal, compares single models
on both sides; both intervals draw the patients of the two cohorts independently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.target import Target
from experiments.analysis.pooling import pool_numbers
from experiments.externals.score import REFERENCE, Known
from experiments.statistics.numeric import Numbers, point_scores
from experiments.statistics.numeric_pairs import (
    NUMERIC_INTERVAL,
    compare_numbers,
    numeric_estimates,
    numeric_gap,
    numeric_values,
)
from experiments.statistics.predictions import FloatArray
from experiments.statistics.resampling import WeightArray, draw_patient_weights
from experiments.statistics.significance import Estimate, Values
from experiments.study.parts import read_parts


@dataclass(frozen=True)
class ScoredNumbers:
    """An input's tables on the external cohort: the primary model, and each fold's own."""

    ensemble: Numbers
    singles: tuple[Numbers, ...]


def number_tables(entry: Mapping[str, Any], raw: FloatArray, known: Known) -> ScoredNumbers:
    """The tables of one input.

    Args:
        entry: Its entry of frozen.json.
        raw: (scans, folds) predicted values or expected steps.
        known: Who the scans are.
    """
    means, steps = [model["scale"]["mean"] for model in entry["models"]], entry["models"][0]["scale"]["steps"]

    def table(p: FloatArray, mean: float) -> Numbers:
        zeros = np.zeros(len(p), dtype=np.int64)
        return Numbers(known.patient, zeros, known.y.astype(np.float64), p, np.full(len(p), mean), known.session, steps)

    singles = tuple(table(raw[:, k], mean) for k, mean in enumerate(means))
    return ScoredNumbers(table(raw.mean(axis=1), float(np.mean(means))), singles)


def score_numbers(
    frozen: Mapping[str, Any], study: Path, tables: Mapping[str, ScoredNumbers], known: Known, draws: int
) -> dict[str, Any]:
    """Everything external.json says about the models, as ``experiments.externals.score.score`` does.

    Raises:
        PredictionsError: if the external cohort holds one value only.
    """
    rng = np.random.default_rng(0)
    first, target = next(iter(tables.values())).ensemble, Target(**frozen["label"])
    weights = draw_patient_weights(first, draws, rng, strata=known.strata)
    parts = read_parts(study)
    inputs = []
    for entry in frozen["inputs"]:
        internal = pool_numbers({model["fold"]: study / model["run"] for model in entry["models"]}, parts)
        drawn = draw_patient_weights(internal, draws, np.random.default_rng(1))
        inside = numeric_values({"": [internal]}, drawn)[""]
        inputs.append(_input(entry, tables[entry["input"]], inside, weights, known))
    ensembles = {name: [table.ensemble] for name, table in tables.items()}
    paired = []
    if REFERENCE in ensembles and len(ensembles) > 1:
        values = numeric_values(ensembles, weights)
        paired = compare_numbers(ensembles, weights, rng, values, permutations=draws, role="external")
    return {
        "draws": draws,
        "scans": first.y.size,
        "patients": first.patients.size,
        "target": {"kind": target.kind, "name": target.name, "unit": target.score_unit, "steps": target.steps},
        "sites": [_counts(known, site) for site in np.unique(known.site)],
        "interval": f"{NUMERIC_INTERVAL}; stratified by site",
        "inputs": inputs,
        "paired": [asdict(pair) for pair in paired],
        "same_decisions": [],
    }


def _input(
    entry: Mapping[str, Any], scored: ScoredNumbers, inside: Values, weights: WeightArray, known: Known
) -> dict[str, Any]:
    singles = numeric_values({"": scored.singles}, weights)[""]
    ensemble = numeric_values({"": [scored.ensemble]}, weights)[""]
    points = [point_scores(table) for table in scored.singles]
    return {
        "input": entry["input"],
        "networks": {"internal": 1, "single": 1, "ensemble": len(scored.singles)},
        "ensemble": _plain(numeric_estimates(ensemble)),
        "single": {
            metric: _spread([point[metric] for point in points], estimate)
            for metric, estimate in numeric_estimates(singles).items()
        },
        "internal": _plain(numeric_estimates(inside)),
        "change": _plain(numeric_gap(singles, inside)),
        "change_to_ensemble": _plain(numeric_gap(ensemble, inside)),
        "sites": [_site(scored.ensemble, known, site, len(weights)) for site in np.unique(known.site)],
        "leave_one_site_out": _without_each_site(scored.ensemble, known),
    }


def _spread(values: list[float | None], mean: Estimate) -> dict[str, Any]:
    defined = [value for value in values if value is not None]
    sd = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return {"mean": mean.value, "sd": sd, "values": values, "low": mean.low, "high": mean.high}


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {metric: {"value": e.value, "low": e.low, "high": e.high} for metric, e in estimates.items()}


def _counts(known: Known, site: str) -> dict[str, Any]:
    rows = known.site == site
    return {"site": str(site), "scans": int(rows.sum()), "patients": int(np.unique(known.patient[rows]).size)}


def _part(table: Numbers, rows: npt.NDArray[np.bool_]) -> Numbers | None:
    """Some rows of a table, None where they hold one value only."""
    return None if np.unique(table.y[rows]).size < 2 else table.part(rows)


def _site(table: Numbers, known: Known, site: str, draws: int) -> dict[str, Any]:
    part = _part(table, known.site == site)
    estimates = dict.fromkeys(table.metrics, Estimate(None, None, None))
    if part is not None:
        weights = draw_patient_weights(part, draws, np.random.default_rng(2))
        estimates = numeric_estimates(numeric_values({"": [part]}, weights)[""])
    return _counts(known, site) | _plain(estimates)


def _without_each_site(table: Numbers, known: Known) -> dict[str, Any]:
    """Range of the pooled values when one site after the other is left out; empty with fewer than two sites."""
    sites = np.unique(known.site)
    if sites.size < 2:
        return {}
    parts = {str(site): _part(table, known.site != site) for site in sites}
    points = {site: dict.fromkeys(table.metrics) if part is None else point_scores(part) for site, part in parts.items()}
    content = {}
    for metric in table.metrics:
        without = {site: point[metric] for site, point in points.items()}
        defined = [value for value in without.values() if value is not None]
        ends = (min(defined), max(defined)) if defined else (None, None)
        content[metric] = {"low": ends[0], "high": ends[1], "without": without}
    return content
