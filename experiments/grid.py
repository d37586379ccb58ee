"""The grid of a study as settings describe it: which runs there are, and what state each is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.plan import PlanError, Run, grid
from experiments.results import RunFolder, State
from regions.catalog import REGIONS, get_region, load_regions

if TYPE_CHECKING:
    from experiments.results import Fingerprint
    from experiments.settings import Settings
    from experiments.study import Study


def planned_runs(settings: Settings, inputs: str = "", seeds: str = "") -> list[Run]:
    """All runs of a study.

    Args:
        settings: All settings.
        inputs: Names separated by commas; empty means the six inputs and the user's own regions.
        seeds: Numbers separated by commas; empty means the setting ``seed``.

    Raises:
        PlanError: if a seed is no number.
        UnknownRegionError: if an input does not exist.
    """
    own = load_regions(settings.values.regions) if settings.values.regions else {}
    names = [name.strip() for name in inputs.split(",") if name.strip()] or [*REGIONS, *own]
    for name in names:
        get_region(name, own=own)
    numbers = [text.strip() for text in seeds.split(",") if text.strip()] or [str(settings.values.seed)]
    wrong = [text for text in numbers if not text.isdecimal()]
    if wrong:
        raise PlanError(f"SEEDS={seeds}: {wrong[0]!r} is not a whole number from 0; write for example SEEDS=0,1,2")
    return grid(names, [int(text) for text in numbers], settings.values.folds)


def states(study: Study, fingerprint: Fingerprint, runs: Sequence[Run]) -> dict[Run, State]:
    """The state of each run."""
    return {run: RunFolder(run.folder(study.folder)).state(fingerprint) for run in runs}


def stale_message(study: Study, fingerprint: Fingerprint, stale: Sequence[Run]) -> str:
    """What to tell when runs of other settings are in the way."""
    differs = ", ".join(fingerprint.differences(RunFolder(stale[0].folder(study.folder)).facts()))
    return (
        f"{len(stale)} runs of {study.folder.name} were made with another {differs} (first: {stale[0].name}); "
        "choose another STUDY, or add --restart to set them aside"
    )
