"""How every figure of the report looks: type sizes, widths, panels; and a drawing as SVG and PNG, the same bytes each time.

A chart is drawn by a function that gets a ``Canvas``, once for a wide page and paper, once for a phone. In the page the
colours become the page's own variables, so that a figure follows light, dark and print; the files for a paper keep them.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from experiments.rendering.palette import INK, RULE, SOFT, VARIABLES

BASELINE_LABELS = {
    "age_sex": "age + sex",
    "age_sex_volumes": "age + sex + volumes",
    "region_means": "mean intensities",
    "images_present": "images present",
}
WIDE_INCHES, NARROW_INCHES = 7.0, 3.6
NARROW_TITLE = 16
"""Letters that fit above a panel of a narrow figure, also in the widest font that a page may find."""
FONT = "DejaVu Sans"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "regionwise",
    "font.family": [FONT],
    "font.size": 8,
    "text.parse_math": False,  # a name with two $ is a name and no formula
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.4,
    "path.simplify": True,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}


@dataclass(frozen=True)
class Canvas:
    """An empty figure of one width, in inches, and its layout."""

    figure: Figure
    width: float

    @property
    def narrow(self) -> bool:
        """Whether this is the rendering for a phone."""
        return self.width < WIDE_INCHES

    def single(self, height: float, left: float, right: float = 0.15, top: float = 0.3, bottom: float = 0.45) -> Axes:
        """A single pair of axes with margins in inches; ``height`` is that of the whole figure."""
        self.figure.set_size_inches(self.width, height)
        box = (
            left / self.width,
            bottom / height,
            (self.width - left - right) / self.width,
            (height - top - bottom) / height,
        )
        return self.figure.add_axes(box)

    def panels(self, number: int, aspect: float = 1.0, columns: tuple[int, int] = (3, 2), left: float = 0.52) -> list[Axes]:
        """Small multiples, row by row; labels of axes stand only at the rim.

        Args:
            number: How many.
            aspect: Height of a panel by its width.
            columns: Panels in a row on a wide and on a narrow figure.
            left: Inches for the labels left of a row.
        """
        across = min(number, columns[1] if self.narrow else columns[0])
        down = -(-number // across)
        right, gap_x, bottom = 0.12, 0.28, 0.45
        gap_y, top = (0.52, 0.42) if self.narrow else (0.42, 0.28)  # titles of two lines where panels are narrow
        side = (self.width - left - right - gap_x * (across - 1)) / across
        side = min(side, 2.3)
        height = top + bottom + down * side * aspect + gap_y * (down - 1)
        self.figure.set_size_inches(self.width, height)
        axes = []
        for index in range(number):
            x = left + (index % across) * (side + gap_x)
            y = height - top - (index // across) * (side * aspect + gap_y) - side * aspect
            axes.append(
                self.figure.add_axes((x / self.width, y / height, side / self.width, side * aspect / height)),
            )
            if index % across:
                axes[-1].tick_params(labelleft=False)
            if index + across < number:
                axes[-1].tick_params(labelbottom=False)
        return axes

    def rim(self, x: str, y: str) -> None:
        """One label for all x axes and one for all y axes."""
        width, height = self.figure.get_size_inches()
        boxes = [axes.get_position() for axes in self.figure.axes]
        middle_x = (min(box.x0 for box in boxes) + max(box.x1 for box in boxes)) / 2
        middle_y = (min(box.y0 for box in boxes) + max(box.y1 for box in boxes)) / 2
        self.figure.text(middle_x, 0.1 / height, x, ha="center", fontsize=8)
        self.figure.text(0.1 / width, middle_y, y, va="center", rotation=90, fontsize=8)

    def title(self, name: str) -> str:
        """A panel's title: an input's name as words, in two lines where panels are narrow and it is long."""
        return fill(label_of(name), NARROW_TITLE) if self.narrow else label_of(name)


@dataclass(frozen=True)
class Chart:
    """A figure to be drawn.

    Attributes:
        name: File name without suffix.
        alt: What it shows, with its main numbers.
        caption: Below the figure in the page; plain text.
        draw: Draws it on a canvas.
    """

    name: str
    alt: str
    caption: str
    draw: Callable[[Canvas], None]


@dataclass(frozen=True)
class Drawing:
    """A drawn chart: SVG for the page, wide and narrow; SVG and PNG (300 dots an inch) for a paper."""

    wide: bytes
    narrow: bytes
    svg: bytes
    png: bytes


def render(chart: Chart) -> Drawing:
    """Draw a chart in all its forms; letters that its font lacks in a font of this system, where one has them."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        drawing = _in_all_forms(chart)
        more = other_fonts(drawing.svg.decode("utf-8"))
        if not more:
            return drawing
        with mpl.rc_context({"font.family": [*STYLE["font.family"], *more]}):
            return _in_all_forms(chart)


def other_fonts(text: str) -> list[str]:
    """Families of this system that have letters of a text which the report's font lacks; empty where none does."""
    lacking = {ord(letter) for letter in text if letter.isprintable()} - _letters(findfont(FONT))
    fonts: list[str] = []
    for font in sorted(fontManager.ttflist, key=lambda font: ("Sans" not in font.name, font.name, font.fname)):
        if not lacking:
            break
        if found := lacking & _letters(font.fname):
            lacking -= found
            fonts.append(font.name)
    return fonts


def _letters(path: str) -> set[int]:
    """Code points that a font file draws; none of a font that cannot be used, or has a box for all."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return set()
    return set(font.get_charmap()) if font.scalable and "Last Resort" not in font.family_name else set()


def _in_all_forms(chart: Chart) -> Drawing:
    wide, narrow = (_drawn(chart, width) for width in (WIDE_INCHES, NARROW_INCHES))
    svg = _saved(wide, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None})
    small = _saved(narrow, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None})
    svg, small = (re.sub(rb"(font-family: [^;\"]+)", rb"\1, sans-serif", drawn) for drawn in (svg, small))
    return Drawing(for_page(svg), for_page(small), svg, _saved(wide, "png", {"Software": None}))


def _drawn(chart: Chart, width: float) -> Figure:
    figure = Figure(figsize=(width, 3.0))
    chart.draw(Canvas(figure, width))
    return figure


def _saved(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 4}} if kind == "png" else {}
    figure.savefig(file, format=kind, dpi=300, facecolor="white", metadata=metadata, **options)
    return file.getvalue()


def for_page(svg: bytes) -> bytes:
    """An SVG drawing with the page's colours, without background, style sheet and metadata."""
    drawn = svg.decode("utf-8")
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", drawn, count=1, flags=re.DOTALL)
    drawn = drawn.replace("fill: #ffffff", "fill: var(--paper)")
    drawn = re.sub(r'(<g id="patch_1">\s*<path d="[^"]*" style="fill: )var\(--paper\)', r"\1none", drawn, count=1)
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var({variable})")
    drawn = re.sub(r"font-family: [^;\"]*;? ?", "", drawn)
    drawn = re.sub(r"\n(?=L |C |Q |z)", "", drawn)
    return drawn.encode()


def label_of(name: str) -> str:
    """Name of an input, a baseline, or a stack of both, as words."""
    return " + ".join(BASELINE_LABELS.get(part, part.replace("_", " ")) for part in name.split(" + "))


def quiet_grid(axes: Axes, axis: Literal["x", "y", "both"] = "x") -> None:
    """Thin lines behind the data along one axis."""
    axes.grid(True, axis=axis, color=RULE, linewidth=0.6)
    axes.tick_params(length=0)
