"""Numbers in words and figures, as people read them."""

from __future__ import annotations

from math import floor, isfinite, log10


def plural(count: int, word: str) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def rounded(value: float, figures: int = 3) -> str:
    """A number with so many of its figures, and no exponent: 1,230, 12.3, 0.00123."""
    near = float(f"{value:.{figures}g}")
    if near == 0 or not isfinite(near):
        return f"{near + 0:g}"
    text = f"{near:,.{max(0, figures - 1 - floor(log10(abs(near))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
