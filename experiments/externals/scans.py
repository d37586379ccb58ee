"""Open an external cohort on a study's grid, and refuse one that shares a scan with the study's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.identity import AlikeIds, Written, identity
from datamodules.cohort.images import DEFAULT_IMAGES, kind_of
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.target import Target
from datamodules.files.tables import read_rows
from datamodules.store.checksums import verify
from datamodules.store.coarse import on_larger_voxels
from datamodules.store.prepared import PreparedCohort
from datamodules.store.sources import Source, hash_sources
from datamodules.store.store import Broken, differing_voxels, open_cohort_scans, open_store
from experiments.externals.errors import ExternalError
from experiments.study.run_folder import RunFolder
from experiments.study.study import OnScan
from regions.grid import Grid


@dataclass(frozen=True)
class ExternalCohort:
    """An external cohort on the study's grid, and what a reader of its results should know."""

    cohort: Cohort
    prepared: PreparedCohort
    remarks: tuple[str, ...]


def open_external(
    source: Path,
    frozen: Mapping[str, Any],
    study: Path,
    store: Path,
    broken: Broken = "refuse",
    workers: int = 2,
    on_scan: OnScan | None = None,
    alike_ids: AlikeIds = "refuse",
) -> ExternalCohort:
    """Read an external cohort's scans and labels and prepare its volumes.

    Args:
        source: BIDS-like folder or table.
        frozen: Content of frozen.json; the label rule and the grid are the study's.
        study: The study's folder.
        store: Folder of prepared volumes.
        broken: ``refuse`` scans whose images cannot be used, or ``exclude`` and count them.
        workers: Threads that prepare scans.
        on_scan: Called with (done, to do).
        alike_ids: What happens to ids that differ in writing alone, from each other or from the study's.

    Raises:
        ExternalError: if the cohort has other voxels than the study, or shares a scan with it.
        CohortError: if the cohort cannot be used, or names a patient of the study in another writing.
        BrokenScansError: if scans cannot be used and are not to be excluded.
    """
    table = study / "cohort.tsv"
    known = [Written(row["patient"], "", f"{table} line {row['#']}") for row in read_rows(table)]
    images = tuple(frozen.get("images", DEFAULT_IMAGES))
    asked = {"images": images, "optional": frozen.get("optional_images", ())}
    cohort = read_cohort(source, Target(**frozen["label"]), alike_ids=alike_ids, known=known, **asked)
    grid = Grid.of_plain(frozen.get("scan_grid", frozen["grid"]))
    _refuse_other_voxels(source, cohort.scans, grid)
    internal = internal_scans(study, images)
    _refuse_shared_files(cohort.scans, internal, store)
    cohort, prepared = open_cohort_scans(cohort, lambda scans: open_store(scans, store, workers, on_scan, grid), broken)
    _refuse_shared_volumes(cohort.scans, prepared, _internal_keys(study, frozen))
    remarks = [*cohort.remarks, *prepared.remarks(cohort.scans), *_shared_names(cohort, internal)]
    gone = sum(not all(path.is_file() for path in scan.images.values()) for scan in internal)
    if gone:
        remarks.append(
            f"{gone} internal scans are not on this machine; whether they occur here was told by prepared volumes only"
        )
    return ExternalCohort(cohort, on_larger_voxels(prepared, frozen.get("voxel_mm", 0.0)), tuple(remarks))


def _refuse_other_voxels(source: Path, scans: Sequence[Scan], grid: Grid) -> None:
    if sizes := differing_voxels(scans, grid):
        theirs, ours = sizes
        raise ExternalError(f"{source} has voxels of {theirs} mm, the study's models know {ours} mm; prepare it like the study")


def internal_scans(study: Path, images: tuple[str, ...]) -> list[Scan]:
    """The study's own scans, from its cohort.tsv; only patient, session and images are filled in."""
    rows = read_rows(study / "cohort.tsv")
    return [
        Scan(row["patient"], row["session"], _paths(row, images), value=0.0, days=None, label=0, asked=images) for row in rows
    ]


def _paths(row: Mapping[str, str], images: Sequence[str]) -> dict[str, Path]:
    return {name: Path(row[name]) for name in images if row[name]}


def _refuse_shared_files(scans: Sequence[Scan], internal: Sequence[Scan], store: Path) -> None:
    sources, _ = hash_sources([*scans, *internal], store / "sources.json")
    owners = {digest: scan for scan in internal for digest in _images(scan, sources)}
    shared = [(scan, owners[digest]) for scan in scans for digest in _images(scan, sources) if digest in owners]
    if shared:
        raise _shared_error([(scan.name, other.name) for scan, other in shared], "byte for byte an image of")


def _images(scan: Scan, sources: Mapping[str, Source]) -> list[str]:
    """Of its contrasts: masks and maps may be alike, as two patients without lesions have the same mask."""
    contrasts = (path for name, path in scan.images.items() if kind_of(name) == "contrast")
    return [sources[str(path)].sha256 for path in contrasts if str(path) in sources]


def _internal_keys(study: Path, frozen: Mapping[str, Any]) -> set[str]:
    return {
        key
        for entry in frozen["inputs"]
        for model in entry["models"]
        for key in RunFolder(study / model["run"]).facts().get("store_keys", [])
    }


def _refuse_shared_volumes(scans: Sequence[Scan], prepared: PreparedCohort, internal: set[str]) -> None:
    """Find internal volumes again, also where the image was saved again: same brain, same overlap, then the same voxels."""
    facts: dict[str, list[str]] = {}
    for key in sorted(internal):
        facts.setdefault(_facts(prepared, key), []).append(key)
    shared = []
    for scan, stored in zip(scans, prepared.scans, strict=True):
        there = zip(prepared.names, stored.images, strict=True)
        keys = [key for name, key in there if key and kind_of(name) == "contrast"]
        if internal & {*keys} or any(_is_among(prepared, key, facts) for key in keys):
            shared.append((scan.name, "the study"))
    if shared:
        raise _shared_error(shared, "voxel for voxel a scan of")


def _is_among(prepared: PreparedCohort, key: str, facts: Mapping[str, Sequence[str]]) -> bool:
    volumes = prepared.folder / "volumes"
    alike = facts.get(_facts(prepared, key), ())
    image = prepared.mapped(volumes / key / "image.npy")
    return any(np.array_equal(image, prepared.mapped(volumes / other / "image.npy")) for other in alike)


def _facts(prepared: PreparedCohort, key: str) -> str:
    path = prepared.folder / "volumes" / key / "scan.json"
    if not path.is_file():
        return f"unknown {key}"
    verify(path)
    return path.read_text(encoding="utf-8")


def _shared_error(shared: Sequence[tuple[str, str]], how: str) -> ExternalError:
    name, twin = shared[0]
    scans = len({name for name, _ in shared})
    more = f" ({scans} such scans)" if scans > 1 else ""
    return ExternalError(f"scan {name} is {how} {twin}{more}; an external cohort must not share scans with the internal one")


def _shared_names(cohort: Cohort, internal: Sequence[Scan]) -> list[str]:
    ours = {identity(scan.patient) for scan in internal}
    both = [patient for patient in cohort.patients if identity(patient) in ours]
    if not both:
        return []
    text = f"{len(both)} patient name{'s occur' if len(both) > 1 else ' occurs'} in both cohorts (first: {both[0]})"
    return [f"{text}; their images differ, so they are taken for different people"]
