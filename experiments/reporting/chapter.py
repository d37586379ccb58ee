"""The pieces a report is put together from, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.rendering.page import Html
from experiments.rendering.palette import VARIABLES, color_of
from experiments.reporting.look import Chart, label_of

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Sheet:
    """A table that is also written as ``tables/<name>.tsv``, with full precision; None is an empty cell."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Chapter:
    """One section of the report before its charts are drawn.

    Attributes:
        id: Anchor.
        title: Heading.
        blocks: HTML and charts, in reading order.
        sheets: Tables to be written as files.
    """

    id: str
    title: str
    blocks: Sequence[str | Chart]
    sheets: Sequence[Sheet] = ()


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with fixed digits and a true minus sign; "undefined" for None."""
    if value is None:
        return "undefined"
    shown = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(shown) == 0:
        shown = shown.replace("-", "").replace("+", "")
    return shown.replace("-", MINUS)


def interval(estimate: Mapping[str, Any] | None, digits: int = 2, sign: bool = False) -> str:
    """``value [low, high]``; ``value [not estimable]`` if there is no interval."""
    parts = estimate or {}
    value, low, high = parts.get("value"), parts.get("low"), parts.get("high")
    if value is None:
        return "undefined"
    text = number(value, digits, sign)
    ends = "not estimable" if low is None or high is None else f"{number(low, digits, sign)}, {number(high, digits, sign)}"
    return f"{text} [{ends}]"


def triple(estimate: Mapping[str, Any] | None) -> list[float | None]:
    """Value, low and high of an estimate, for a sheet."""
    return [(estimate or {}).get(key) for key in ("value", "low", "high")]


def p_value(p: float | None) -> str:
    """A p value with three digits, never 0."""
    if p is None:
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(value: float | None) -> str:
    """A share in percent without decimals."""
    return "undefined" if value is None else f"{100 * value:.0f} %"


def keyed(name: str, names: Sequence[str]) -> Html:
    """Name of an input behind a dot in its colour."""
    dot = f'<span class="key" style="background:var({VARIABLES[color_of(name, names)]})"></span>'
    return Html(f'<span class="input">{dot}{label_of(name)}</span>')


def stacked(estimate: Mapping[str, Any] | None) -> Html:
    """A value above its interval, for tables with many columns."""
    text = interval(estimate)
    return Html(text.replace(" [", "<br><small>[") + "</small>" if " [" in text else text)


def wordy(words: str) -> Html:
    """A sentence in a table's cell; it keeps some width on a phone."""
    return Html(f'<span class="wordy">{words}</span>')


def verdict(words: str | None) -> Html:
    """A verdict; real differences stand out."""
    if words is None:
        return Html("")
    kind = "verdict different" if words.startswith("different") else "verdict"
    return Html(f'<span class="{kind}">{words}</span>')


def joined(words: Sequence[str]) -> str:
    """Words as an enumeration."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
