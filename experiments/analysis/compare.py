"""Score all inputs of a study, and each region and each baseline against global, on the same patients."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.splits import read_facts, test_to_train
from experiments.analysis.baseline_files import read_baselines, read_readers
from experiments.analysis.comparison import StudyComparison
from experiments.analysis.details import details
from experiments.analysis.ensembles import compare_ensembles, ensembles_of
from experiments.analysis.families import REFERENCE, families, reader_family
from experiments.analysis.frame import Frame
from experiments.analysis.notes import (
    explained_by_tissue,
    objections,
    says_nothing,
    told_by_presence,
)
from experiments.analysis.pooling import Pooled, Tables, pool_inputs
from experiments.analysis.robustness import write_robustness
from experiments.analysis.sites import held_over_sites, write_sites
from experiments.analysis.stacking import compare_stacks, parts_of, regions_together, row_of, stack_notes
from experiments.analysis.subgroups import write_subgroups
from experiments.analysis.tissue import read_tissue
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions, check_same_scans
from experiments.statistics.significance import draw_patient_weights, family_values, summarise
from experiments.study.record import decision_of, read_record
from experiments.study.runs import FOLDS

DRAWS = 10_000


Members = dict[str, list[Predictions]]


def compare(
    folder: Path, inputs: Sequence[str], seed: int = 0, folds: int = FOLDS, draws: int = DRAWS, partial: bool = False
) -> StudyComparison:
    """Score all inputs of a study with one seed; see ``compared``."""
    return compared(folder, inputs, [seed], folds, draws, partial)[1]


def compared(
    folder: Path,
    inputs: Sequence[str],
    seeds: Sequence[int],
    folds: int = FOLDS,
    draws: int = DRAWS,
    partial: bool = False,
    notes: Sequence[str] = (),
) -> tuple[dict[str, list[Pooled]], StudyComparison]:
    """Score all inputs of a study, and each region and each baseline against global.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        seeds: Which runs; with several, every value is the mean over seeds, and beside it stand the seeds' ensembles.
        folds: Number of folds.
        draws: Bootstrap draws and permutations; their own seed is fixed, so that the table repeats.
        partial: Score what is complete; the inputs are then cut to the folds that all of them have.
        notes: What to tell beside the table.

    Returns:
        The rows behind the table (inputs and baselines), and what was found.

    Raises:
        ResultsError: if runs are missing, stale or mixed.
        PredictionsError: if two inputs did not score the same scans.
    """
    frame = Frame.of(folder, inputs, seeds, folds, partial)
    networks = pool_inputs(folder, frame.used)
    first = next(iter(networks.values()))[0].test
    baselines, remarks = read_baselines(folder, next(iter(frame.used.values())))
    readers, reader_remarks = read_readers(folder, frame.used)
    tables = networks | {name: [baseline] for name, baseline in baselines.items()}
    check_same_scans({name: pooled[0].test for name, pooled in tables.items()})
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(first, draws, rng)
    members, beside = _members(networks, baselines)
    linear = _members(networks, readers)[1]
    everyone = members | beside | linear
    values = family_values(everyone, weights)
    compared_by = functools.partial(compare_family, weights=weights, values=values, permutations=draws)
    found = families(compared_by, members, beside, rng, "balanced_accuracy", "auc")
    by_site = bool(read_facts(folder / "splits.tsv").get("sites"))
    ratio = test_to_train(folds, by_site)
    found, taken_back = held_over_sites(found, tables, ratio) if by_site else (found, [])
    estimates = {name: summarise(tests, weights, values=values[name]) for name, tests in everyone.items()}
    paired_readers = reader_family(compared_by, members | linear, linear, "auc")
    decision = decision_of(folder)
    ensembles = ensembles_of(networks, decision)
    content: dict[str, Any] = {**found, **compare_ensembles(ensembles, weights, rng, REFERENCE)}
    record = read_record(folder)
    parts = parts_of(networks, record.regions if record else {name: (1,) for name in networks})
    row = row_of(parts, frame.images)
    together = regions_together(networks, REFERENCE, decision, parts)
    content |= compare_stacks(networks, baselines, weights, values, REFERENCE, decision, together, row)
    if by_site:
        for family, of_family in (("paired_ensembles", ensembles), ("paired_stacked", {**networks, row: together})):
            held, more = held_over_sites({family: content.get(family, [])}, of_family, ratio)
            content |= held
            taken_back += [f"ensembles: {note}" if family == "paired_ensembles" else note for note in more]
    comparison = StudyComparison(
        draws=draws,
        scans=len(first.y),
        patients=len(np.unique(first.patient)),
        positives=int(first.y.sum()),
        paired_readers=paired_readers,
        notes=[
            *notes,
            *frame.notes([*remarks, *reader_remarks]),
            *says_nothing(tables, sorted({run.seed for run in frame.kept})),
            *stack_notes(networks, REFERENCE, parts, row),
            *told_by_presence(estimates),
            *explained_by_tissue(paired_readers, estimates, read_tissue(folder)),
            *taken_back,
            *objections([*found["paired"], *found["paired_baselines"]]),
        ],
        details=details(tables, weights, found["paired"], ratio, {name: estimates[name] for name in tables}),
        **frame.plain(estimates, members, beside, linear),
        **content,
    )
    return tables, comparison


def _members(networks: Tables, baselines: Mapping[str, Pooled]) -> tuple[Members, Members]:
    """Test rows of inputs and of baselines; a baseline has no seed and stands beside each of the networks' seeds."""
    seeds = len(next(iter(networks.values())))
    inputs = {name: [pooled.test for pooled in seeds_pooled] for name, seeds_pooled in networks.items()}
    return inputs, {name: [pooled.test] * seeds for name, pooled in baselines.items()}


def write_further(folder: Path, tables: Tables, draws: int) -> None:
    """Write subgroups.json and robustness.json, and sites.json where the study is split by site."""
    write_subgroups(folder, tables, draws)
    write_robustness(folder, tables, draws)
    write_sites(folder, tables, draws)
