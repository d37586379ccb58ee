"""Charts of values with intervals, one row each: scores of the inputs, differences, folds, controls, sites, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes

from experiments.rendering.palette import ACCENT, INK, RULE, SOFT
from experiments.reporting.look import Canvas, quiet_grid

ROW_INCHES = 0.27
REMARK_INCHES = 0.054
"""Of a letter of a remark, on average."""


@dataclass(frozen=True)
class Bar:
    """One value with its interval; nothing is drawn where the value is None."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Mapping[str, Any] | None) -> Bar:
        """From a mapping with value, low and high; an empty one is undefined."""
        parts = estimate or {}
        return cls(parts.get("value"), parts.get("low"), parts.get("high"))


@dataclass(frozen=True)
class Row:
    """A labelled row.

    Attributes:
        label: Left of the axis; bold without bars makes a heading.
        bars: One for each panel.
        color: Of marker and interval.
        marker: Matplotlib's name of it.
        hollow: Draw the marker empty, as for baselines.
        remark: Text right of the last panel on wide figures.
    """

    label: str
    bars: Sequence[Bar] = ()
    color: str = INK
    marker: str = "o"
    hollow: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Panel:
    """One axis of a row chart: its label, limits and the value that means nothing (chance, no difference)."""

    label: str
    limits: tuple[float, float]
    null: float | None = None
    margin: float | None = None


def draw_rows(canvas: Canvas, rows: Sequence[Row], panels: Sequence[Panel]) -> None:
    """Rows of dots with intervals, one column of axes for each panel; on wide figures the rows' remarks right of the last.

    Args:
        canvas: Where.
        rows: From top to bottom.
        panels: Their axes; each row has as many bars.
    """
    rows, left = _labelled(canvas, rows)
    remarks = [] if canvas.narrow else [row.remark for row in rows]
    right = 0.15 + REMARK_INCHES * max(map(len, remarks), default=0)
    height = 0.45 + ROW_INCHES * len(rows) + 0.1
    canvas.figure.set_size_inches(canvas.width, height)
    gap = 0.3
    each = (canvas.width - left - right - gap * (len(panels) - 1)) / len(panels)
    for column, panel in enumerate(panels):
        box = (
            (left + column * (each + gap)) / canvas.width,
            0.45 / height,
            each / canvas.width,
            ROW_INCHES * len(rows) / height,
        )
        axes = canvas.figure.add_axes(box)
        _frame(axes, panel, len(rows), 3 if each < 1.6 else 5)
        for number, row in enumerate(rows):
            if row.bars:
                draw_bar(axes, row.bars[column], number, row)
        _labels(axes, rows, column == 0)
    for number, remark in enumerate(remarks):
        axes.annotate(
            remark, (1, number), xycoords=axes.get_yaxis_transform(), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=SOFT,
        )  # fmt: skip


def fitted(labels: Sequence[str], most: float) -> tuple[list[str], float]:
    """Labels left of an axis, long ones without their middle, and the inches that they take, at most so many."""
    letters = int((most - 0.06) / 0.052)
    kept = letters // 2
    short = [name if len(name) <= letters else f"{name[:kept]}\N{HORIZONTAL ELLIPSIS}{name[1 - kept :]}" for name in labels]
    return short, min(0.16 + 0.057 * max(map(len, short), default=0), most)


def _labelled(canvas: Canvas, rows: Sequence[Row]) -> tuple[list[Row], float]:
    """Rows with labels that leave half of the width to the axes, and the inches of the labels."""
    labels, inches = fitted([row.label for row in rows], 0.48 * canvas.width)
    return [replace(row, label=label) for row, label in zip(rows, labels, strict=True)], inches


def _frame(axes: Axes, panel: Panel, rows: int, ticks: int = 5) -> None:
    axes.set_xlim(*panel.limits)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlabel(panel.label)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=ticks)
    quiet_grid(axes)
    if panel.margin is not None:
        axes.axvspan(-panel.margin, panel.margin, color=ACCENT, alpha=0.10, linewidth=0)
    if panel.null is not None:
        axes.axvline(panel.null, color=SOFT, linewidth=0.9, zorder=1.5)


def _labels(axes: Axes, rows: Sequence[Row], first: bool) -> None:
    axes.set_yticks(range(len(rows)), [row.label for row in rows] if first else ["" for _ in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("normal" if row.bars else "bold")


def draw_bar(axes: Axes, bar: Bar, y: float, row: Row) -> None:
    """One dot with its interval on a row; an interval that leaves the axis is cut at its rim."""
    if bar.value is None:
        axes.text(0.02, y, "undefined", transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=SOFT)
        return
    if bar.low is not None and bar.high is not None:
        axes.plot([bar.low, bar.high], [y, y], color=row.color, linewidth=1.6, solid_capstyle="butt")
    face = "white" if row.hollow else row.color
    axes.plot([bar.value], [y], marker=row.marker, color=row.color, markerfacecolor=face, markersize=5.5, markeredgewidth=1.1)


def draw_dots(canvas: Canvas, rows: Sequence[Row], values: Sequence[Sequence[float | None]], panel: Panel) -> None:
    """All single values of each row as small dots, with a short upright line at their mean."""
    rows, left = _labelled(canvas, rows)
    height = 0.45 + 1.15 * ROW_INCHES * len(rows) + 0.1
    axes = canvas.single(height, left, bottom=0.45, top=0.1)
    _frame(axes, panel, len(rows))
    for y, (row, dots) in enumerate(zip(rows, values, strict=True)):
        known = [value for value in dots if value is not None]
        axes.plot([0, 1], [y, y], transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.6, zorder=0.5)
        axes.plot(
            known, [y] * len(known), linestyle="none", marker=row.marker, color=row.color, alpha=0.6, markersize=5,
            markeredgewidth=0,
        )  # fmt: skip
        if known:
            mean = sum(known) / len(known)
            axes.plot([mean, mean], [y - 0.3, y + 0.3], color=row.color, linewidth=2)
    _labels(axes, rows, True)


def limits_of(rows: Sequence[Row], column: int, least: tuple[float, float], digits: int = 2) -> tuple[float, float]:
    """Axis limits that hold every interval of a panel, at least as wide as given, rounded outward to 0.05.

    Of numbers that are shown with more than two digits all that is as much finer.
    """
    ends = [end for row in rows if row.bars for bar in (row.bars[column],) for end in (bar.value, bar.low, bar.high)]
    finer = 10.0 ** (digits - 2)
    known = [end * finer for end in ends if end is not None]
    low, high = min([*known, least[0]]), max([*known, least[1]])
    return (low * 20 // 1) / 20 / finer, -((-high * 20) // 1) / 20 / finer
