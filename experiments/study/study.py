"""A study on disk: one cohort, one split, one folder; made by the first command, checked by every later one.

::

    studies/<name>/  study.yaml  cohort.tsv  flow.json  grid.json  splits.tsv  splits.json  <input>/fold-<k>/seed-<s>/
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES, title
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.site_splits import at_one_site, make_site_splits
from datamodules.cohort.splits import (
    FOLDS,
    SplitError,
    SplitRule,
    Splits,
    TooFewPatientsError,
    load_splits,
    make_splits,
    read_facts,
    write_splits,
)
from datamodules.cohort.table import dialect_text
from datamodules.cohort.target import Target
from datamodules.files.atomic import file_sha256, locked, write_json, write_text
from datamodules.files.listing import list_folder
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import CohortError, tsv_text
from datamodules.store.coarse import on_larger_voxels
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import Broken, open_cohort_scans, open_store
from experiments.study.record import Mask, ShownRegion, StudyRecord, joined, read_record, with_region, write_record
from regions.catalog import REGIONS, Region

OnScan = Callable[[int, int], None]
KEPT = ("cohort.tsv", "splits.tsv", "splits.json", "grid.json")
"""Files that are written when a study begins and stay as they are."""


@dataclass(frozen=True)
class StudyOptions:
    """What a study is made of."""

    cohort: Path
    """BIDS-like folder or table (.tsv, .csv)."""
    folder: Path
    """The study's folder."""
    store: Path
    """Folder of prepared volumes; one store serves many cohorts and studies."""
    label: Target = Target()
    """How an EDSS score becomes a class."""
    broken: Broken = "refuse"
    """What happens to scans whose images cannot be used."""
    folds: int = FOLDS
    """Parts of the patients."""
    split_seed: int = 0
    """Seed of the split."""
    workers: int = 2
    """Threads that prepare scans."""
    mask: Mask = field(default_factory=Mask)
    """How regions become masks."""
    regions: Mapping[str, Region] = field(default_factory=lambda: REGIONS)
    """The inputs."""
    regions_file: Path | None = None
    """The YAML file that the user's own regions come from."""
    alike_ids: AlikeIds = "refuse"
    """What happens to patients whose ids differ in writing alone."""
    voxel_mm: float = 0.0
    """Side of a voxel that networks see, a multiple of the scans' own; 0: the scans' own."""
    split: SplitRule = SplitRule()
    """What a test part is."""
    images: tuple[str, ...] = DEFAULT_IMAGES
    """What is read of each scan, in the order in which networks see it."""
    optional: tuple[str, ...] = ()
    """Images that a scan may lack."""


@dataclass(frozen=True)
class Study:
    """A study that was opened and checked."""

    folder: Path
    cohort: Cohort
    prepared: PreparedCohort
    splits: Splits
    cohort_hash: str
    record: StudyRecord


def open_study(options: StudyOptions, on_scan: OnScan | None = None) -> Study:
    """Open a study; make its cohort table, its volumes and its split where they are missing.

    Raises:
        CohortError: if the cohort cannot be used or is not the one the study was made with.
        SplitError: if the split is damaged, or was made with another seed or number of folds.
    """
    _refuse_other_scans(read_record(options.folder), options)
    cohort, prepared = open_cohort(options, on_scan)
    digest = cohort_hash(cohort)
    path = options.folder / "splits.tsv"
    with locked(options.folder / ".lock"):
        if not path.is_file():
            splits = split(cohort, options)
            write_sealed(options.folder / "flow.json", cohort.flow())
            write_text(options.folder / "cohort.tsv", cohort_table(cohort))
            write_splits(path, splits, cohort.scans, digest)
        splits = load_splits(path, cohort.scans, options.label)
        if not (options.folder / "grid.json").is_file():
            write_json(options.folder / "grid.json", asdict(prepared.grid))
        _check_made_alike(options, read_facts(path), digest)
        recorded = read_record(options.folder)
        if recorded is not None:
            recorded.check_files(options.folder)
        _refuse_other_scans(recorded, options)
        record = joined(recorded, new_record(options, splits, digest), begun(options.folder), options.folder.name)
        write_record(options.folder, record)
    return Study(options.folder, cohort, prepared, splits, digest, record)


def _refuse_other_scans(recorded: StudyRecord | None, options: StudyOptions) -> None:
    """Refuse options under which other scans, or other voxels of them, would be read than the study was begun with.

    Asked before any scan is read, and again when no other process can begin the study.
    """
    if recorded is None:
        return
    for option, begun_with, given in (
        ("--voxel_mm", f"{recorded.voxel_mm:g}", f"{options.voxel_mm:g}"),
        ("--split.small", recorded.split.small, options.split.small),
        ("--images", ",".join(recorded.images), ",".join(options.images)),
        ("--optional_images", ",".join(recorded.optional) or "none", ",".join(options.optional) or "none"),
    ):
        if begun_with != given:
            name = options.folder.name
            raise CohortError(f"study {name} was begun with {option} {begun_with}, not {given}; use another STUDY")


def split(cohort: Cohort, options: StudyOptions) -> Splits:
    """The split of a new study.

    Raises:
        TooFewPatientsError: with what was excluded first, where that is why a class has too few patients.
    """
    try:
        if options.split.by == "site":
            if options.label.is_number:
                kind = f"label.kind {options.label.kind}"
                raise SplitError(f"--split.by site goes with two classes, not with {kind}; use --split.by patient")
            return make_site_splits(cohort.scans, options.split_seed, options.split.small)
        return make_splits(cohort.scans, options.split_seed, options.folds, options.label)
    except TooFewPatientsError as error:
        raise TooFewPatientsError("\n".join(filter(None, (cohort.excluded(), str(error))))) from None


def new_record(options: StudyOptions, splits: Splits, digest: str) -> StudyRecord:
    """What study.yaml says of a study that begins now."""
    return StudyRecord(
        cohort=options.cohort.resolve(),
        store=options.store.resolve(),
        label=options.label,
        broken=options.broken,
        folds=splits.folds,
        split_seed=splits.seed,
        split_hash=splits.hash,
        cohort_hash=digest,
        mask=options.mask,
        regions={name: region.labels for name, region in options.regions.items()},
        regions_file=options.regions_file.resolve() if options.regions_file else None,
        atlas=next((region.atlas for region in options.regions.values() if region.atlas), None),
        files={name: file_sha256(options.folder / name) for name in KEPT},
        alike_ids=options.alike_ids,
        voxel_mm=options.voxel_mm,
        split=options.split,
        images=options.images,
        optional=options.optional,
    )


def record_region(folder: Path, shown: ShownRegion) -> None:
    """Note in study.yaml what an input of which a run begins shows now; earlier runs that showed something else are stale."""
    with locked(folder / ".lock"):
        record = read_record(folder)
        if record is not None:
            write_record(folder, with_region(record, shown))


def begun(folder: Path) -> set[str]:
    """Inputs of which a run has begun."""
    runs = list_folder(folder, "*/fold-*/seed-*/run.json")
    return {path.parents[2].name for path in runs if ".aside-" not in path.parent.name}


def open_cohort(
    options: StudyOptions, on_scan: OnScan | None = None, with_flagged: bool = False
) -> tuple[Cohort, PreparedCohort]:
    """Read a cohort and its volumes, which are made where they are missing; no split is needed.

    Args:
        options: What the study would be made of.
        on_scan: Called with (done, to do) after each volume that is made.
        with_flagged: Keep the scans that quality control holds back.

    Raises:
        CohortError: if the cohort cannot be used, or images cannot and ``broken`` does not exclude them.
    """
    cohort = read_cohort(
        options.cohort, options.label, with_flagged, options.alike_ids, images=options.images, optional=options.optional
    )
    _refuse_telling(cohort, options.optional)
    if options.split.by == "site":
        cohort = at_one_site(cohort)
    opener = functools.partial(open_store, folder=options.store, workers=options.workers, on_scan=on_scan)
    cohort, prepared = open_cohort_scans(cohort, opener, options.broken)
    remarks = (*cohort.remarks, *prepared.remarks(cohort.scans))
    return replace(cohort, remarks=remarks), on_larger_voxels(prepared, options.voxel_mm, on_scan)


def _refuse_telling(cohort: Cohort, optional: Sequence[str]) -> None:
    """Refuse a cohort of two classes of which one has an optional image in every scan and the other in none."""
    for name in () if cohort.rule.is_number else optional:
        there = {label: {name in scan.images for scan in cohort.scans if scan.label == label} for label in (0, 1)}
        if sorted(map(tuple, there.values())) == [(False,), (True,)]:
            what = (
                f"{title(name)} is missing in every {'positive' if True not in there[1] else 'negative'} scan and in no other"
            )
            raise CohortError(f"{what}: whether it is there tells the class; leave {name} out of --optional_images")


def _check_made_alike(options: StudyOptions, made: Mapping[str, Any], digest: str) -> None:
    name, by = options.folder.name, "site" if made.get("sites") else "patient"
    if options.split.by != by:
        raise SplitError(f"study {name} was split with --split.by {by}, not {options.split.by}; use another STUDY")
    for wanted, key, flag in ((options.folds, "folds", "folds"), (options.split_seed, "seed", "split_seed")):
        if made[key] != wanted and not (key == "folds" and by == "site"):
            raise SplitError(f"study {name} was split with --{flag} {made[key]}, not {wanted}; use another STUDY")
    if made["cohort_hash"] != digest:
        raise CohortError(
            f"{options.label.name} values in {options.cohort} are not those that study {name} was made with; use another STUDY"
        )


def cohort_hash(cohort: Cohort) -> str:
    """SHA-256 over patient, session, value and label of every usable scan."""
    rows = "".join(f"{s.patient}\t{s.session}\t{s.value}\t{s.label}\n" for s in cohort.scans)
    return hashlib.sha256(rows.encode()).hexdigest()


def cohort_table(cohort: Cohort) -> str:
    """The usable scans as a table that ``read_table`` can read again."""
    names = sorted({name for scan in cohort.scans for name in scan.covariates})
    header = ["patient", "session", cohort.rule.column, "days", "label"]
    header += [*cohort.scans[0].names, "mask", "labels", "dialect", *names]
    return tsv_text(header, (_row(scan, names, cohort.rule) for scan in cohort.scans))


def _row(scan: Scan, names: list[str], target: Target) -> list[str]:
    files = [str(path.resolve()) if path else "" for path in (*map(scan.images.get, scan.names), scan.mask, scan.labels)]
    days = "" if scan.days is None else str(scan.days)
    covariates = [scan.covariates.get(name, "") for name in names]
    return [
        scan.patient,
        scan.session,
        target.text_of(scan.value),
        days,
        str(scan.label),
        *files,
        dialect_text(scan.dialect),
        *covariates,
    ]
