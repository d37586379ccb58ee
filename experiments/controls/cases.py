"""What each control trains on: which scans, which labels, which split, and what of the images is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from datamodules.batches.control_inputs import Content
from datamodules.cohort.covariates import number_of, text_of
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import SplitError, Splits, make_splits
from datamodules.cohort.target import Target
from datamodules.store.prepared import PreparedCohort
from experiments.controls.control_masks import complement_mask, random_mask
from experiments.controls.plan import ControlRun
from experiments.study.permuted import permuted
from experiments.study.study import Study
from regions.catalog import Region
from regions.errors import UserError

HIGH_FIELD_T = 2.5


class NotRunError(UserError):
    """A control that this cohort cannot answer; the message says why."""


@dataclass(frozen=True)
class Case:
    """Data of one control training.

    ``groups`` is what the split keeps together, a patient unless it leaks. Where it ``remembers``, the network is one that can
    tell every training scan from every other (`experiments.controls.networks.VoxelMemory`).
    ``scores`` are those behind the labels, None where the target has none.
    """

    scans: tuple[Scan, ...]
    prepared: PreparedCohort
    groups: tuple[str, ...]
    labels: tuple[int, ...]
    splits: Splits
    region: Region
    mask: npt.NDArray[np.bool_] | None = None
    content: Content = "image"
    remembers: bool = False
    scores: tuple[float, ...] | None = None


def case_of(study: Study, run: ControlRun, region: Region, mask_mode: str, dilate_mm: float, seed: int) -> Case:
    """The data of a control training.

    Args:
        study: The study, its volumes as coarse as the controls want them.
        run: Which control.
        region: Its input.
        mask_mode: How the study cuts its regions.
        dilate_mm: How far ``template-dilated`` grows.
        seed: Seed of permutations and random regions.

    Raises:
        NotRunError: if the cohort cannot answer this control.
    """
    scans = study.cohort.scans
    honest = tuple(scan.patient for scan in scans)
    target = study.cohort.rule
    base = with_targets(Case(scans, study.prepared, honest, (), study.splits, region), scans, target)
    grid = study.prepared.grid
    if run.control == "permuted":
        return with_targets(base, permuted(scans, study.splits, np.random.default_rng([seed, 1, run.repeat])), target)
    if run.control == "mask_only":
        return replace(base, content="mask")
    if run.control == "shuffled":
        return replace(base, content="shuffled")
    if run.control == "random_region":
        return replace(base, mask=random_mask(region, grid, mask_mode, dilate_mm, np.random.default_rng([seed, 2])))
    if run.control == "complement":
        if mask_mode == "subject":
            rest = tuple(sorted(set(range(1, 256)) - set(region.labels)))
            return replace(base, region=Region(f"not_{region.name}", rest, f"all but {region.name}", "control"))
        return replace(base, mask=complement_mask(region, grid, mask_mode, dilate_mm))
    if run.control in ("sex", "field_strength"):
        if study.cohort.rule.owns(run.control):
            raise NotRunError(f"{run.control.replace('_', ' ')} is what the study itself predicts")
        return _other_label(base, sex_of if run.control == "sex" else high_field_of, run.control)
    if run.control == "leaky":
        leaky = replace(_leaky(base, target), remembers=True)
        return leaky if run.repeat == 0 else replace(base, remembers=True)
    return base


def with_targets(base: Case, sources: Sequence[Scan], target: Target) -> Case:
    """The case with the label, and what a training learns from beside it, of another scan for each of its own."""
    scores = target.scores_of(sources)
    return replace(base, labels=tuple(scan.label for scan in sources), scores=None if scores is None else tuple(scores))


def sex_of(scan: Scan) -> int | None:
    """1 for male, 0 for female, None where it is unknown."""
    return {"F": 0, "M": 1}.get(text_of(scan.covariates, "sex"))


def high_field_of(scan: Scan) -> int | None:
    """1 for a field of 2.5 T and more, 0 below, None where it is unknown."""
    field = number_of(text_of(scan.covariates, "field_strength"))
    return None if np.isnan(field) else int(field >= HIGH_FIELD_T)


def _other_label(base: Case, label_of: Callable[[Scan], int | None], what: str) -> Case:
    labels = {row: label for row, scan in enumerate(base.scans) if (label := label_of(scan)) is not None}
    rows = list(labels)
    name = what.replace("_", " ")
    if len(rows) < len(base.scans) / 2:
        raise NotRunError(f"{name} is known of {len(rows)} of {len(base.scans)} scans; add it to the cohort's table")
    for value in (0, 1):
        patients = {base.scans[row].patient for row in rows if labels[row] == value}
        if len(patients) < base.splits.folds:
            raise NotRunError(f"one {name} has {len(patients)} patients, each of {base.splits.folds} folds needs one")
    return replace(
        base,
        scans=tuple(base.scans[row] for row in rows),
        prepared=base.prepared.of_rows(rows),
        groups=tuple(base.groups[row] for row in rows),
        labels=tuple(labels.values()),
        scores=None,
    )


def _leaky(base: Case, target: Target = Target()) -> Case:
    """Each scan is dealt out by itself, so that scans of one patient meet in training, tuning and test."""
    if not repeated_patients(base.scans):
        raise NotRunError("no patient has several scans, so a split by scan is a split by patient")
    if base.splits.sites:
        raise NotRunError("the study is split by site; a split by scan would also mix the sites")
    alone = [replace(scan, patient=scan.name) for scan in base.scans]
    try:
        splits = make_splits(alone, base.splits.seed, base.splits.folds, target)
    except SplitError as error:
        raise NotRunError(str(error)) from None
    return replace(base, groups=tuple(scan.patient for scan in alone), splits=splits)


def repeated_patients(scans: Sequence[Scan]) -> int:
    """Number of patients with several scans."""
    return sum(number > 1 for number in Counter(scan.patient for scan in scans).values())
