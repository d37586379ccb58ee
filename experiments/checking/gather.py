"""Everything that ``check`` finds out about a study, gathered once, for the terminal, the page and check.json alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from datamodules.cohort.covariates import text_of
from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.splits import SITE_BLOCKS, Splits
from datamodules.files.listing import list_folder
from datamodules.quality.limits import Judged
from datamodules.store.boxes import region_step
from datamodules.store.duplicates import Duplicate
from datamodules.store.prepared import PreparedCohort
from experiments.analysis.table1 import groups_of, table1, variables_of
from experiments.checking.acquisition import acquisition_rows
from experiments.checking.costs import Costs, Work, estimate, facts_of, from_runs, measured_step, transform_seconds
from experiments.checking.days import Days, days_of
from experiments.runtime.precision import best_precision
from experiments.statistics.precision import Precision, StudySize, expected_precision
from experiments.study.duplicates import known_duplicates
from experiments.study.grid import planned_runs
from experiments.study.scan_table import read_scans
from experiments.study.settings import Settings
from experiments.study.sides import one_sided
from lightning_modules.networks import multiple_of, smallest_side
from regions.grid import Box

MEASURED_VOXELS = 2_000_000
"""Voxels of a training step that is short enough to be measured by the way: the largest input that fits is taken."""


@dataclass(frozen=True)
class Subject:
    """What is looked at: a study, or a cohort that cannot be split; then ``splits`` is None and ``unsplit`` says why.

    ``folder`` holds cohort.tsv.
    """

    folder: Path
    cohort: Cohort
    prepared: PreparedCohort
    splits: Splits | None
    unsplit: str = ""

    def part(self, scan: Scan) -> int:
        """The test part of a scan, 0 for all where there is no split."""
        return self.splits.part[scan.patient] if self.splits else 0


@dataclass(frozen=True)
class InputBox:
    """What one input reads: its box, and the volume in ml that it shows of a scan (median), None for the whole brain."""

    name: str
    box: Box
    ml: float | None

    @property
    def voxels(self) -> int:
        """Voxels of the box."""
        return int(np.prod(self.box.shape))


@dataclass(frozen=True)
class Findings:
    """All of it."""

    flow: Mapping[str, Any]
    parts: Sequence[Mapping[str, int]]
    scanners: Mapping[str, Sequence[tuple[int, int]]]
    days: Days
    table1: Mapping[str, Any]
    left_out_columns: Sequence[str]
    acquisition: Sequence[Sequence[str]]
    duplicates: Sequence[Duplicate]
    inputs: Sequence[InputBox]
    precision: Precision | None
    costs: Costs
    transform_seconds: float | None
    quality: Mapping[str, int]
    tissue: Mapping[str, Any]
    one_sided: str

    def facts(self) -> dict[str, Any]:
        """What check.json holds."""
        return {
            "days": asdict(self.days),
            "parts": list(self.parts),
            "scanners": {name: [{"scans": n, "positive_scans": p} for n, p in row] for name, row in self.scanners.items()},
            "duplicates": [asdict(pair) for pair in self.duplicates],
            "inputs": [{"input": box.name, "box": list(box.box.shape), "ml": box.ml} for box in self.inputs],
            "precision": None if self.precision is None else asdict(self.precision),
            "costs": facts_of(self.costs),
            "transform_seconds": self.transform_seconds,
            "quality": dict(self.quality),
            "not_in_table1": list(self.left_out_columns),
            "one_sided": self.one_sided,
        }


def gather(
    settings: Settings, study: Subject, judged: Sequence[Judged], tissue: Mapping[str, Any], console: Console
) -> Findings:
    """Find out everything; nothing is printed, and nothing but the record of the duplicates is written.

    Args:
        settings: All settings.
        study: What is looked at.
        judged: The verdicts on its scans.
        tissue: What the inputs hold, see ``tissue_facts``.
        console: Where progress is shown.
    """
    scans = study.cohort.scans
    inputs = input_boxes(settings, study, tissue)
    target = study.cohort.rule
    others = list_folder(study.folder, "external/*/cohort.tsv")
    external = {path.parent.name: read_scans(path.parent, target) for path in others}
    table = read_scans(study.folder, target)
    variables, odd = variables_of(table)
    return Findings(
        flow=study.cohort.flow(),
        parts=part_counts(study),
        scanners=scanner_counts(study),
        days=days_of(scans, study.cohort.rule),
        table1=table1(groups_of(table, study.splits, external), variables),
        left_out_columns=odd,
        acquisition=acquisition_rows(scans, target),
        duplicates=known_duplicates(study.folder, scans, study.prepared, settings.values.workers, console),
        inputs=inputs,
        precision=None if target.is_number else precision_of(scans, len(inputs) - 1),
        costs=costs_of(settings, study, inputs),
        transform_seconds=transform_seconds(settings, study.prepared),
        quality={name: sum(scan.verdict == name for scan in judged) for name in ("held", "look", "ok")},
        tissue=tissue,
        one_sided=one_sided(settings, [shown.name for shown in inputs]),
    )


def part_counts(study: Subject) -> list[dict[str, int]]:
    """Patients, scans and positive scans of each part of the split, none where there is no split."""
    if study.splits is None:
        return []
    parts: list[list[Scan]] = [[] for _ in range(study.splits.folds)]
    for scan in study.cohort.scans:
        parts[study.part(scan)].append(scan)
    counts = [
        {"patients": len({s.patient for s in part}), "scans": len(part), "positive_scans": sum(s.label for s in part)}
        for part in parts
    ]
    for part_counted in counts if study.cohort.rule.is_number else ():
        del part_counted["positive_scans"]
    return counts


def scanner_counts(study: Subject) -> dict[str, list[tuple[int, int]]]:
    """Scans and positive scans by scanner and part; a scanner is site, vendor, model and field strength, as far as known.

    Without a split, all scans are one part.
    """
    parts = study.splits.folds if study.splits else 1
    counts: dict[str, list[Counter[str]]] = {}
    for scan in study.cohort.scans:
        parts_of_scanner = counts.setdefault(scanner_of(scan), [Counter() for _ in range(parts)])
        parts_of_scanner[study.part(scan)].update(scans=1, positive=scan.label)
    return {name: [(part["scans"], part["positive"]) for part in row] for name, row in sorted(counts.items())}


def scanner_of(scan: Scan) -> str:
    """Site, vendor, model and field strength of a scan, as far as known."""
    texts = [text_of(scan.covariates, name) for name in ("site", "vendor", "model")]
    field = text_of(scan.covariates, "field_strength")
    texts.append(f"{field} T" if field else "")
    return ", ".join(dict.fromkeys(text for text in texts if text)) or "unknown"


def input_boxes(settings: Settings, study: Subject, tissue: Mapping[str, Any]) -> list[InputBox]:
    """Box and volume of every input, the user's own included."""
    grid, options = study.prepared.grid, settings.values.data
    network = settings.instantiated().network
    sides = multiple_of(network), smallest_side(network, len(settings.images), options.batch_size)
    shown_ml = {row["input"]: row["ml"] for row in tissue["inputs"]} if options.mask_mode == "subject" else {}
    boxes = []
    for region in settings.regions.values():
        mask, box = region_step(region, grid, options.mask_mode, options.dilate_mm, *sides)
        ml = None if mask is None else shown_ml.get(region.name, float(mask.sum() * grid.voxel_mm3 / 1000))
        boxes.append(InputBox(region.name, box, ml))
    return boxes


def precision_of(scans: Sequence[Scan], comparisons: int) -> Precision | None:
    """What the study can show, None where a class is empty."""
    positive = sum(scan.label for scan in scans)
    if not 0 < positive < len(scans):
        return None
    size = StudySize(positive, len(scans) - positive, len({scan.patient for scan in scans}))
    return expected_precision(size, comparisons=max(comparisons, 1))


def costs_of(settings: Settings, study: Subject, inputs: Sequence[InputBox]) -> Costs:
    """Time, memory and disk: from complete runs where there are any, else from one measured step of the smallest input."""
    folds = study.splits.folds if study.splits else settings.values.folds
    part, tuned = len(study.cohort.scans) / folds, 1.0
    if study.splits and study.splits.sites:
        tuned = (folds - 1) / SITE_BLOCKS
    work = Work(
        voxels={box.name: box.voxels for box in inputs},
        train_scans=part * (folds - 1 - tuned),
        tuning_scans=part * tuned,
        epochs=int(settings.values.trainer.max_epochs or 1),
        batch=int(settings.values.data.batch_size),
        runs=planned_runs(settings, folds=folds),
    )
    volumes = volumes_mb(study)
    costs = from_runs(work, volumes, study.folder)
    if costs is not None:
        return costs

    small = [box for box in inputs if box.voxels * work.batch <= MEASURED_VOXELS]
    chosen = max(small, key=lambda box: box.voxels) if small else min(inputs, key=lambda box: box.voxels)
    network = settings.instantiated().network
    precision = str(settings.values.trainer.precision or best_precision("cpu"))
    step = measured_step(
        network,
        chosen.name,
        chosen.box.shape,
        work.batch if small else 1,
        precision.startswith("bf16"),
        channels=len(settings.images),
    )
    return estimate(work, step, volumes, study.folder)


def volumes_mb(study: Subject) -> float:
    """Size of the stored volumes of the study's scans, in megabytes."""
    folders = [study.prepared.folder / "volumes" / key for key in study.prepared.volumes]
    return sum(file.stat().st_size for folder in folders for file in list_folder(folder)) / 1e6
