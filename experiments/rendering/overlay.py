"""One picture of a scan: its images in three planes, with the outlines of the brain mask and of the regions.

Plain numpy and Pillow, because 400 figures of a plotting library take minutes. Rows: each image, and where the scan has a label
map the first again with the scan's own regions; the other rows show the template's, which the study's masks come from.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from experiments.rendering.palette import INPUT_COLORS, ON_DARK, rgb
from regions.atlas import template_on
from regions.catalog import REGIONS, get_region
from regions.grid import Grid

PANEL = 216
"""Pixels of a panel's height, about one per millimetre of a head."""
COLOURS = {name: rgb(ON_DARK[color]) for name, color in INPUT_COLORS.items()}
"""Red, green and blue of the outlines; later ones are drawn over earlier ones."""
GRAYS = 250
"""Palette entries below this are gray, those from here on the colours."""
PLANES_MM = ((2, -18.0), (2, 16.0), (0, -4.0), (1, -22.0))
"""Axis and position in mm: axial through brainstem and temporal lobes, through ventricles and nuclei; the middle; coronal."""


def overlay_png(
    images: Mapping[str, NDArray[Any]],
    brain: NDArray[np.bool_],
    grid: Grid,
    labels: NDArray[np.uint8] | None = None,
    title: str = "",
    outlines: bool = True,
) -> bytes:
    """Draw a scan.

    Args:
        images: (I, J, K) each, RAS+, any unit, by the text of their rows.
        brain: (I, J, K) bool.
        grid: Where the voxels lie.
        labels: (I, J, K), the scan's own label map.
        title: Text in the first panel's corner.
        outlines: Draw them, dotted, so that half of what lies below is seen.

    Returns:
        PNG bytes; left in the picture is the patient's left.
    """
    rows: list[tuple[str, NDArray[Any], NDArray[np.uint8] | None]] = [(name, image, None) for name, image in images.items()]
    if labels is not None:
        rows.append((f"{rows[0][0]}, scan's labels", rows[0][1], labels))
    strips = []
    for name, image, row_labels in rows:
        low, high = _window(image, brain)
        panels = [_panel(image, row_labels, brain, grid, plane, (low, high), outlines) for plane in PLANES_MM]
        strips.append((name, np.concatenate(panels, axis=1)))
    return _png(np.concatenate([strip for _, strip in strips]), [name for name, _ in strips], title)


def _window(image: NDArray[Any], brain: NDArray[np.bool_]) -> tuple[float, float]:
    few = (slice(None, None, 3),) * 3
    values = image[few][brain[few]]
    low, high = np.percentile(values if values.size else image, [1, 99])
    return float(low), float(max(high, low + 1e-6))


def _panel(
    image: NDArray[Any],
    row_labels: NDArray[np.uint8] | None,
    brain: NDArray[np.bool_],
    grid: Grid,
    plane: tuple[int, float],
    window: tuple[float, float],
    outlines: bool,
) -> NDArray[np.uint8]:
    """One plane as palette entries, (PANEL, width) uint8, up is superior or anterior; ``row_labels`` None: the template's."""
    inside, shown = _cut(brain, grid, plane), _cut(image, grid, plane).astype(np.float32)
    low, high = window
    gray = np.clip((shown - low) * (GRAYS / (high - low)), 0, GRAYS - 1) * (shown != 0)
    picture = np.where(inside, gray, gray * 0.6).astype(np.uint8) & 0xFC  # 63 grays are enough, and halve the file
    if outlines:
        lines = _template_lines(grid, plane) if row_labels is None else _lines(_cut(row_labels, grid, plane))
        dots = np.indices(picture.shape).sum(axis=0) % 2 == 0
        picture[_outline(inside) & dots] = GRAYS
        picture[(lines > 0) & dots] = lines[(lines > 0) & dots]
    missing = PANEL - len(picture)
    return np.pad(picture, ((missing // 2, missing - missing // 2), (0, 0)))


def _cut(volume: NDArray[Any], grid: Grid, plane: tuple[int, float]) -> NDArray[Any]:
    """The plane of a volume, a value for each pixel."""
    axis, millimetres = plane
    index = int(np.clip(round((millimetres - grid.origin[axis]) / grid.spacing[axis]), 0, grid.shape[axis] - 1))
    rows, columns = _pixels(grid, axis)
    return np.asarray(np.take(volume, index, axis=axis)[np.ix_(columns, rows)].T[::-1])


@lru_cache(maxsize=16)
def _template_lines(grid: Grid, plane: tuple[int, float]) -> NDArray[np.uint8]:
    return _lines(_cut(template_on(grid), grid, plane))


def _lines(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Palette entry of the outline that runs through each pixel, 0 for none."""
    lines = np.zeros(labels.shape, dtype=np.uint8)
    for index, name in enumerate(COLOURS):
        if name != "global":
            lines[_outline(get_region(name, REGIONS).select(labels))] = GRAYS + index
    return lines


def _pixels(grid: Grid, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels that the panel's pixels show, upwards and across, all planes at one scale."""
    across, up = (other for other in range(3) if other != axis)
    scale = PANEL / max(grid.shape[1] * grid.spacing[1], grid.shape[2] * grid.spacing[2])

    def line(side: int) -> NDArray[np.int64]:
        pixels = round(grid.shape[side] * grid.spacing[side] * scale)
        return ((np.arange(pixels) + 0.5) / pixels * grid.shape[side]).astype(np.int64)

    return line(up), line(across)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask that touch what is outside of it."""
    edge = np.zeros_like(mask)
    edge[1:] |= mask[1:] & ~mask[:-1]
    edge[:-1] |= mask[:-1] & ~mask[1:]
    edge[:, 1:] |= mask[:, 1:] & ~mask[:, :-1]
    edge[:, :-1] |= mask[:, :-1] & ~mask[:, 1:]
    return edge


def _png(picture: NDArray[np.uint8], names: Sequence[str], title: str) -> bytes:
    """Write the rows' names into the picture, and encode it."""
    image = Image.fromarray(picture)
    ramp = [(round(level * 255 / (GRAYS - 1)),) * 3 for level in range(GRAYS)]
    image.putpalette([part for colour in (*ramp, *COLOURS.values()) for part in colour])
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        draw.text((4, row * PANEL + 2), name, fill=GRAYS)
        draw.text((4, (row + 1) * PANEL - 14), "L", fill=GRAYS)
    draw.text((4, 16), title, fill=GRAYS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
