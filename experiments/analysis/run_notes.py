"""What a reader of the comparison must know about its trainings, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.study.run_folder import RunFolder, failure
from experiments.study.runs import Run

NAMED = 6
"""Runs that a sentence names."""


def run_notes(folder: Path, wanted: Sequence[Run], used: Sequence[Run]) -> list[str]:
    """Runs that failed, that start from later weights, or whose network beats no constant on its tuning part.

    The last are results like any other: in a cohort without an effect most networks are such.

    Args:
        folder: The study.
        wanted: All runs that the comparison asks for.
        used: Those that it is made from.
    """
    facts = {run: RunFolder(run.folder(folder)).facts() for run in dict.fromkeys([*wanted, *used])}
    notes = [f"{run.name} {failure(found)}" for run, found in facts.items() if failure(found)]
    redrawn = [run for run in used if facts[run].get("initialisation")]
    if redrawn:
        notes.append(
            f"of {len(used)} networks {len(redrawn)} started from later weights of the seed, since the output of the first did "
            f"not depend on the scan: {_listed(redrawn)}"
        )
    constant = [run for run in used if _beats_no_constant(facts[run])]
    if constant:
        notes.append(
            f"of {len(used)} networks {len(constant)} predict their tuning part no better than the prevalence does (log "
            f"loss): {_listed(constant)}"
        )
    return notes


def _beats_no_constant(facts: Mapping[str, Any]) -> bool:
    loss, constant = facts.get("tuning_log_loss"), facts.get("tuning_log_loss_of_prevalence")
    return loss is not None and constant is not None and loss >= constant


def _listed(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs[:NAMED]) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")
