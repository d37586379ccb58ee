"""How the scans were acquired, from the images' sidecars and headers: one row for each combination, with its classes.

``acquisition.tsv`` shows at a glance whether one class comes from one scanner.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.images import title
from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.files.atomic import write_text
from datamodules.files.tables import CohortError, tsv_text
from datamodules.files.volumes import load_header

FIELDS = (
    "Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "InversionTime", "FlipAngle", "SliceThickness",
)  # fmt: skip
HEADING = ("image", *FIELDS, "voxel_mm", "patients", "scans", "negative_scans", "positive_scans")
CLASSES = 2
"""Columns of ``HEADING`` that count classes, at its end."""


def heading_of(target: Target) -> tuple[str, ...]:
    """``HEADING``, without classes where a number is predicted."""
    return HEADING[:-CLASSES] if target.is_number else HEADING


def acquisition_rows(scans: Sequence[Scan], target: Target = Target()) -> list[tuple[str, ...]]:
    """One row a combination of values, image by image, the commonest first, in the order of ``heading_of``.

    A value that no sidecar tells is empty; ``voxel_mm`` is the size of the prepared voxels.

    Raises:
        CohortError: if a sidecar is not JSON.
    """
    groups: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    for scan in scans:
        for name, path in scan.images.items():
            sidecar = _sidecar(path)
            groups[(title(name), *(_text(sidecar.get(field)) for field in FIELDS), _voxel(path))].append(scan)
    rows = []
    order = [title(name) for name in scans[0].names] if scans else []
    for key, members in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]), item[0])):
        labels = Counter(scan.label for scan in members)
        rows.append((*key, *map(str, (len({scan.patient for scan in members}), len(members), labels[0], labels[1]))))
    return [row[: len(heading_of(target))] for row in rows]


def write_acquisition(study: Path, rows: Sequence[Sequence[str]], target: Target = Target()) -> None:
    """Write acquisition.tsv, atomically."""
    write_text(study / "acquisition.tsv", tsv_text(heading_of(target), rows))


def _sidecar(image: Path) -> dict[str, Any]:
    path = image.with_name(image.name.split(".nii")[0] + ".json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CohortError(f"{path} is not JSON ({error}); fix or remove it") from None
    return content if isinstance(content, dict) else {}


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else " ".join(str(value).split())


def _voxel(path: Path) -> str:
    sides = np.linalg.norm(load_header(path).affine[:3, :3], axis=0)
    return " x ".join(f"{side:.3g}" for side in sides)
