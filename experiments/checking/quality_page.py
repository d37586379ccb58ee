"""The page of all scans, worst first: verdict, picture, and every quality number to sort by.

It shows brains under their patients' ids, so it stays on the machine and says so; nothing in it is loaded from elsewhere.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from datamodules.cohort.flagged_scans import ACCEPTED, VERDICTS
from datamodules.cohort.identity import under_names
from datamodules.cohort.images import titles
from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.quality.limits import HOLD_Z, LEAST_SCANS, LIMITS, LOOK_Z, Judged, judge_scans, limit_of
from experiments.checking.quality import ScanQuality, plain_beside
from experiments.rendering.overlay import COLOURS
from experiments.rendering.page import POLICY, Cell, Html, Section, note, page, paragraph, table
from experiments.runtime.words import plural

STAYS = (
    "This page shows images of patients under their ids. It is meant for this machine: do not send or publish it. "
    "What the study reports to others (report.html, W&B) has pseudonyms and no images."
)
TOGGLE = '<label><input type="checkbox" id="outlines" checked> outlines</label>'
WORDS = {"held": "held back", "look": "look at", "ok": "ok"}
OWN_IMAGES = POLICY.replace("img-src data:", "img-src data: file: 'self'")
"""The page's pictures are files beside it: as part of the page, 400 of them would make it unusable."""


def write_quality_page(
    folder: Path,
    scans: Sequence[ScanQuality],
    holds: bool,
    accepted: Mapping[tuple[str, str], str] | None = None,
    judged: list[Judged] | None = None,
) -> list[Judged]:
    """Judge all scans, copy their pictures and write ``index.html``.

    Args:
        folder: Where the page goes; pictures of scans that are no longer there are removed.
        scans: Numbers and pictures.
        holds: Whether a verdict ``held`` keeps a scan out of the study, or only says that it would.
        accepted: The user's reason for each scan (patient, session) that was accepted.
        judged: Verdicts that were given before; None judges the scans among themselves.

    Returns:
        One verdict a scan, in order.
    """
    judged = judge_scans([scan.numbers for scan in scans]) if judged is None else judged
    folder.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        for source, name in ((scan.picture, scan.file), (plain_beside(scan.picture), plain_beside(Path(scan.file)).name)):
            target = folder / name
            if source.resolve() != target.resolve():
                draft = folder / f".{name}.partial"
                shutil.copyfile(source, draft)
                draft.replace(target)
    files = {name for scan in scans for name in (scan.file, plain_beside(Path(scan.file)).name)}
    for left in {path.name for path in list_folder(folder, "*.png")} - files:
        (folder / left).unlink()
    accepted = under_names(accepted or {}, [(scan.patient, scan.session) for scan in scans])
    order = sorted(range(len(scans)), key=lambda row: (judged[row].verdict != "held", -judged[row].worst, scans[row].name))
    sections = [
        Section("scans", "Scans, worst first", _scan_table(scans, judged, order, accepted)),
        Section("limits", "Limits", _limit_table()),
    ]
    html = page("Quality of the scans", _lead(judged, holds), sections)
    write_text(folder / "index.html", html.replace(POLICY, OWN_IMAGES))
    return judged


def _lead(judged: Sequence[Judged], holds: bool) -> Html:
    counts = Counter(verdict.verdict for verdict in judged)
    text = (
        f"{plural(len(judged), 'scan')}: {counts['held']} beyond a limit, {counts['look']} to look at, {counts['ok']} within."
    )
    if holds:
        what = (
            f"Scans beyond a limit are held back (<code>{VERDICTS}</code>) until a row in <code>{ACCEPTED}</code>, beside "
            "participants.tsv, accepts them: patient, session, reason, separated by tabs."
        )
    else:
        what = "Nothing is held back. <code>make check ARGS=--hold</code> holds back the scans that are beyond a limit now."
    return Html(f'<strong class="warning">{escape(STAYS)}</strong><br>{text} {what}')


def _scan_table(
    scans: Sequence[ScanQuality], judged: Sequence[Judged], order: Sequence[int], accepted: Mapping[tuple[str, str], str]
) -> str:
    names = _columns(scans)
    rows: list[list[Cell]] = []
    for row in order:
        scan, verdict = scans[row], judged[row]
        reason = accepted.get((scan.patient, scan.session))
        beyond = {finding.name: finding.verdict for finding in verdict.findings}
        text = WORDS[verdict.verdict] + (f", accepted: {reason}" if reason else "")
        why = "; ".join(f"{finding.message} ({finding.detail})" for finding in verdict.findings)
        rows.append(
            [
                Html(f'<span style="white-space:nowrap">{escape(scan.name)}</span><br><small>{escape(text)}</small>'),
                _picture(scan),
                Html(f'<div style="min-width:15em"><strong>{escape(text)}</strong><br>{escape(why)}</div>'),
                f"{verdict.worst:.1f}" if np.isfinite(verdict.worst) else "",
                *(_number(scan.numbers.get(name, np.nan), beyond.get(name)) for name in names),
            ]
        )
    key = ", ".join(f"{name.replace('_', ' ')} {_swatch(colour)}" for name, colour in COLOURS.items())
    shown = titles(dict.fromkeys(name for scan in scans for name in scan.images))
    hint = note(
        f"Pictures: {shown} with the outline of the brain mask (white) and of the template's regions; where the scan has a "
        "label map, a further row with its own regions. A click opens a picture. Colours: ",
        Html(key), ". ", Html(TOGGLE),
    )  # fmt: skip
    return hint + table(
        ["scan", "picture", "verdict", "worst", *map(_title, names)],
        rows,
        caption="Click a heading to sort. 'worst' is the largest robust z, 1000 for a fixed limit.",
        sortable=True,
        tall=True,
    )


def _columns(scans: Sequence[ScanQuality]) -> list[str]:
    """Numbers that any scan has, those with a limit first, in the order of the limits."""
    names = list(dict.fromkeys(name for scan in scans for name in scan.numbers))
    places = {limit.name: position for position, limit in enumerate(LIMITS)}
    return sorted(names, key=lambda name: places[limit.name] if (limit := limit_of(name)) else len(places))


def _title(name: str) -> str:
    limit = limit_of(name)
    if limit is None:
        return name.replace("_", " ")
    return limit.title + (name.removeprefix(limit.name[:-1]).replace("_", " ") if limit.name.endswith("*") else "")


def _picture(scan: ScanQuality) -> Html:
    alt = escape(f"{titles(scan.images)} of {scan.name} with outlines", quote=True)
    plain = plain_beside(Path(scan.file)).name
    size = 'loading="lazy" width="320"'
    return Html(
        f'<a class="lined" href="{scan.file}"><img src="{scan.file}" alt="{alt}" {size}></a>'
        f'<a class="plain" href="{plain}"><img src="{plain}" alt="{alt.removesuffix(" with outlines")}" {size}></a>'
    )


def _number(value: float, verdict: str | None) -> Cell:
    if not np.isfinite(value):
        return None
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    return Html(f"<strong>{text}</strong>") if verdict else text


def _swatch(colour: tuple[int, int, int]) -> str:
    style = f"display:inline-block;width:.8em;height:.8em;border:1px solid #888;background:rgb{colour}"
    return f'<span style="{style}"></span>'


def _limit_table() -> str:
    rows: list[list[Cell]] = []
    for limit in LIMITS:
        least = f"{limit.low:g}" if np.isfinite(limit.low) else ""
        most = f"{limit.high:g}" if np.isfinite(limit.high) else ""
        rows.append(
            [limit.title.strip(" :"), least, most, {"both": "low and high"}.get(limit.tails, limit.tails), limit.reason]
        )
    text = (
        f"Against the cohort: a number more than {LOOK_Z:g} robust standard deviations from the median, in the direction "
        f"named, is worth a look, more than {HOLD_Z:g} is held back. "
        f"With fewer than {LEAST_SCANS} scans only fixed limits count."
    )
    return paragraph(text) + table(["number", "least", "most", "against the cohort", "why"], rows)
