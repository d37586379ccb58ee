"""What a reader must know beside the tables: what was left out, what was made in several ways, and what says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.files.listing import list_folder
from experiments.analysis.baseline_files import PRESENCE, TISSUE, reader_name
from experiments.analysis.pooling import Tables
from experiments.analysis.tissue import NEIGHBOURS, by_class
from experiments.statistics.chance import WORDS, against_chance
from experiments.statistics.constant import constant_folds, is_silent
from experiments.statistics.paired import Comparison
from experiments.statistics.significance import Estimate
from experiments.study.grid import inputs_of
from experiments.study.run_folder import RunFolder, failure
from experiments.study.runs import Run

BY_DESIGN = ("prevalence",)
"""Baselines that give one probability to all scans of a fold."""
NAMED = 6
"""Runs that a sentence names."""
MADE_WITH: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "commits": lambda facts: str(facts.get("git_commit") or "unknown")[:10],
    "versions of torch": lambda facts: facts.get("versions", {}).get("torch", "unknown"),
    "numbers of threads": lambda facts: facts.get("threads", "unknown"),
    "devices": lambda facts: facts.get("device_name") or facts.get("device", "unknown"),
    "processors": lambda facts: facts.get("processor", "unknown"),
}


def run_notes(facts: Mapping[Run, Mapping[str, Any]], used: Sequence[Run]) -> list[str]:
    """Runs that failed, that start from later weights, or whose network beats no constant on its tuning part.

    The last are results like any other: in a cohort without an effect most networks are such.

    Args:
        facts: All runs that the comparison asks for -> content of run.json.
        used: Those that it is made from.
    """
    notes = [f"{run.name} {failure(found)}" for run, found in facts.items() if failure(found)]
    redrawn = [run for run in used if facts[run].get("initialisation")]
    if redrawn:
        notes.append(
            f"{len(redrawn)} of {len(used)} networks started from later weights of the seed, since the output of the first did "
            f"not depend on the scan: {_listed(redrawn)}"
        )
    constant = [run for run in used if _beats_no_constant(facts[run])]
    if constant:
        rival = "training mean does (MAE)" if "tuning_mae" in facts[constant[0]] else "prevalence does (log loss)"
        notes.append(
            f"{len(constant)} of {len(used)} networks predict their tuning part no better than the {rival}: {_listed(constant)}"
        )
    return notes


def _beats_no_constant(facts: Mapping[str, Any]) -> bool:
    loss = facts.get("tuning_log_loss", facts.get("tuning_mae"))
    constant = facts.get("tuning_log_loss_of_prevalence", facts.get("tuning_mae_of_mean"))
    return loss is not None and constant is not None and loss >= constant


def _listed(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs[:NAMED]) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")


def left_out(folder: Path, used: Mapping[str, Sequence[Run]], reference: str) -> list[str]:
    """The inputs that have complete runs and are not compared, and what that does to the primary family."""
    names = [name for name in inputs_of(folder) if name not in used and _has_complete_run(folder, name)]
    if not names:
        return []
    family = len([name for name in used if name != reference])
    verb = "has complete runs and is" if len(names) == 1 else "have complete runs and are"
    size = f": Holm adjusts for {family} of {family + len(names)} comparisons with {reference}" if reference in used else ""
    return [f"{', '.join(names)} {verb} left out{size}"]


def _has_complete_run(folder: Path, name: str) -> bool:
    paths = list_folder(folder, f"{name}/fold-*/seed-*/run.json")
    return any(RunFolder(path.parent).facts().get("state") == "complete" for path in paths)


def explained_by_tissue(
    pairs: Sequence[Comparison], estimates: Mapping[str, Mapping[str, Estimate]], tissue: Mapping[str, Any]
) -> list[str]:
    """The regions whose result may be the size of something: tissue shares alone do as well, and both are above chance.

    Args:
        pairs: Networks against the linear readers of their inputs.
        estimates: Input or ``<reader>/<input>`` -> metric -> estimate.
        tissue: Content of tissue.json.
    """
    rows = {row["input"]: row for row in tissue["inputs"] if row["size"]}
    notes = []
    for pair in pairs:
        name, alone = pair.first, estimates[pair.second]["auc"]
        if name not in rows or pair.second != reader_name(TISSUE, name):
            continue
        is_better = (pair.difference.low or 0) > 0 and pair.verdict.startswith("different")
        if is_better or any(against_chance(auc) != WORDS[0] for auc in (alone, estimates[name]["auc"])):
            continue
        notes.append(
            f"region {name}: the result may be {rows[name]['size']}: its tissue share alone reaches AUC {alone.value:.2f} "
            f"[{alone.low:.2f}, {alone.high:.2f}], and the network is not shown to be better; {by_class(rows[name])}"
            + ("; make core shows the region without its neighbours" if rows[name]["size"] in NEIGHBOURS.values() else "")
        )
    return notes


def told_by_presence(estimates: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """A sentence where the images that a scan has tell its class by themselves, since networks see which are there."""
    auc = estimates.get(PRESENCE, {}).get("auc")
    if auc is None or against_chance(auc) != WORDS[0]:
        return []
    return [
        f"which images a scan has tells its class: AUC {auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]; networks see which are "
        "there, so what they reach may be that: subgroups.json has the scans with all images alone"
    ]


def made_differently(facts: Mapping[Run, Mapping[str, Any]], used: Sequence[Run]) -> list[str]:
    """One sentence for each property in which the compared runs differ: commit, torch, threads, device, processor."""
    notes = []
    for title, value_of in MADE_WITH.items():
        counts = Counter(str(value_of(facts[run])) for run in used)
        if len(counts) > 1:
            listed = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
            notes.append(f"the {len(used)} runs were made with several {title}: {listed}")
    return notes


def says_nothing(tables: Tables, seeds: Sequence[int]) -> list[str]:
    """The folds in which an input gave one probability, or one decision, to all scans; inputs compared with nothing."""
    notes = []
    for name, by_seed in tables.items():
        for seed, pooled in zip(seeds, by_seed, strict=False):
            whose = name if len(by_seed) == 1 else f"{name}, seed {seed},"
            if name in BY_DESIGN:
                continue
            same = constant_folds(pooled.test)
            for fold in same:
                notes.append(f"fold {fold} of {whose} gave one probability to all its {np.sum(pooled.test.fold == fold)} scans")
            decided = [fold for fold in constant_folds(pooled.test, "balanced_accuracy") if fold not in same]
            notes += [f"{whose.rstrip(',')} decides the same for every scan of {_folds(decided)}"] if decided else []
            if is_silent(pooled.test, "balanced_accuracy"):
                each = "each fold" if len({*same, *decided}) == np.unique(pooled.test.fold).size else "most folds"
                notes.append(f"{whose.rstrip(',')} gave all scans of {each} one decision: it is compared with nothing")
    return notes


def _folds(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


def objections(pairs: Sequence[Comparison]) -> list[str]:
    """Why pairs whose interval lies inside the margin are not called equivalent."""
    by_reason: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.objection:
            by_reason.setdefault(pair.objection, []).append(pair.first)
    return [f"{', '.join(names)} not called equivalent: {reason}" for reason, names in by_reason.items()]
