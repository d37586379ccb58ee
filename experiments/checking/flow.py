"""The flow of exclusions as a drawing: found, left out for each reason, used, and the parts of the split.

Plain SVG text, so that every number can be found, copied and read aloud.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.runtime.words import plural

WIDTH, PAD, LINE, GAP = 860, 14, 19, 26
MAIN, SIDE = 330, 460
CHARACTERS = 56
"""Characters of a line in the side boxes, at 13 pixels."""
STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1b1b1b}"
    "text.head{font-weight:600}rect.box{fill:#fff;stroke:#555}rect.out{fill:#f6f1e7;stroke:#a98a4a}path{stroke:#555;fill:none}"
)


def flow_svg(flow: Mapping[str, Any], parts: Sequence[Mapping[str, int]] = (), by_site: bool = False) -> str:
    """Draw a flow.

    Args:
        flow: As ``Cohort.flow`` gives it.
        parts: ``patients``, ``scans`` and ``positive_scans`` of each part of the split.
        by_site: Whether a part is a site.

    Returns:
        An SVG document, 860 pixels wide.
    """
    drawn: list[str] = []
    middle = PAD + MAIN / 2
    y = _box(drawn, PAD, PAD, MAIN, "found", [counts(flow["found"])])
    for excluded in flow["excluded"]:
        top = y + GAP / 2
        lines = [*textwrap.wrap(excluded["reason"], CHARACTERS), counts(excluded)]
        bottom = _box(drawn, WIDTH - SIDE - PAD, top, SIDE, "left out", lines, kind="out")
        level = (top + bottom) / 2
        drawn.append(f'<path d="M{middle} {level}H{WIDTH - SIDE - PAD}" marker-end="url(#arrow)"/>')
        y = bottom
    drawn.append(f'<path d="M{middle} {_bottom_of_first()}V{y + GAP}" marker-end="url(#arrow)"/>')
    y = _box(drawn, PAD, y + GAP, MAIN, "used", [counts(flow["used"])])
    if parts:
        drawn.append(f'<path d="M{middle} {y}V{y + GAP}" marker-end="url(#arrow)"/>')
        part_texts = [f"part {number}: {counts(part)}" for number, part in enumerate(parts)]
        others = "of the patients of the others a sixth tunes, the rest trains"
        note = f"fold k tests part k, {others if by_site else 'tunes on part k + 1, trains on the others'}"
        y = _box(
            drawn,
            PAD,
            y + GAP,
            WIDTH - 2 * PAD,
            f"split by {'site' if by_site else 'patient'} into {len(parts)} parts",
            [*part_texts, note],
        )
    height = round(y + PAD)
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#555;stroke:none"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(flow_sentence(flow), quote=True)}"><style>{STYLE}</style>{arrow}'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def flow_sentence(flow: Mapping[str, Any]) -> str:
    """The flow in one sentence, for who cannot see the drawing."""
    out = "; ".join(f"{excluded['reason']}: {counts(excluded)}" for excluded in flow["excluded"]) or "none"
    return f"Found {counts(flow['found'])}. Left out: {out}. Used {counts(flow['used'])}."


def counts(group: Mapping[str, Any]) -> str:
    """Patients, scans and positive scans in words; positives are counted where the score is known."""
    positive = group.get("positive_scans")
    text = f"{plural(group['patients'], 'patient')}, {plural(group['scans'], 'scan')}"
    return text if positive is None else f"{text}, {positive} positive"


def _bottom_of_first() -> float:
    return PAD + _height(1)


def _height(lines: int) -> float:
    return LINE * (lines + 1) + PAD


def _box(drawn: list[str], x: float, y: float, width: float, head: str, lines: Sequence[str], kind: str = "box") -> float:
    """Draw a box with a heading and lines of text; returns its lower edge."""
    height = _height(len(lines))
    drawn.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="4"/>')
    for number, line in enumerate([head, *lines]):
        style = ' class="head"' if number == 0 else ""
        drawn.append(f'<text{style} x="{x + PAD}" y="{y + LINE * (number + 1)}">{escape(line)}</text>')
    return y + height
