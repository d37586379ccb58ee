"""The one set of colours and markers: of the inputs, and of the text and lines around them, on light and on dark.

Colours are named by their value on light paper. Pages get them as CSS variables, so that a figure follows light, dark and
print; pictures on black (the scan overlay, the overview) take the value on dark at once.

References:
    Okabe and Ito, Color universal design, 2008: the colours of the inputs are theirs or close to them, and each input has
    a marker of its own, so that no chart needs colour to be read.
"""

from __future__ import annotations

from collections.abc import Sequence

INK, SOFT, RULE = "#1b1f24", "#59616b", "#d8dce1"
ACCENT = "#1d5d7f"
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#d98c00", "#009e73", "#b3588f", "#d55e00"
SKY, BROWN, GRAY = "#3d9bd1", "#8c6d31", "#7a828c"
WINE, INDIGO, FOREST = "#882255", "#5a48c8", "#184818"
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    RULE: "--rule",
    ACCENT: "--accent",
    BLUE: "--c-blue",
    ORANGE: "--c-orange",
    GREEN: "--c-green",
    PURPLE: "--c-purple",
    RED: "--c-red",
    SKY: "--c-sky",
    BROWN: "--c-brown",
    WINE: "--c-wine",
    INDIGO: "--c-indigo",
    FOREST: "--c-forest",
    GRAY: "--c-gray",
}
"""Colour on light paper -> CSS variable of a page."""
ON_DARK = {
    INK: "#e7eaee",
    SOFT: "#a2abb5",
    RULE: "#343a42",
    ACCENT: "#7cc0e4",
    BLUE: "#58a9e0",
    ORANGE: "#f0b040",
    GREEN: "#33c29a",
    PURPLE: "#d98bba",
    RED: "#f2874a",
    SKY: "#86c9f0",
    BROWN: "#c2a262",
    WINE: "#d0607a",
    INDIGO: "#a296f2",
    FOREST: "#4f7f3f",
    GRAY: "#98a1ac",
}
"""Colour on light paper -> the same colour on dark paper or a black picture."""
INPUT_COLORS = {
    "global": INK,
    "white_matter": BLUE,
    "gray_matter": ORANGE,
    "subcortical_gray_matter": GREEN,
    "ventricles": PURPLE,
    "brainstem": RED,
}
INPUT_MARKERS = {
    "global": "o",
    "white_matter": "s",
    "gray_matter": "D",
    "subcortical_gray_matter": "^",
    "ventricles": "v",
    "brainstem": "P",
}
MORE_COLORS = (SKY, BROWN, WINE, INDIGO, FOREST, GRAY)
"""Of a user's regions, in their order; no input has them."""
MORE_MARKERS = ("X", "<", ">", "p", "h", "*", "d")
"""Of a user's regions; seven beside six colours, so that colour and marker together differ for 42 regions."""


def color_of(name: str, names: Sequence[str] = ()) -> str:
    """Colour of an input on light paper.

    Args:
        name: The input.
        names: All inputs of the study in their order, which gives a user's regions their colours.
    """
    return INPUT_COLORS.get(name) or MORE_COLORS[_position(name, names) % len(MORE_COLORS)]


def marker_of(name: str, names: Sequence[str] = ()) -> str:
    """Matplotlib's marker of an input; arguments as for ``color_of``."""
    return INPUT_MARKERS.get(name) or MORE_MARKERS[_position(name, names) % len(MORE_MARKERS)]


def _position(name: str, names: Sequence[str]) -> int:
    """Position of a user's region among the study's inputs that are not built in."""
    regions = [other for other in names if other not in INPUT_COLORS]
    return regions.index(name) if name in regions else 0


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue in 0 ... 255 of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


def style_sheet() -> str:
    """CSS that declares the variables for light paper and print, and for dark screens."""
    light = " ".join(f"{variable}: {color};" for color, variable in VARIABLES.items())
    dark = " ".join(f"{variable}: {ON_DARK[color]};" for color, variable in VARIABLES.items())
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
