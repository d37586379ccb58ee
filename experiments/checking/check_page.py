"""The page of ``check``: the findings with their drawings. It names scans, so it stays on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.files.atomic import write_text
from experiments.analysis.table1 import table1_lines
from experiments.checking.acquisition import HEADING
from experiments.checking.days import days_svg
from experiments.checking.flow import flow_sentence, flow_svg
from experiments.checking.gather import Findings, Subject
from experiments.checking.view import costs_text, days_text, duplicates_text, precision_text
from experiments.rendering.page import Cell, Html, Section, figure, note, page, paragraph, table

LOCAL = "This page names scans by their ids and belongs on this machine; report.html is the page to share."


def write_check_page(study: Subject, found: Findings, quality: str) -> Path:
    """Write check.html and flow.svg into the study's folder.

    Args:
        study: The study.
        found: All findings.
        quality: What is said of the scans' quality; the page of the scans is ``qc/index.html``.
    """
    flow = flow_svg(found.flow, found.parts)
    write_text(study.folder / "flow.svg", flow)
    lines = table1_lines(found.table1)
    scanners: list[list[Cell]] = [
        [name, *(f"{n} / {p}" if n else None for n, p in row)] for name, row in found.scanners.items()
    ]
    parts: list[list[Cell]] = [
        [str(number), one["patients"], one["scans"], one["positive_scans"]] for number, one in enumerate(found.parts)
    ]
    heading = ["part", "patients", "scans", "positive scans"]
    split = table(heading, parts) if parts else paragraph(f"No split: {study.unsplit}")
    drawn = figure(days_svg(found.days).encode(), alt="Histogram of days from scan to EDSS", caption="")
    days = drawn if found.days.known else ""
    rows: list[list[Cell]] = [
        [one.first, one.second, one.how, None if one.correlation is None else f"{one.correlation:.3f}"]
        for one in found.duplicates
    ]
    twins = table(["scan", "scan", "found by", "correlation"], rows) if rows else ""
    sections = [
        Section("flow", "Exclusions", figure(flow.encode(), alt=flow_sentence(found.flow), caption="")),
        Section("quality", "Quality", _lines(quality) + note(Html('<a href="qc/index.html">all scans</a>'))),
        Section("parts", "Parts", split
                + table(["scanner", *([f"part {n}" for n in range(len(parts))] or ["all"])], scanners,
                        caption=f"Scans / positive scans by scanner{' and part' if parts else ''}")),
        Section("days", "Scan to EDSS", paragraph(days_text(study, found).split("\n")[0]) + days),
        Section("table1", "Table 1", table(lines[0], lines[1:], caption="Median (quartiles) or n (%)")
                + note("SMD: standardised difference (Austin 2009; Yang and Dalton 2012); above 0.1 groups count as unlike.")),
        Section("acquisition", "Acquisition", table(HEADING, found.acquisition)),
        Section("duplicates", "Suspected duplicates", _lines(duplicates_text(study, found).split("\n")[0]) + twins),
        Section("precision", "Precision to expect", _lines(precision_text(found))),
        Section("costs", "Cost", _lines(costs_text(study, found))),
    ]  # fmt: skip
    path = study.folder / "check.html"
    write_text(path, page(f"Before training: {study.folder.name}", LOCAL, sections))
    return path


def _lines(text: str) -> str:
    parts: Sequence[str] = text.split("\n")
    return "".join(paragraph(one.strip()) for one in parts)
