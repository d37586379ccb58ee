"""A study that has begun goes on with what it was begun with: its record as words of a command line, before those given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datamodules.cohort.images import DEFAULT_IMAGES
from experiments.study.arguments import StudyChoice, split
from experiments.study.record import StudyRecord, read_record
from experiments.study.runs import named_like

DEMO_COHORT = StudyChoice.cohort
"""The cohort where none is named."""
STORE = Path("store")
"""The store where none is named."""


def with_recorded(words: Sequence[str]) -> list[str]:
    """A command line behind what its study was begun with; words that are given win.

    Cohort, store, label, split, regions and mask mode are those of study.yaml, if the study's name is given and no cohort, or
    the cohort that the study was begun with. A settings file says all by itself.

    Raises:
        CohortError: if study.yaml is damaged.
    """
    names = {word.partition("=")[0] for word in words}
    choice, _ = split(StudyChoice, words)
    if "--config" in names or not names & {"--study", "--cohort"}:
        return [*words]
    record = read_record(choice.studies / named_like(choice.study, choice.cohort))
    if record is None or ("--cohort" in names and choice.cohort.resolve() != record.cohort):
        return [*words]
    return [*recorded_words(record), *words]


def recorded_words(record: StudyRecord) -> list[str]:
    """A study's record as settings on a command line, but for the cohort and the store that no word needs to name."""
    values: dict[str, Any] = {
        "cohort": None if record.cohort == DEMO_COHORT.resolve() else record.cohort,
        "store": None if record.store == STORE.resolve() else record.store,
        "broken": record.broken,
        "alike_ids": record.alike_ids,
        "folds": record.folds,
        "split_seed": record.split_seed,
        "voxel_mm": record.voxel_mm or None,
        "images": ",".join(record.images) if record.images != DEFAULT_IMAGES else None,
        "optional_images": ",".join(record.optional) or None,
        "regions": record.regions_file,
        "data.mask_mode": record.mask.mode,
        "data.dilate_mm": record.mask.dilate_mm if record.mask.mode == "template-dilated" else None,
    }
    values |= {f"label.{name}": _written(value) for name, value in record.label.plain().items()}
    values |= {f"split.{name}": value for name, value in asdict(record.split).items()}
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def _written(value: Any) -> Any:
    """A value as an option takes it: a list of names or of numbers in brackets."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value
