"""Score all inputs of a study that predicts a number, and each region and each baseline against global, patient by patient."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.baseline_files import read_baselines, read_readers
from experiments.analysis.compare import DRAWS
from experiments.analysis.comparison import StudyComparison
from experiments.analysis.families import REFERENCE, families, reader_family
from experiments.analysis.frame import Frame
from experiments.analysis.pooling import number_inputs, pool_numbers
from experiments.statistics.chance import against_chance, widened
from experiments.statistics.constant import constant_folds, is_silent
from experiments.statistics.numeric import Numbers, fold_scores, has_few, point_scores
from experiments.statistics.numeric_pairs import PRIMARY, SECONDARY, compare_numbers, numeric_estimates, numeric_values
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import corrected_t
from experiments.statistics.resampling import WeightArray, draw_patient_weights
from experiments.statistics.seeds import seed_report
from experiments.statistics.significance import Estimate
from experiments.study.parts import read_parts
from experiments.study.runs import FOLDS, Run

Tables = dict[str, list[Numbers]]


def compared_numbers(
    folder: Path,
    inputs: Sequence[str],
    seeds: Sequence[int],
    folds: int = FOLDS,
    draws: int = DRAWS,
    partial: bool = False,
    notes: Sequence[str] = (),
) -> tuple[Tables, StudyComparison]:
    """As ``experiments.analysis.compare.compared``, where a number is predicted."""
    frame = Frame.of(folder, inputs, seeds, folds, partial)
    networks = number_inputs(folder, frame.used)
    first = next(iter(networks.values()))[0]
    baselines, remarks = read_baselines(folder, next(iter(frame.used.values())), pool_numbers)
    readers, reader_remarks = read_readers(folder, frame.used, pool_numbers)
    beside, linear = ({name: [table] * len(seeds) for name, table in tables.items()} for tables in (baselines, readers))
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(first, draws, rng)
    values = numeric_values(networks | beside | linear, weights)
    estimates = {name: numeric_estimates(values[name], tables) for name, tables in (networks | beside | linear).items()}
    compared_by = functools.partial(compare_numbers, weights=weights, values=values, permutations=draws)
    found = families(compared_by, networks, beside, rng, PRIMARY, SECONDARY)
    target = read_parts(folder).target
    content: dict[str, Any] = {**found, **_ensembles(networks, weights, rng)}
    comparison = StudyComparison(
        draws=draws,
        scans=first.y.size,
        patients=first.patients.size,
        positives=0,
        target={"kind": target.kind, "name": target.name, "unit": target.score_unit, "steps": target.steps},
        paired_readers=reader_family(compared_by, networks | linear, linear, SECONDARY),
        notes=[*notes, *frame.notes([*remarks, *reader_remarks]), *_constant(networks, frame.used)],
        details=_details(networks | beside, estimates, found["paired"], folds),
        **frame.plain(estimates, networks, beside, linear),
        **content,
    )
    return networks | beside, comparison


def _ensembles(networks: Tables, weights: WeightArray, rng: np.random.Generator) -> dict[str, Any]:
    """The mean of the seeds' numbers, compared with one another; nothing with one seed."""
    if any(len(seeds) < 2 for seeds in networks.values()):
        return {}
    means = {name: [replace(seeds[0], p=np.mean([seed.p for seed in seeds], axis=0))] for name, seeds in networks.items()}
    values = numeric_values(means, weights)
    content: dict[str, Any] = {"ensembles": {name: numeric_estimates(values[name], tables) for name, tables in means.items()}}
    if REFERENCE in means and len(means) > 1:
        for name, metric, role in (("", PRIMARY, "ensembles"), ("_auc", SECONDARY, "ensembles, secondary")):
            content[f"paired_ensembles{name}"] = compare_numbers(
                means, weights, rng, values, metric=metric, permutations=len(weights), role=role
            )
    return content


def _constant(networks: Tables, used: Mapping[str, Sequence[Run]]) -> list[str]:
    """The folds in which an input gave one number to all scans, seed by seed where there are several."""
    return [
        f"fold {fold} of {name if len(tables) == 1 else f'{name}, seed {seed},'} gave one number to all its "
        f"{np.sum(table.fold == fold)} scans"
        for name, tables in networks.items()
        for seed, table in zip(dict.fromkeys(run.seed for run in used[name]), tables, strict=True)
        for fold in constant_folds(table)
    ]


def _details(
    tables: Tables, estimates: Mapping[str, Mapping[str, Estimate]], paired: Sequence[Paired], folds: int
) -> dict[str, Any]:
    by_fold = {name: fold_scores(seeds) for name, seeds in tables.items()}
    return {
        "chance": {name: _chance(estimates[name][SECONDARY], seeds) for name, seeds in tables.items()},
        "fold_values": {name: {m: list(column.values()) for m, column in scores.items()} for name, scores in by_fold.items()},
        "corrected_t": [row for pair in paired if (row := _corrected(by_fold, pair, folds)) is not None],
        "seeds": _seeds({name: seeds for name, seeds in tables.items() if seeds[1:] and seeds[0] is not seeds[1]}),
    }


def _chance(spearman: Estimate, seeds: Sequence[Numbers]) -> dict[str, Any]:
    """Spearman's interval widened for overlapping training parts, and whether it lies above 0."""
    wide = widened(spearman)
    words = against_chance(spearman, is_silent(seeds, "auc"), has_few(seeds[0]), chance=0.0)
    return {"spearman_low": wide.low, "spearman_high": wide.high, "words": words}


def _corrected(
    by_fold: Mapping[str, Mapping[str, Mapping[int, float | None]]], pair: Paired, folds: int
) -> dict[str, Any] | None:
    a, b = (by_fold[name][pair.metric].values() for name in (pair.first, pair.second))
    gaps = [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if len(gaps) < 2 or np.ptp(gaps) == 0:
        return None
    test = corrected_t(gaps, 1 / (folds - 2))
    return {"first": pair.first, "second": pair.second, "metric": pair.metric, **asdict(test)}


def _seeds(networks: Tables) -> dict[str, Any] | None:
    """Spread and rank order over seeds; None with one seed. Rank 1 is the highest value, of the MAE the worst."""
    if not networks:
        return None
    out: dict[str, Any] = {}
    for metric in (PRIMARY, SECONDARY):
        values = {name: [point_scores(seed)[metric] or 0.0 for seed in seeds] for name, seeds in networks.items()}
        out[metric] = asdict(seed_report(values)) | {"values": values}
    return out
