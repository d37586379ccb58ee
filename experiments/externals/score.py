"""What an external cohort says of frozen models, and how they changed from the internal test: always external minus internal.

The primary model of an input is the mean of its folds' calibrated probabilities. Internally each scan met one model, externally
the mean of seven: the two are not alike. The change that compares like with like is that from the internal test to the single
models, the mean of their scores; the one to the primary model also holds what averaging gains. Both intervals draw the
patients of the two cohorts independently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from experiments.analysis.pooling import pooled_predictions
from experiments.externals.freeze import calibrated
from experiments.runtime.words import plural
from experiments.statistics.calibration import calibration_line, calibration_scores, reliability_curve
from experiments.statistics.paired import Comparison, compare_family
from experiments.statistics.predictions import FloatArray, Predictions, PredictionsError
from experiments.statistics.resampling import WeightArray, draw_patient_weights
from experiments.statistics.significance import (
    INTERVAL,
    METRICS,
    Estimate,
    Values,
    bootstrap_interval,
    mean_values,
    percentile_interval,
    point_values,
)
from experiments.statistics.unclustered import delong, mcnemar
from experiments.study.runs import Run

REFERENCE = "global"


@dataclass(frozen=True)
class Scored:
    """An input's tables on the external cohort: the primary model, and each fold's own model at its own threshold."""

    ensemble: Predictions
    singles: tuple[Predictions, ...]


@dataclass(frozen=True)
class Known:
    """Who the external scans are: columns in cohort order."""

    patient: npt.NDArray[Any]
    session: npt.NDArray[Any]
    site: npt.NDArray[Any]
    y: npt.NDArray[Any]

    @property
    def strata(self) -> npt.NDArray[Any]:
        """The site of each scan, a patient's scans all at the site of the first."""
        first: dict[str, str] = {}
        return np.array([first.setdefault(patient, site) for patient, site in zip(self.patient, self.site, strict=True)])


def known_of(scans: Sequence[Scan], target: Target = Target()) -> Known:
    """The columns of a cohort's scans."""
    truth = "value" if target.kind == "regression" else "label"
    return Known(*(np.array([getattr(scan, name) for scan in scans]) for name in ("patient", "session", "site", truth)))


def tables_of(entry: Mapping[str, Any], raw: FloatArray, known: Known) -> Scored:
    """The tables of one input.

    Args:
        entry: Its entry of frozen.json.
        raw: (scans, folds) raw probabilities.
        known: Who the scans are.
    """
    models = entry["models"]
    soft = np.stack([calibrated(raw[:, k], model["temperature"]) for k, model in enumerate(models)], axis=1)
    ensemble = _table(known, soft.mean(axis=1), float(entry["threshold"]))
    return Scored(ensemble, tuple(_table(known, raw[:, k], model["threshold"]) for k, model in enumerate(models)))


def _table(known: Known, p: FloatArray, threshold: float) -> Predictions:
    zeros = np.zeros(len(p), dtype=np.int64)
    decision = (p >= threshold).astype(np.int64)
    return Predictions(known.patient, zeros, known.y, p, decision, known.session)


def score(frozen: Mapping[str, Any], study: Path, tables: Mapping[str, Scored], known: Known, draws: int) -> dict[str, Any]:
    """Everything external.json says about the models.

    Args:
        frozen: Content of frozen.json.
        study: The study's folder, for the internal test.
        tables: Input -> its tables.
        known: Who the scans are.
        draws: Bootstrap draws and permutations; their own seed is fixed, so that the table repeats.

    Raises:
        PredictionsError: if the external cohort holds one class only.
    """
    rng = np.random.default_rng(0)
    first = next(iter(tables.values())).ensemble
    weights = draw_patient_weights(first, draws, rng, strata=known.strata)
    inputs = []
    for entry in frozen["inputs"]:
        internal = pooled_predictions(study, [Run(entry["input"], model["fold"], frozen["seed"]) for model in entry["models"]])
        inside = mean_values(internal, draw_patient_weights(internal, draws, np.random.default_rng(1)))
        inputs.append(_input(entry, tables[entry["input"]], inside, weights, known))
    repeats = first.y.size - first.patients.size
    again = plural(repeats, "repeated scan")
    remark = f"not used: {again} of patients" if repeats else "one scan a patient: DeLong and McNemar apply"
    return {
        "draws": draws,
        "scans": int(first.y.size),
        "patients": int(first.patients.size),
        "positives": int(first.y.sum()),
        "sites": [_counts(known, site) for site in np.unique(known.site)],
        "interval": f"{INTERVAL}; stratified by site and label",
        "inputs": inputs,
        "paired": _paired(tables, weights, rng, draws, alone=not repeats),
        "independent_tests": remark,
        "same_decisions": [
            f"{name} decides the same for every scan{f' of site {site}' if site else ''}"
            for name, table in tables.items()
            for site in constant_sites(table.ensemble, known)
        ],
    }


def constant_sites(table: Predictions, known: Known) -> list[str]:
    """Sites of two or more scans that all got one decision; an empty name where this holds for the whole cohort."""
    if np.ptp(table.decision) == 0:
        return [""]
    sites = [(site, table.decision[known.site == site]) for site in np.unique(known.site)]
    return [str(site) or "unknown" for site, decisions in sites if decisions.size > 1 and np.ptp(decisions) == 0]


def _input(entry: Mapping[str, Any], scored: Scored, inside: Values, weights: WeightArray, known: Known) -> dict[str, Any]:
    singles, ensemble = mean_values(scored.singles, weights), mean_values(scored.ensemble, weights)
    points = [point_values(table) for table in scored.singles]
    return {
        "input": entry["input"],
        "threshold": entry["threshold"],
        "networks": {"internal": 1, "single": 1, "ensemble": len(scored.singles)},
        "ensemble": {metric: _plain(_estimate(*ensemble[metric])) for metric in METRICS},
        "single": {metric: _spread([point[metric] for point in points], singles[metric]) for metric in METRICS},
        "internal": {metric: _plain(_estimate(*inside[metric])) for metric in METRICS},
        "change": {metric: _plain(change(singles[metric], inside[metric])) for metric in METRICS},
        "change_to_ensemble": {metric: _plain(change(ensemble[metric], inside[metric])) for metric in METRICS},
        "calibration": _calibration(scored.ensemble, weights),
        "sites": [_site(scored.ensemble, known, site, len(weights)) for site in np.unique(known.site)],
        "leave_one_site_out": _without_each_site(scored.ensemble, known),
    }


def _estimate(value: float | None, drawn: FloatArray) -> Estimate:
    return Estimate(value, *(percentile_interval(drawn) if value is not None else (None, None)))


def change(outside: tuple[float | None, FloatArray], inside: tuple[float | None, FloatArray]) -> Estimate:
    """External minus internal, two cohorts drawn independently: value and draws of each."""
    if inside[0] is None or outside[0] is None:
        return Estimate(None, None, None)
    return Estimate(outside[0] - inside[0], *percentile_interval(outside[1] - inside[1]))


def sites_words(sites: Sequence[Mapping[str, Any]]) -> str:
    """How many sites there are, and how many scans are of none that is known."""
    known, lost = [site for site in sites if site["site"]], sum(site["scans"] for site in sites if not site["site"])
    words = [plural(len(known), "site")] if known or not lost else []
    return " and ".join([*words, f"{plural(lost, 'scan')} of unknown site"] if lost else words)


def like_for_like(entry: Mapping[str, Any]) -> str:
    """How many networks stand behind each side of an input's change, in one sentence."""
    count = len(next(iter(entry["single"].values()))["values"])
    return (
        "The change compares 1 network a scan on both sides: in the internal test the one that did not train on the scan, here "
        f"the mean of the {count} networks' scores; their ensemble averages {count} networks and has no internal counterpart."
    )


def _spread(values: Sequence[float | None], mean: tuple[float | None, FloatArray]) -> dict[str, Any]:
    """Mean and SD over the folds' models; the interval is that of their mean, over patients."""
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    estimate = _estimate(*mean)
    return {"mean": estimate.value, "sd": sd, "values": list(values), "low": estimate.low, "high": estimate.high}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _calibration(table: Predictions, weights: WeightArray) -> dict[str, Any]:
    content: dict[str, Any] = {name: _plain(estimate) for name, estimate in calibration_scores(table, weights).items()}
    try:
        content |= asdict(calibration_line(table)) | {"undefined": None}
    except PredictionsError as error:
        content |= {"in_the_large": None, "intercept": None, "slope": None, "undefined": str(error)}
    return content | {"reliability": [asdict(part) for part in reliability_curve(table)]}


def _counts(known: Known, site: str) -> dict[str, Any]:
    rows = known.site == site
    patients = int(np.unique(known.patient[rows]).size)
    return {"site": str(site), "scans": int(rows.sum()), "patients": patients, "positives": int(known.y[rows].sum())}


def _part(table: Predictions, rows: npt.NDArray[np.bool_]) -> Predictions | None:
    """Some rows of a table, None where they hold one class only."""
    if np.unique(table.y[rows]).size < 2:
        return None
    names = ("patient", "fold", "y", "p", "decision", "session")
    return Predictions(**{name: getattr(table, name)[rows] for name in names})


def _site(table: Predictions, known: Known, site: str, draws: int) -> dict[str, Any]:
    part = _part(table, known.site == site)
    estimates = {metric: Estimate(None, None, None) for metric in METRICS}
    if part is not None:
        estimates = dict(bootstrap_interval(part, draw_patient_weights(part, draws, np.random.default_rng(2))))
    return _counts(known, site) | {metric: _plain(estimates[metric]) for metric in METRICS}


def _without_each_site(table: Predictions, known: Known) -> dict[str, Any]:
    """Range of the pooled values when one site after the other is left out; empty with fewer than two sites."""
    sites = np.unique(known.site)
    if sites.size < 2:
        return {}
    values: dict[str, dict[str, float | None]] = {metric: {} for metric in METRICS}
    for site in sites:
        part = _part(table, known.site != site)
        points = point_values(part) if part is not None else dict.fromkeys(METRICS)
        for metric in METRICS:
            values[metric][str(site)] = points[metric]
    content = {}
    for metric, without in values.items():
        known_values = [value for value in without.values() if value is not None]
        ends = (min(known_values), max(known_values)) if known_values else (None, None)
        content[metric] = {"low": ends[0], "high": ends[1], "without": without}
    return content


def _paired(
    tables: Mapping[str, Scored], weights: WeightArray, rng: np.random.Generator, draws: int, alone: bool
) -> list[dict[str, Any]]:
    """Each region against the whole brain, the primary models; DeLong and McNemar where every patient has one scan."""
    if REFERENCE not in tables or len(tables) < 2:
        return []
    ensembles = {name: table.ensemble for name, table in tables.items()}
    family = compare_family(ensembles, weights, rng, reference=REFERENCE, permutations=draws, role="external")
    return [asdict(pair) | _independent(pair, ensembles, alone) for pair in family]


def _independent(pair: Comparison, ensembles: Mapping[str, Predictions], alone: bool) -> dict[str, Any]:
    if not alone:
        return {"delong": None, "mcnemar": None}
    first, second = ensembles[pair.first], ensembles[pair.second]
    try:
        area: dict[str, Any] | None = asdict(delong(first, second))
    except PredictionsError:  # two scans of a class are missing, or both inputs order the scans alike: there is no such test
        area = None
    return {"delong": area, "mcnemar": {name: asdict(test) for name, test in mcnemar(first, second).items()}}
