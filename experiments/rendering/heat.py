"""A map on the template brain: three planes through where it is strongest, with the outlines of regions.

Values are ratios: 1 is no difference, so only what lies above 1 is coloured, transparent at 1, opaque at the upper limit.
Pictures are on black, in the palette's colours for that.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from datamodules.quality.measure import template_image
from experiments.rendering.palette import INK, INPUT_COLORS, ON_DARK, ORANGE, rgb
from regions.atlas import load_template
from regions.catalog import REGIONS
from regions.grid import Grid

HIGHEST = 99.5
"""Percentile of the values above 1 from which colours are opaque."""
HOT = "#fff3d6"
"""The colour of the upper limit; half-way it is the palette's orange."""
PLANES = ("sagittal", "coronal", "axial")
"""Planes by the axis that they cut."""
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cut:
    """One plane: its name, where it lies, and its picture (rows, columns, 3) uint8; left in it is the patient's left."""

    plane: str
    position_mm: float
    picture: Picture

    @property
    def title(self) -> str:
        """Name and position."""
        return f"{self.plane}, {'xyz'[PLANES.index(self.plane)]} = {self.position_mm:.0f} mm"


def upper_limit(values: npt.NDArray[Any]) -> float:
    """The value from which a map is opaque: at least 2, so that a map without contrast stays pale."""
    above = values[values > 1]
    return max(2.0, float(np.percentile(above, HIGHEST))) if above.size else 2.0


def cuts(values: npt.NDArray[np.float32], grid: Grid, outlined: Sequence[str] = (), limit: float | None = None) -> list[Cut]:
    """Axial, coronal and sagittal planes of a map.

    Args:
        values: (I, J, K) ratios on the grid, 0 outside the input.
        grid: Where its voxels lie.
        outlined: Regions of the study's six whose outline is drawn.
        limit: Value from which colours are opaque; ``upper_limit`` by default.
    """
    labels, fine = load_template()
    background, heat = template_image(fine), nearest(values, grid, fine)
    limit = limit or upper_limit(values)
    high = float(np.percentile(background[labels > 0], 99.5))
    gray = np.clip(background / high, 0, 1) * np.where(labels > 0, 1.0, 0.35)
    out = []
    for axis in (2, 1, 0):
        index = _peak(values, grid, fine, axis)
        level, value = (np.take(volume, index, axis=axis).T[::-1] for volume in (gray, heat))
        picture = coloured(level, value, limit)
        for name in outlined:
            edge = _outline(REGIONS[name].select(np.take(labels, index, axis=axis).T[::-1]))
            picture[edge] = rgb(ON_DARK[INPUT_COLORS[name]])
        out.append(Cut(PLANES[axis], fine.origin[axis] + index * fine.spacing[axis], picture))
    return out


def coloured(gray: npt.NDArray[Any], values: npt.NDArray[Any], limit: float) -> Picture:
    """Gray levels (0 ... 1) with ratios above 1 laid over them: (rows, columns, 3) uint8."""
    share = np.clip((values - 1) / (limit - 1), 0, 1)[..., None]
    ink = ramp(share[..., 0])
    base = np.repeat(gray[..., None] * 255, 3, axis=2)
    return np.asarray(base * (1 - share**0.7) + ink * share**0.7, dtype=np.uint8)


def ramp(share: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The colour of a share of the way to the limit, (..., 3) in 0 ... 255: dark orange, orange, nearly white."""
    stops = np.array([[110, 40, 0], rgb(ON_DARK[ORANGE]), rgb(HOT)], dtype=np.float64)
    return np.stack([np.interp(share, (0, 0.5, 1), stops[:, channel]) for channel in range(3)], axis=-1)


def nearest(values: npt.NDArray[np.float32], grid: Grid, wanted: Grid) -> npt.NDArray[np.float32]:
    """Values at the centres of another grid's voxels, 0 outside."""
    picks, inside = [], []
    for axis in range(3):
        centres = wanted.origin[axis] + wanted.spacing[axis] * np.arange(wanted.shape[axis])
        index = np.floor((centres - grid.origin[axis]) / grid.spacing[axis] + 0.5).astype(int)
        inside.append((index >= 0) & (index < grid.shape[axis]))
        picks.append(np.clip(index, 0, grid.shape[axis] - 1))
    known = inside[0][:, None, None] & inside[1][:, None] & inside[2]
    return np.asarray(np.where(known, values[np.ix_(*picks)], 0), dtype=np.float32)


def _peak(values: npt.NDArray[np.float32], grid: Grid, fine: Grid, axis: int) -> int:
    """Index on the fine grid of the plane that holds most of what lies above 1; the middle where nothing does."""
    excess = np.clip(values - 1, 0, None).sum(axis=tuple(other for other in range(3) if other != axis))
    at = int(np.argmax(excess)) if excess.any() else grid.shape[axis] // 2
    millimetres = grid.origin[axis] + at * grid.spacing[axis]
    return int(np.clip(round((millimetres - fine.origin[axis]) / fine.spacing[axis]), 0, fine.shape[axis] - 1))


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels outside of a mask that touch it, so that nothing inside is hidden."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown & ~mask


def picture_png(planes: Sequence[Cut], title: str, limit: float) -> bytes:
    """The planes side by side with their titles and a colour bar, as PNG."""
    scale, text, bar = 2, 34, 46
    height = scale * max(cut.picture.shape[0] for cut in planes)
    width = scale * sum(cut.picture.shape[1] for cut in planes) + bar
    sheet = Image.new("RGB", (width, height + 2 * text), "black")
    draw, left, ink = ImageDraw.Draw(sheet), 0, ON_DARK[INK]
    draw.text((6, 8), title, fill=ink)
    for cut in planes:
        image = Image.fromarray(cut.picture).resize((scale * cut.picture.shape[1], scale * cut.picture.shape[0]), 0)
        sheet.paste(image, (left, text + (height - image.height) // 2))
        draw.text((left + 6, text + height + 8), cut.title, fill=ink)
        left += image.width
    levels = np.linspace(1, 0, height // 2)[:, None].repeat(10, axis=1)
    sheet.paste(Image.fromarray(ramp(levels).astype(np.uint8)), (left + 4, text + height // 4))
    draw.text((left + 18, text + height // 4), f"{limit:.1f}", fill=ink)
    draw.text((left + 18, text + height // 4 + height // 2 - 10), "1", fill=ink)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
