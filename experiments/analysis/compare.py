"""Score all inputs of a study, and each region and each baseline against global, on the same patients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.splits import read_facts, test_to_train
from experiments.analysis.baseline_files import READERS, read_baselines, read_readers, reader_name
from experiments.analysis.comparison import StudyComparison
from experiments.analysis.details import details
from experiments.analysis.ensembles import compare_ensembles
from experiments.analysis.notes import (
    explained_by_tissue,
    left_out,
    made_differently,
    objections,
    run_notes,
    says_nothing,
)
from experiments.analysis.pooling import Pooled, Tables, pool_inputs, shared_folds
from experiments.analysis.robustness import write_robustness
from experiments.analysis.sites import held_over_sites, write_sites
from experiments.analysis.stacking import compare_stacks, parts_of, stack_notes
from experiments.analysis.subgroups import write_subgroups
from experiments.analysis.tissue import read_tissue
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions, check_same_scans
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import Values, draw_patient_weights, family_values, summarise
from experiments.study.record import decision_of, read_record
from experiments.study.run_folder import RunFolder, require_complete
from experiments.study.runs import FOLDS, Run

REFERENCE = "global"


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
    wanted = [Run(name, fold, seed) for seed in seeds for name in inputs for fold in range(folds)]
    used = shared_folds(require_complete(folder, wanted, partial), folder)
    networks = pool_inputs(folder, used)
    first = next(iter(networks.values()))[0].test
    baselines, remarks = read_baselines(folder, next(iter(used.values())))
    readers, reader_remarks = read_readers(folder, used)
    tables = networks | {name: [baseline] for name, baseline in baselines.items()}
    check_same_scans({name: pooled[0].test for name, pooled in tables.items()})
    rng = np.random.default_rng(0)
    weights = draw_patient_weights(first, draws, rng)
    members, beside = _members(networks, baselines)
    linear = _members(networks, readers)[1]
    values = family_values(members | beside | linear, weights)
    families, by_site = _families(members, beside, values, weights, rng), bool(read_facts(folder / "splits.tsv").get("sites"))
    ratio = test_to_train(folds, by_site)
    families, taken_back = held_over_sites(families, tables, ratio) if by_site else (families, [])
    kept = [run for runs in used.values() for run in runs]
    facts = {run: RunFolder(run.folder(folder)).facts() for run in wanted}
    estimates = {name: summarise(tests, weights, values=values[name]) for name, tests in (members | beside | linear).items()}
    paired_readers = _reader_family(members | linear, linear, weights, values)
    decision = decision_of(folder)
    content: dict[str, Any] = {**families, **compare_ensembles(networks, weights, rng, REFERENCE, decision)}
    record = read_record(folder)
    parts = parts_of(networks, record.regions if record else {name: (1,) for name in networks})
    content |= compare_stacks(networks, baselines, weights, values, REFERENCE, decision, parts)
    comparison = StudyComparison(
        study=folder.name,
        seed=seeds[0],
        seeds=list(seeds),
        folds=folds,
        draws=draws,
        scans=len(first.y),
        patients=len(np.unique(first.patient)),
        positives=int(first.y.sum()),
        estimates={name: estimates[name] for name in members},
        baselines={name: estimates[name] for name in beside},
        readers={name: estimates[name] for name in linear},
        paired_readers=paired_readers,
        runs={name: [run.name for run in runs] for name, runs in used.items()},
        predictions={run.name: facts[run]["files"]["predictions.tsv"] for run in kept},
        missing=[run.name for run in wanted if run not in kept],
        notes=[
            *notes,
            *run_notes(facts, kept),
            *remarks,
            *reader_remarks,
            *left_out(folder, used, REFERENCE),
            *made_differently(facts, kept),
            *says_nothing(tables, sorted({run.seed for run in kept})),
            *stack_notes(networks, REFERENCE, parts),
            *explained_by_tissue(paired_readers, estimates, read_tissue(folder)),
            *taken_back,
            *objections([*families["paired"], *families["paired_baselines"]]),
        ],
        details=details(tables, weights, families["paired"], ratio, {name: estimates[name] for name in tables}),
        **content,
    )
    return tables, comparison


def _members(networks: Tables, baselines: Mapping[str, Pooled]) -> tuple[Members, Members]:
    """Test rows of inputs and of baselines; a baseline has no seed and stands beside each of the networks' seeds."""
    seeds = len(next(iter(networks.values())))
    inputs = {name: [pooled.test for pooled in seeds_pooled] for name, seeds_pooled in networks.items()}
    return inputs, {name: [pooled.test] * seeds for name, pooled in baselines.items()}


def _families(
    inputs: Members, beside: Members, values: Mapping[str, Values], weights: WeightArray, rng: np.random.Generator
) -> dict[str, list[Paired]]:
    """Primary, secondary and exploratory families, each with its own Holm adjustment; empty without global or a partner."""

    def family(members: Members, reference: str | None, metric: str, role: str = "") -> list[Paired]:
        if len(members) < 2 or (reference is not None and reference not in members):
            return []
        draws = weights.shape[0]
        return compare_family(
            members, weights, rng, reference=reference, metric=metric, permutations=draws, values=values, role=role
        )

    against = {name: tests for name, tests in inputs.items() if name == REFERENCE} | beside
    return {
        "paired": family(inputs, REFERENCE, "balanced_accuracy"),
        "paired_auc": family(inputs, REFERENCE, "auc", "secondary"),
        "paired_all": family(inputs, None, "balanced_accuracy", "exploratory"),
        "paired_baselines": family(against, REFERENCE, "balanced_accuracy", "baseline"),
        "paired_baselines_auc": family(against, REFERENCE, "auc", "baseline, secondary"),
    }


def _reader_family(
    members: Members, names: Collection[str], weights: WeightArray, values: Mapping[str, Values]
) -> list[Paired]:
    """Each network against the linear readers of its input on the AUC, a Holm family for each reader."""
    family: list[Paired] = []
    for reader in READERS:
        pairs = [(name, reader_name(reader, name)) for name in members if reader_name(reader, name) in names]
        of_pairs = {name: members[name] for pair in pairs for name in pair}
        family += compare_family(
            of_pairs, weights, np.random.default_rng(0), reference=None, metric="auc", permutations=weights.shape[0],
            values=values, role="linear reader", chosen=pairs,
        ) if pairs else []  # fmt: skip
    return family


def write_further(folder: Path, tables: Tables, draws: int) -> None:
    """Write subgroups.json and robustness.json, and sites.json where the study is split by site."""
    write_subgroups(folder, tables, draws)
    write_robustness(folder, tables, draws)
    write_sites(folder, tables, draws)
