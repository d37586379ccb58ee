"""One self-contained HTML page: no network, light, dark and print, readable at 390 px, usable by keyboard alone.

Style and the few lines of script stand in ``page.css`` and ``page.js`` beside this file and are copied into the page. A
content security policy in the page forbids every request, so that a report can be opened anywhere and tells nobody.
Text is escaped unless it is ``Html``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from experiments.rendering import palette
from regions.errors import UserError

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
NUMERIC = re.compile(r"undefined|[<>±+\-−~]?\s*\d[\d.,]*(\s?(%|h|GB|±|to|x|\[|\(|[–-]\d).*)?")  # noqa: RUF001 (the signs are meant)
"""A number, with its unit, interval or range, and nothing else before it."""
HERE = Path(__file__).parent


class PageError(UserError):
    """Content that cannot become a page."""


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


Cell = str | int | float | None


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Attributes:
        id: Letters, digits and dashes; the anchor that the list of contents points to.
        title: Plain text.
        html: Content.
    """

    id: str
    title: str
    html: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A whole HTML document.

    Args:
        title: Plain text, also the heading.
        lead: One or two sentences below the heading; plain text or ``Html``.
        sections: In reading order; their ids must differ.

    Raises:
        PageError: if an id is used twice or cannot be an anchor.
    """
    ids = [section.id for section in sections]
    wrong = next((name for name in ids if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or ids.count(name) > 1), None)
    if wrong is not None:
        raise PageError(f"section id {wrong!r} is used twice or holds something else than a-z, 0-9 and dashes")
    style, script = (HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style = palette.style_sheet() + style
    links = "".join(f'<li><a href="#{section.id}">{escape(section.title)}</a></li>' for section in sections)
    body = "".join(
        f'<section id="{section.id}" aria-labelledby="{section.id}-title">'
        f'<h2 id="{section.id}-title">{escape(section.title)}</h2>{section.html}</section>'
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body>"
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header><h1>{escape(title)}</h1><p class="lead">{text(lead)}</p></header>'
        f'<div class="columns"><nav aria-label="Contents"><h2>Contents</h2><ol>{links}</ol></nav>'
        f'<main id="content" tabindex="-1">{body}</main></div><script>\n{script}</script></body></html>\n'
    )


def text(value: Cell) -> str:
    """A value as HTML: escaped, numbers as they are, nothing for None."""
    if isinstance(value, Html):
        return str(value)
    return "" if value is None else escape(str(value))


def paragraph(*parts: Cell) -> str:
    """One paragraph of joined parts."""
    return f"<p>{''.join(text(part) for part in parts)}</p>"


def note(*parts: Cell) -> str:
    """A short remark below a table or figure."""
    return f'<p class="note">{"".join(text(part) for part in parts)}</p>'


def missing(what: str, command: str) -> str:
    """What stands where a section's data is not there: what would be shown, and the command that makes it."""
    return f'<p class="missing">{escape(what)} Make it with <code>{escape(command)}</code>, then <code>make report</code>.</p>'


def items(values: Sequence[Cell]) -> str:
    """A bulleted list."""
    return "<ul>" + "".join(f"<li>{text(value)}</li>" for value in values) + "</ul>"


def definitions(pairs: Sequence[tuple[str, Cell]]) -> str:
    """A list of terms with what they are; None is a blank that an author must fill."""
    return (
        "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{blank() if v is None else text(v)}</dd>" for term, v in pairs) + "</dl>"
    )


def blank(words: str = "for the authors") -> Html:
    """A blank that only a person can fill."""
    return Html(f'<span class="blank">{escape(words)}</span>')


def fold_away(title: str, html: str) -> str:
    """Content that is shown on demand; a printout and a text search find it opened."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "", sortable: bool = False, tall: bool = False
) -> str:
    """A table that scrolls inside its own box when it is wider than the page; nothing where it has no rows.

    The first cell of a row is its header. A column is set flush right when all its cells are numbers.

    Args:
        columns: Headings.
        rows: One cell a column; None is an empty cell.
        caption: Plain text above the table.
        sortable: Headings become buttons that sort.
        tall: It also scrolls down in its box, below its headings, so that its last columns are reached from every row.

    Raises:
        PageError: if a row has another number of cells than there are columns.
    """
    if not rows:
        return ""
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise PageError(f"row {number} of table {caption!r} has {len(row)} cells, the table has {len(columns)} columns")
    right = [_is_numeric([row[column] for row in rows]) for column in range(len(columns))]
    head = "".join(_heading(name, flush, sortable) for name, flush in zip(columns, right, strict=True))
    body = "".join(_row(row, right) for row in rows)
    heading = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    label = escape(caption or "Table", quote=True)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll{" tall" if tall else ""}" role="region" aria-label="{label}" tabindex="0"><table{kind}>{heading}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _is_numeric(cells: Sequence[Cell]) -> bool:
    filled = [re.sub(r"<[^>]*>", "", str(cell)).strip() for cell in cells if cell not in (None, "")]
    return any(cell != "undefined" for cell in filled) and all(NUMERIC.fullmatch(cell) for cell in filled)


def _heading(name: str, flush: bool, sortable: bool) -> str:
    kind = ' class="number"' if flush else ""
    if not sortable:
        return f'<th scope="col"{kind}>{escape(name)}</th>'
    return f'<th scope="col"{kind} aria-sort="none"><button type="button">{escape(name)}</button></th>'


def _row(row: Sequence[Cell], right: Sequence[bool]) -> str:
    kinds = [' class="number"' if flush else "" for flush in right]
    first = f'<th scope="row"{kinds[0]}>{text(row[0])}</th>' if row else ""
    return f"<tr>{first}{''.join(f'<td{kind}>{text(cell)}</td>' for cell, kind in zip(row[1:], kinds[1:], strict=True))}</tr>"


def figure(svg_or_png_bytes: bytes, *, alt: str, caption: str, narrow: bytes | None = None) -> str:
    """A figure with its caption; SVG is written into the page, so that its text can be read and found.

    Args:
        svg_or_png_bytes: The picture.
        alt: What it shows, for who cannot see it.
        caption: Plain text or ``Html``.
        narrow: The same for screens below 700 px, or None when one picture serves both.

    Raises:
        PageError: if the bytes are neither SVG nor PNG.
    """
    wide = _picture(svg_or_png_bytes, alt, "" if narrow is None else "wide")
    small = "" if narrow is None else _picture(narrow, alt, "narrow")
    words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{wide}{small}{words}</figure>"


def _picture(content: bytes, alt: str, kind: str) -> str:
    if content.startswith(b"\x89PNG"):
        data = base64.b64encode(content).decode()
        return f'<img class="{kind}" alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
    drawn = content.decode("utf-8")
    start = drawn.find("<svg")
    if start < 0:
        raise PageError("a figure must be SVG or PNG bytes")
    drawn = _own_ids(drawn[start:], f"g{hashlib.sha256(content).hexdigest()[:8]}-")
    opening, rest = drawn.split(">", 1)
    opening = re.sub(r'\s(role|class|aria-label)="[^"]*"', "", opening)
    return f'{opening} class="{kind}" role="img" aria-label="{escape(alt, quote=True)}">{rest}'


def _own_ids(drawn: str, prefix: str) -> str:
    """Give every id of an SVG a prefix, so that two drawings in one page do not share names."""
    drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
    drawn = re.sub(r'href="#', f'href="#{prefix}', drawn)
    return re.sub(r"url\(#", f"url(#{prefix}", drawn)
