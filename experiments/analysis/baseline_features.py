"""What a baseline is given of each scan: volumes of the regions from its label map, mean intensities from the store.

Measured once a volume of the store and kept in ``<study>/baselines/features.tsv``; the key in each row says of which volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.records import Scan
from datamodules.files.atomic import file_sha256, write_text
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.files.tables import read_rows
from datamodules.store.prepared import PreparedCohort
from regions.atlas import template_on
from regions.catalog import LESIONS, REGIONS, Region

PARTS = tuple(region for region in REGIONS.values() if region.labels)
VOLUMES = ("brain_ml", *(f"{region.name}_ml" for region in PARTS), "lesion_ml")
_LESION = Region("lesions", LESIONS, "lesions of a label map", "label map")


def means_of(images: Sequence[str]) -> tuple[str, ...]:
    """Names of the mean intensities, region by region."""
    return tuple(f"{region.name}_{image}" for region in PARTS for image in images)


def features_of(images: Sequence[str]) -> tuple[str, ...]:
    """Names of all features, in the order of ``scan_features``."""
    return (*VOLUMES, *means_of(images))


def measured_features(
    scans: Sequence[Scan], prepared: PreparedCohort, path: Path, workers: int, on_scan: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.float64]:
    """The features of every scan, read from the table where its volume was measured before.

    Args:
        scans: The study's scans.
        prepared: Their volumes.
        path: The table, written again when something was measured.
        workers: Threads.
        on_scan: Called with (done, to do) after each scan that was measured.

    Returns:
        (scans, features) float64 in the order of ``features_of``; volumes are NaN where a scan has no label map.
    """
    measure = partial(scan_features, prepared, template_parts(prepared))
    return measured(scans, prepared.keys, Table(path, features_of(prepared.names), measure), workers, on_scan)


@dataclass(frozen=True)
class Table:
    """Numbers of each scan, kept beside the study.

    Attributes:
        path: Where they are kept.
        columns: Their names.
        measure: Row of the cohort -> the numbers, in this order.
        made_from: What they depend on beside a scan's volume.
    """

    path: Path
    columns: Sequence[str]
    measure: Callable[[int], Sequence[float]]
    made_from: Mapping[str, Any] = field(default_factory=dict)


def measured(
    scans: Sequence[Scan],
    keys: Sequence[str],
    table: Table,
    workers: int,
    on_scan: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """(scans, columns) of a table: what was measured before is read, the rest is measured and written.

    Args:
        scans: The study's scans.
        keys: The keys of their volumes.
        table: What is measured.
        workers: Threads.
        on_scan: Called with (done, to do) after each scan that was measured.
    """
    known = _read(table)
    missing = [row for row, key in enumerate(keys) if key not in known]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, (row, values) in enumerate(zip(missing, pool.map(table.measure, missing), strict=True), start=1):
            known[keys[row]] = list(values)
            if on_scan:
                on_scan(done, len(missing))
    if missing:
        _write(table, scans, keys, known)
        known = _read(table)
    return np.array([known[key] for key in keys], dtype=np.float64)


@dataclass(frozen=True)
class TemplateParts:
    """The template's brain on the study's grid, label by label.

    Attributes:
        voxels: Flat indices, all of one label after all of the other.
        labels: The labels, in this order.
        bounds: Where each label starts in `voxels`, and the end.
    """

    voxels: npt.NDArray[np.intp]
    labels: npt.NDArray[np.uint8]
    bounds: npt.NDArray[np.intp]


def template_parts(prepared: PreparedCohort) -> TemplateParts:
    """Sort the template's voxels by label, once for all scans."""
    labels = template_on(prepared.grid).ravel()
    inside = np.flatnonzero(labels)
    voxels = inside[np.argsort(labels[inside], kind="stable")]
    names, starts = np.unique(labels[voxels], return_index=True)
    return TemplateParts(voxels, names, np.append(starts, voxels.size))


def scan_features(prepared: PreparedCohort, template: TemplateParts, row: int) -> list[float]:
    """The features of one scan.

    Args:
        prepared: Volumes of the study.
        template: Where the regions lie.
        row: Which scan.

    Returns:
        Values in the order of ``features_of``: volumes in millilitres, means in units of the normalised image.
    """
    brain = float(prepared.facts(row)["brain_ml"])
    sizes = [float("nan")] * (len(PARTS) + 1)
    if prepared.has_labels(row):
        counts = _histogram(prepared.labels(row))
        sizes = [_sum(region, counts) * prepared.grid.voxel_mm3 / 1000 for region in (*PARTS, _LESION)]
    voxels = _by_label(template, np.diff(template.bounds))
    image = np.asarray(prepared.image(row)).reshape(len(prepared.names), -1)
    sums = [_by_label(template, _sums(channel[template.voxels], template.bounds)) for channel in image]
    means = [_sum(region, part) / max(_sum(region, voxels), 1) for region in PARTS for part in sums]
    return [brain, *sizes, *means]


def _histogram(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(256,) voxels of each label, counted two voxels at a time."""
    flat = np.ascontiguousarray(labels).ravel()
    pairs = np.bincount(flat[: flat.size // 2 * 2].view(np.uint16), minlength=65536).reshape(256, 256)
    counts = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[flat[flat.size // 2 * 2 :]] += 1
    return np.asarray(counts, dtype=np.int64)


def _sums(values: npt.NDArray[np.float16], bounds: npt.NDArray[np.intp]) -> list[float]:
    """Sum of each stretch between bounds, in double precision."""
    single = values.astype(np.float32)
    return [float(single[a:b].sum(dtype=np.float64)) for a, b in pairwise(bounds.tolist())]


def _by_label(template: TemplateParts, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(256,) one value for each label of the template, 0 for the others."""
    out = np.zeros(256)
    out[template.labels] = values
    return out


def _sum(region: Region, by_label: npt.NDArray[Any]) -> float:
    return float(by_label[region.select(np.arange(256))].sum())


def _read(table: Table) -> dict[str, list[float]]:
    """Store key -> numbers as written; empty where the table is not there, holds others, or was changed."""
    path, columns = table.path, table.columns
    wanted = {path.name: file_sha256(path) if path.is_file() else None, **table.made_from}
    try:
        facts = read_sealed(path.with_suffix(".json"), "measure again")
    except (FileNotFoundError, DamagedError):
        return {}
    rows = read_rows(path) if all(facts.get(name) == value for name, value in wanted.items()) else []
    if not rows or any(name not in rows[0] for name in ("key", *columns)):
        return {}
    return {row["key"]: [float(row[name]) if row[name] else float("nan") for name in columns] for row in rows}


def _write(table: Table, scans: Sequence[Scan], keys: Sequence[str], known: dict[str, list[float]]) -> None:
    lines = ["\t".join(("patient", "session", *table.columns, "key"))]
    for scan, key in zip(scans, keys, strict=True):
        cells = ["" if np.isnan(value) else f"{value:.6g}" for value in known[key]]
        lines.append("\t".join((scan.patient, scan.session, *cells, key)))
    table.path.parent.mkdir(parents=True, exist_ok=True)
    write_text(table.path, "\n".join(lines) + "\n")
    write_sealed(table.path.with_suffix(".json"), {table.path.name: file_sha256(table.path), **table.made_from})
