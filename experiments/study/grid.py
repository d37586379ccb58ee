"""The grid of a study as settings describe it: which runs there are, and what state each is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.cohort.splits import read_facts
from datamodules.files.listing import list_folder
from experiments.runtime.words import plural
from experiments.study.run_folder import Fingerprint, RunFolder, State
from experiments.study.runs import FOLDS, PlanError, Run, grid
from experiments.study.settings import Settings
from experiments.study.study import Study
from regions.catalog import REGIONS, get_region


def planned_runs(settings: Settings, inputs: str = "", seeds: str = "", folds: int = 0) -> list[Run]:
    """All runs of a study.

    Args:
        settings: All settings.
        inputs: Names separated by commas; empty means the six inputs and the user's own regions.
        seeds: Numbers separated by commas; empty means the setting ``seed``.
        folds: Folds of the opened study, which one that is split by site knows alone; 0: the setting ``folds``.

    Raises:
        PlanError: if a seed is no number.
        UnknownRegionError: if an input does not exist.
    """
    regions = settings.regions
    names = [name.strip() for name in inputs.split(",") if name.strip()] or list(regions)
    for name in names:
        get_region(name, regions)
    return grid(names, seeds_in(seeds) or [settings.values.seed], folds or settings.values.folds, regions)


def seeds_in(text: str) -> list[int]:
    """Seeds separated by commas, as they were written.

    Raises:
        PlanError: if one is not a number.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise PlanError(f"SEEDS={text}: {wrong[0]!r} is not a whole number from 0; write for example SEEDS=0,1,2")
    return [int(word) for word in words]


def states(study: Study, fingerprint: Fingerprint, runs: Sequence[Run]) -> dict[Run, State]:
    """The state of each run."""
    return {run: RunFolder(run.folder(study.folder)).state(fingerprint) for run in runs}


def stale_message(study: Study, fingerprint: Fingerprint, stale: Sequence[Run]) -> str:
    """What to tell when runs of other settings are in the way."""
    differs = ", ".join(fingerprint.differences(RunFolder(stale[0].folder(study.folder)).facts()))
    return (
        f"{plural(len(stale), 'run')} of {study.folder.name} {'is' if len(stale) == 1 else 'are'} stale, made with another "
        f"{differs} (first: {stale[0].name}); choose another STUDY, or add --restart to set them aside"
    )


def inputs_of(folder: Path) -> list[str]:
    """The six inputs, and any further region that the study holds runs of."""
    further = {path.parents[2].name for path in list_folder(folder, "*/fold-*/seed-*/run.json")}
    return [*REGIONS, *sorted(further - set(REGIONS))]


def folds_of(folder: Path) -> int:
    """Folds of the study's split; the usual number where there is no split."""
    path = folder / "splits.tsv"
    return int(read_facts(path)["folds"]) if path.is_file() else FOLDS


def wanted_seeds(folder: Path, inputs: Sequence[str], folds: int, text: str) -> tuple[list[int], list[str]]:
    """The seeds to compare, and what to tell about those left out.

    Args:
        folder: The study.
        inputs: Names of the inputs.
        folds: Number of folds.
        text: Seeds separated by commas; empty means all that are complete, or the first one begun where none is.

    Raises:
        PlanError: if a seed is no number.
    """
    begun: dict[int, int] = {}
    for name in inputs:
        for path in list_folder(folder, f"{name}/fold-*/seed-*/run.json"):
            seed = path.parent.name.removeprefix("seed-")
            if seed.isdecimal() and RunFolder(path.parent).facts().get("state") == "complete":
                begun[int(seed)] = begun.get(int(seed), 0) + 1
    whole = len(inputs) * folds
    complete = sorted(seed for seed, count in begun.items() if count >= whole)
    given = sorted(set(seeds_in(text)))
    if given:
        return given, [f"seed {seed} is left out: it is complete, and SEEDS={text}" for seed in complete if seed not in given]
    if not complete:
        return [max(begun, key=lambda seed: (begun[seed], -seed)) if begun else 0], []
    rest = sorted(set(begun) - set(complete))
    return complete, [f"seed {seed} is left out: {begun[seed]} of {whole} runs are complete" for seed in rest]
