"""Quality numbers and pictures of a cohort's scans, each computed once.

A scan that ``prepare`` made has its numbers beside its images; any other is measured on its stored volume, and numbers and
picture stay in the store, found by content as the volumes are::

    <store>/quality/<key>/quality.json  overlay.png  overlay_plain.png    made again where one was changed
    <study>/qc/index.html  <scan>.png           the page of the study's scans (see ``experiments.checking.quality_page``)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.identity import file_stem
from datamodules.cohort.images import DEFAULT_IMAGES, title
from datamodules.cohort.records import Scan, scan_name
from datamodules.files.atomic import file_sha256, write_atomically
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.files.tables import CohortError
from datamodules.quality.measure import measure
from datamodules.store.prepared import PreparedCohort
from experiments.rendering.overlay import overlay_png
from regions.grid import Grid

PICTURES = ("overlay.png", "overlay_plain.png")
OF_PAIR = ("pair_", "contrast_order", "fluid_flair")
"""Beginnings of numbers that compare T1w and FLAIR."""
OF_TEMPLATE = ("template_nmi", "template_mi")
"""Beginnings of numbers that compare the T1w with the template's."""
OF_FIELD = ("cut_", "template_dice", "template_unseen", "dice_in_field")
"""Beginnings of numbers that depend on what all images have seen."""
QUALITY_VERSION = 3
"""Raised whenever numbers or pictures change, so that older ones are rebuilt."""

OnScan = Callable[[int, int], None]


@dataclass(frozen=True)
class ScanQuality:
    """One scan's numbers and picture."""

    patient: str
    session: str
    numbers: Mapping[str, float]
    picture: Path
    images: tuple[str, ...] = DEFAULT_IMAGES

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)

    @property
    def file(self) -> str:
        """Name of its picture on the page."""
        return file_stem(self.patient, self.session) + ".png"


def quality_of_cohort(
    scans: Sequence[Scan], prepared: PreparedCohort, workers: int = 1, on_scan: OnScan | None = None
) -> list[ScanQuality]:
    """Numbers and picture of every scan, in order; what is missing is made.

    Args:
        scans: The cohort's usable scans.
        prepared: Their stored volumes.
        workers: Threads that measure.
        on_scan: Called with (done, to do) after each scan that was measured.

    Raises:
        CohortError: if a file that ``prepare`` wrote is damaged.
    """
    folders = [prepared.folder / "quality" / key for key in prepared.keys]
    missing = [row for row, folder in enumerate(folders) if _kept(folder) is None]

    def make(row: int) -> None:
        volumes = prepared.present(row)
        labels = np.asarray(prepared.labels(row)) if scans[row].labels else None
        brain = next(iter(volumes.values())) != 0
        numbers = measure(prepared.contrasts(row), brain, prepared.grid, labels)
        folders[row].mkdir(parents=True, exist_ok=True)
        write_pictures(folders[row] / "overlay.png", volumes, brain, prepared.grid, labels)
        files = {name: file_sha256(folders[row] / name) for name in PICTURES}
        content = {"version": QUALITY_VERSION, "scan": prepared.keys[row], "numbers": numbers, "files": files}
        write_sealed(folders[row] / "quality.json", content)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, _ in enumerate(pool.map(make, missing), start=1):
            if on_scan:
                on_scan(done, len(missing))
    qualities = []
    for scan, folder in zip(scans, folders, strict=True):
        numbers = {**(_kept(folder) or {}), **numbers_of_prepare(scan.reference, scan.images)}
        qualities.append(ScanQuality(scan.patient, scan.session, numbers, folder / PICTURES[0], tuple(scan.images)))
    return qualities


def plain_beside(picture: Path) -> Path:
    """The picture without outlines, beside the one with them."""
    return picture.with_name(f"{picture.stem}_plain.png")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_pictures(path: Path, images: Mapping[str, Any], brain: Any, grid: Grid, labels: Any) -> None:
    """Write a scan's picture with outlines, and the one without them beside it; see ``overlay_png``."""
    rows = {title(name): image for name, image in images.items()}
    for target, outlines in ((plain_beside(path), False), (path, True)):
        write_bytes(target, overlay_png(rows, brain, grid, labels, outlines=outlines))


def _kept(folder: Path) -> dict[str, float] | None:
    """Numbers that were measured before, None where they must be measured, also because a file changed."""
    try:
        content = read_sealed(folder / "quality.json", "measure again")
        files = {name: file_sha256(folder / name) for name in PICTURES}
    except (FileNotFoundError, DamagedError):
        return None
    wanted = {"version": QUALITY_VERSION, "scan": folder.name, "files": files}
    if any(content.get(name) != value for name, value in wanted.items()):
        return None
    return known_numbers(content["numbers"])


def numbers_of_prepare(t1w: Path, images: Collection[str]) -> dict[str, float]:
    """Numbers that ``prepare`` wrote beside a T1w image, empty where it did not make the image.

    Args:
        t1w: The image.
        images: What is read of the scan; nothing that was measured with another image is given.

    Raises:
        CohortError: if the file is damaged.
    """
    stem = re.sub(r"_space-[A-Za-z0-9]+.*$", "", t1w.name)
    path = t1w.with_name(f"{stem}_desc-prepare_qc.json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _numbers_of(known_numbers(content["numbers"]), images)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"{path} is damaged ({error}); delete it and run prepare again") from None


def _numbers_of(numbers: Mapping[str, float], images: Collection[str]) -> dict[str, float]:
    """The numbers of these images alone; those within what all prepared images have seen only where all of them are read."""
    unread = {name.removeprefix("cover_") for name in numbers if name.startswith("cover_")} - set(images)
    if not unread:
        return dict(numbers)
    ends, starts = tuple(f"_{name}" for name in unread), tuple(f"{name}_" for name in unread)
    shared = OF_FIELD + (OF_PAIR if unread & set(DEFAULT_IMAGES) else ()) + (OF_TEMPLATE if "t1w" in unread else ())
    return {
        name: value
        for name, value in numbers.items()
        if not name.endswith(ends) and not name.startswith(starts) and not name.startswith(shared)
    }


def known_numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """The entries of a JSON object that are numbers; null becomes nan."""
    return {
        name: float("nan") if value is None else float(value)
        for name, value in content.items()
        if value is None or isinstance(value, int | float)
    }
