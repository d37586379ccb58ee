"""How many days lie between scan and assessment: numbers, a histogram as text, and the same as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from experiments.runtime.words import plural

BINS = 12
BLOCKS = " ▏▎▍▌▋▊▉█"
BAR = 30
"""Characters of the longest bar in the text."""


@dataclass(frozen=True)
class Days:
    """Days of the scans that have them, in bins from the first to the last day of the label window or of the scans."""

    known: int
    unknown: int
    least: int | None
    most: int | None
    quartiles: tuple[float, float, float] | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def days_of(scans: Sequence[Scan], rule: Target) -> Days:
    """Distribution of the days from scan to assessment."""
    days = [scan.days for scan in scans if scan.days is not None]
    if not days:
        return Days(0, len(scans), None, None, None, (), ())
    ends = [day for day in (rule.min_days, rule.max_days) if day is not None]
    low, high = min([*days, *ends]), max([*days, *ends])
    counts, edges = np.histogram(days, bins=BINS, range=(low, max(high, low + 1)))
    first, median, third = (float(value) for value in np.percentile(days, [25, 50, 75]))
    return Days(
        len(days), len(scans) - len(days), min(days), max(days), (first, median, third),
        tuple(float(edge) for edge in edges), tuple(int(count) for count in counts),
    )  # fmt: skip


def days_lines(days: Days) -> list[str]:
    """A histogram as text, one line a bin."""
    most = max(days.counts, default=0)
    lines = []
    for low, high, count in zip(days.edges[:-1], days.edges[1:], days.counts, strict=True):
        eighths = round(count / most * BAR * 8) if most else 0
        bar = BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()
        lines.append(" ".join(part for part in (f"{low:6.0f} to {high:4.0f} days", bar, str(count)) if part))
    return lines


def days_svg(days: Days, name: str = "EDSS") -> str:
    """A histogram of the days from scan to the assessment of a target, as SVG, 640 x 220 pixels."""
    width, height, left, bottom, top = 640, 220, 44, 40, 26
    most = max(days.counts, default=1) or 1
    step = (width - left - 10) / max(len(days.counts), 1)
    scale = (height - bottom - top) / most
    bars = "".join(
        f'<rect x="{left + position * step + 1:.1f}" y="{height - bottom - count * scale:.1f}" width="{step - 2:.1f}" '
        f'height="{count * scale:.1f}" fill="#3a6ea5"><title>{low:.0f} to {high:.0f} days: '
        f"{plural(count, 'scan')}</title></rect>"
        for position, (low, high, count) in enumerate(zip(days.edges[:-1], days.edges[1:], days.counts, strict=True))
    )
    ticks = "".join(
        f'<text x="{left + position * step:.1f}" y="{height - bottom + 16}" text-anchor="middle">{edge:.0f}</text>'
        for position, edge in enumerate(days.edges)
        if position % 2 == 0
    )
    sides = "".join(
        f'<text x="{left - 6}" y="{height - bottom - value * scale + 4:.1f}" text-anchor="end">{value}</text>'
        for value in sorted({0, most // 2, most})
    )
    label = escape(
        f"Histogram of days from scan to {name}: {plural(days.known, 'scan')}, {days.unknown} without a date", quote=True
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}"><style>text{{font:12px system-ui,sans-serif;fill:#1b1b1b}}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{bars}{ticks}{sides}'
        f'<line x1="{left}" x2="{width - 10}" y1="{height - bottom}" y2="{height - bottom}" stroke="#555"/>'
        f'<text x="{(left + width) / 2}" y="{height - 6}" text-anchor="middle">days from scan to {escape(name)}</text>'
        f'<text x="8" y="12">scans</text></svg>\n'
    )
