"""Quality of what ``prepare`` made: its page, its pictures and its verdicts, from the files that it left.

::

    <out>/qc/index.html  sub-X[_ses-Y].png      images of patients: for this machine only
    <out>/qc.tsv                                who is held back, see ``datamodules.cohort.flagged_scans``
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.cohort.flagged_scans import read_accepted, write_verdicts
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError
from datamodules.files.volumes import marked, read_volume
from datamodules.preparation.derivative import PIPELINE
from datamodules.quality.limits import Judged
from experiments.checking.quality import OnScan, ScanQuality, known_numbers, plain_beside, write_pictures
from experiments.checking.quality_page import write_quality_page
from regions.grid import Grid
from regions.labels import to_scheme

RECORDS = f"derivatives/{PIPELINE}/sub-*/**/*_desc-prepare_qc.json"


@dataclass(frozen=True)
class PreparedQuality:
    """What came of it: the page, and the scans with their verdicts."""

    page: Path
    scans: tuple[ScanQuality, ...]
    judged: tuple[Judged, ...]

    @property
    def held(self) -> list[tuple[str, str]]:
        """Name and reason of every scan that is beyond a limit."""
        return [
            (scan.name, f"{verdict.reason} ({verdict.detail})")
            for scan, verdict in zip(self.scans, self.judged, strict=True)
            if verdict.verdict == "held"
        ]


def write_prepared_quality(out: Path, workers: int = 1, on_scan: OnScan | None = None) -> PreparedQuality:
    """Draw the scans that have no picture yet, judge all of them, and write page and verdicts.

    Args:
        out: The prepared cohort's folder.
        workers: Threads that draw.
        on_scan: Called with (done, to do) after each picture.

    Raises:
        CohortError: if a record is damaged, or the user's file of accepted scans is.
    """
    records = list_folder(out, RECORDS)
    scans = [_read(out, path) for path in records]
    missing = [pair for pair in zip(records, scans, strict=True) if _is_older(pair[1].picture, pair[0])]

    def draw(pair: tuple[Path, ScanQuality]) -> None:
        _draw(pair[0], pair[1].picture)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, _ in enumerate(pool.map(draw, missing), start=1):
            if on_scan:
                on_scan(done, len(missing))
    judged = write_quality_page(out / "qc", scans, True, read_accepted(out))
    write_verdicts(out, [(scan.patient, scan.session) for scan in scans], judged, [scan.numbers for scan in scans])
    return PreparedQuality(out / "qc" / "index.html", tuple(scans), tuple(judged))


def _read(out: Path, record: Path) -> ScanQuality:
    try:
        content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        patient, session, numbers = str(content["patient"]), str(content["session"]), known_numbers(content["numbers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"{record} is damaged ({error}); delete it and run prepare again") from None
    images = _images(record)
    if "t1w" not in images:
        raise CohortError(f"{record} has no T1w beside it; delete it as well, or run prepare again")
    scan = ScanQuality(patient, session, numbers, Path(), tuple(images))
    return replace(scan, picture=out / "qc" / scan.file)


def _is_older(picture: Path, record: Path) -> bool:
    return (
        not picture.is_file() or not plain_beside(picture).is_file() or picture.stat().st_mtime_ns < record.stat().st_mtime_ns
    )


def _draw(record: Path, picture: Path) -> None:
    """Draw one scan, from its prepared images."""
    stem, paths = _stem(record), _images(record)
    masks, maps = (list_folder(record.parent, f"{stem}_space-*_{end}.nii.gz") for end in ("desc-brain_mask", "dseg"))
    if not masks:
        raise CohortError(f"{record.parent} has no {stem}_space-*_desc-brain_mask.nii.gz; run prepare again")
    images = {name: read_volume(path) for name, path in paths.items()}
    grid = Grid.of(images["t1w"].array.shape, images["t1w"].affine)
    labels = to_scheme(read_volume(maps[0]).array, _dialect(maps[0])) if maps else None
    write_pictures(picture, {name: image.array for name, image in images.items()}, marked(read_volume(masks[0])), grid, labels)


def _stem(record: Path) -> str:
    return record.name.removesuffix("_desc-prepare_qc.json")


def _images(record: Path) -> dict[str, Path]:
    """A scan's prepared images by name (``ce-gadolinium_t1w``), the T1w first."""
    paths = {}
    for path in list_folder(record.parent, f"{_stem(record)}_space-*_desc-preproc_*.nii.gz"):
        entities, _, suffix = path.name.removesuffix(".nii.gz").partition("_desc-preproc_")
        further = entities.partition("_space-")[2].split("_")[1:]
        paths["_".join([*further, suffix]).lower()] = path
    return dict(sorted(paths.items(), key=lambda item: (item[0] != "t1w", item[0])))


def _dialect(labels: Path) -> str | Path:
    """The table beside a label map, or the dialect in its name."""
    table = labels.with_name(labels.name.removesuffix(".nii.gz") + ".tsv")
    named = re.search(r"_seg-([A-Za-z0-9]+)_", labels.name)
    return named[1].lower() if named and not table.is_file() else table
