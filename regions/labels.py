"""Label maps from other programs, brought into the one scheme of the project; `regions.dialects` has the tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regions.dialects import DIALECTS, NEAREST_TISSUE, STRUCTURES, TISSUE
from regions.errors import UserError, did_you_mean

__all__ = ["DIALECTS", "STRUCTURES", "LabelError", "noisy_voxels", "read_table", "to_scheme"]


UNKNOWN, OPEN = 240, 241
"""What an id becomes for the time being that a table does not have, or that takes the label of the nearest tissue; neither is
a label of the scheme."""
NOISE = 0.1
"""How far a label may lie from a whole number: a map of floats, or scaled by its header, holds 41 as 41.0001."""
SLAB = 2**16
"""Voxels looked up at once."""


class LabelError(UserError):
    """A label map cannot be understood."""


def to_scheme(labels: NDArray[Any], dialect: str | Path) -> NDArray[np.uint8]:
    """Bring a label map into the scheme.

    Args:
        labels: any shape (for hypointensities: the whole map, so that neighbours are known); whole numbers up to
            `NOISE`, stored as any type.
        dialect: a name in `DIALECTS`, or the path of a table (see `read_table`).

    Returns:
        uint8, in the shape of labels.

    Raises:
        LabelError: the dialect is not known, a value is not a whole number, or an id is not known in this dialect; then
            the message has the ids and how many voxels carry them.
    """
    mapping = _mapping(dialect)
    labels = np.asarray(labels)
    mapped = _looked_up(labels, mapping)
    if (mapped == UNKNOWN).any():
        values, counts = np.unique(np.rint(labels[mapped == UNKNOWN]).astype(np.int64), return_counts=True)
        listed = ", ".join(f"{value} (voxels: {count})" for value, count in zip(values[:8], counts[:8], strict=True))
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        raise LabelError(
            f"Label ids that {str(dialect)!r} does not know: {listed}{more}. "
            f"Choose another dialect ({', '.join(DIALECTS)}) or give a table of the ids (index, name, mapping) as .tsv."
        )
    return _fill_from_tissue(mapped) if (mapped == OPEN).any() else mapped


def noisy_voxels(labels: NDArray[Any]) -> int:
    """How many voxels of a label map are rounded by `to_scheme`."""
    return int(np.count_nonzero(labels != np.rint(labels))) if labels.dtype.kind == "f" else 0


def _mapping(dialect: str | Path) -> Mapping[int, int]:
    """Return the id table of a dialect."""
    if str(dialect) in DIALECTS:
        return DIALECTS[str(dialect)]
    if str(dialect).endswith(".tsv"):
        return read_table(Path(dialect))
    hint = did_you_mean(str(dialect), DIALECTS, likeness=0.5)
    raise LabelError(f"Unknown label dialect {str(dialect)!r}{hint}. Use {', '.join(DIALECTS)}, or the path of a .tsv file.")


def _looked_up(labels: NDArray[Any], mapping: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return what each id becomes, `UNKNOWN` where the table does not say, refusing fractions.

    It goes through the map in slabs that stay in the processor's cache, in the order of memory.
    """
    lookup = np.full(max(*mapping, 255) + 3, UNKNOWN, dtype=np.uint8)  # one entry more at each end, for ids beyond it
    lookup[np.array(list(mapping)) + 1] = [OPEN if label == NEAREST_TISSUE else label for label in mapping.values()]
    order: Literal["F", "C"] = "F" if labels.flags.f_contiguous else "C"
    flat = labels.ravel(order)
    if flat.dtype == np.uint8:
        translated = bytearray(flat.data).translate(lookup[1:257].tobytes())
        return np.frombuffer(translated, np.uint8).reshape(labels.shape, order=order)
    mapped = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, SLAB):
        ids, out = flat[start : start + SLAB], mapped[start : start + SLAB]
        if ids.dtype.kind == "f":
            whole = np.rint(ids)
            if not (np.abs(ids - whole) <= NOISE).all():
                odd = labels[~(np.abs(labels - np.rint(labels)) <= NOISE)]
                raise LabelError(
                    f"A label map has whole numbers only, found {odd[0]:g} ({odd.size} voxels are between labels): it was "
                    "interpolated, or holds probabilities. Resample the original label map with nearest neighbour."
                )
            ids = whole
        np.take(lookup, np.add(ids, 1, dtype=np.int64, casting="unsafe"), mode="clip", out=out)
    return mapped.reshape(labels.shape, order=order)


def _fill_from_tissue(mapped: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give each voxel marked `OPEN` the label of the nearest tissue."""
    from scipy.ndimage import distance_transform_edt

    open_voxels, tissue = mapped == OPEN, np.isin(mapped, list(TISSUE))
    if not tissue.any():
        raise LabelError("Hypointensities (80-82) take the label of the nearest tissue, but the map has no tissue label.")
    nearest = distance_transform_edt(~tissue, return_distances=False, return_indices=True)
    filled = mapped.copy()
    filled[open_voxels] = mapped[tuple(nearest[:, open_voxels])]
    return filled


def read_table(path: Path) -> dict[int, int]:
    """Read what the ids of a label map mean from a BIDS-style table, tab separated with a header.

    Column `index` is the id in the map. What it means is taken from the first of these that is not empty or n/a:
    `freesurfer`, an id of the scheme; `mapping`, an index of BIDS's generic table, as BIDS defines it; `name`, a name
    of `STRUCTURES`, in any case (`Left-Hippocampus`), or `Background`.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: not a text table, no index column, an index twice or not a number, or a row whose meaning is not known.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelError(f"{path} is not a readable table ({error}). Save it as tab-separated UTF-8 text.") from None
    if not rows or "index" not in rows[0]:
        raise LabelError(f"{path} needs a tab-separated header with 'index', 'name' and perhaps 'mapping'.")
    table = {0: 0}
    seen: set[int] = set()
    for line, row in enumerate(rows, start=2):
        index = _number(row["index"])
        target = _meaning(row)
        if index < 0 or index in seen or target is None:
            raise LabelError(
                f"{path}, line {line}: index {row['index']!r}, name {row.get('name')!r} has no clear meaning. "
                "Each index stands once, with a FreeSurfer name, a BIDS 'mapping' (0-11) or an id under 'freesurfer'."
            )
        seen.add(index)
        table[index] = target
    return table


def _meaning(row: Mapping[str, str | None]) -> int | None:
    """Return the id in the scheme that a row stands for, or None."""
    if _is_filled(row.get("freesurfer")):
        freesurfer_id = _number(row.get("freesurfer"))
        return DIALECTS["freesurfer"].get(freesurfer_id, freesurfer_id if freesurfer_id in STRUCTURES else None)
    if _is_filled(row.get("mapping")):
        return DIALECTS["bids-generic"].get(_number(row.get("mapping")))
    names = {name.lower(): label for label, name in STRUCTURES.items()} | {"background": 0}
    return names.get((row.get("name") or "").strip().lower())


def _is_filled(cell: str | None) -> bool:
    """Return whether a cell says something."""
    return (cell or "").strip().lower() not in ("", "n/a")


def _number(cell: str | None) -> int:
    """Return a cell's whole number, also written as 10.0, and -1, which no table knows, if it does not hold one."""
    number = re.fullmatch(r"([0-9]{1,9})(\.0*)?", (cell or "").strip())
    return int(number[1]) if number else -1
