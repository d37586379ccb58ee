"""The page of ``check``: the findings with their drawings. It names scans, so it stays on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.files.atomic import write_text
from experiments.analysis.table1 import table1_lines
from experiments.analysis.tissue import TISSUE_HEADING, tissue_lines, tissue_words
from experiments.checking.acquisition import heading_of
from experiments.checking.days import days_svg
from experiments.checking.flow import flow_sentence, flow_svg
from experiments.checking.gather import Findings, Subject
from experiments.checking.view import costs_text, days_text, duplicates_text, precision_text
from experiments.rendering.page import Cell, Html, Section, figure, note, page, paragraph, table

LOCAL = "This page names scans by their ids and belongs on this machine; report.html is the page to share."


def write_check_page(study: Subject, findings: Findings, quality: str) -> Path:
    """Write check.html and flow.svg into the study's folder.

    Args:
        study: The study.
        findings: All findings.
        quality: What is said of the scans' quality; the page of the scans is ``qc/index.html``.
    """
    flow = flow_svg(findings.flow, findings.parts, bool(study.splits and study.splits.sites))
    write_text(study.folder / "flow.svg", flow)
    lines, is_number = table1_lines(findings.table1), study.cohort.rule.is_number
    scanners: list[list[Cell]] = [
        [name, *((f"{n}{'' if is_number else f' / {p}'}") if n else None for n, p in row)]
        for name, row in findings.scanners.items()
    ]
    parts: list[list[Cell]] = [
        [str(number), item["patients"], item["scans"], *([] if is_number else [item["positive_scans"]])]
        for number, item in enumerate(findings.parts)
    ]
    heading = ["part", "patients", "scans", *([] if is_number else ["positive scans"])]
    split = table(heading, parts) if parts else paragraph(f"No split: {study.unsplit}")
    name = study.cohort.rule.name
    drawn = figure(days_svg(findings.days, name).encode(), alt=f"Histogram of days from scan to {name}", caption="")
    days = drawn if findings.days.known else ""
    rows: list[list[Cell]] = [
        [item.first, item.second, item.how, None if item.correlation is None else f"{item.correlation:.3f}"]
        for item in findings.duplicates
    ]
    twins = table(["scan", "scan", "found by", "correlation"], rows) if rows else ""
    sections = [
        Section("flow", "Exclusions", figure(flow.encode(), alt=flow_sentence(findings.flow), caption="")),
        Section("quality", "Quality", _lines(quality) + note(Html('<a href="qc/index.html">all scans</a>'))),
        Section("parts", "Parts", split
                + table(["scanner", *([f"part {n}" for n in range(len(parts))] or ["all"])], scanners,
                        caption=f"Scans{'' if is_number else ' / positive scans'} by scanner{' and part' if parts else ''}")),
        Section("days", f"Scan to {name}", paragraph(days_text(study, findings).split("\n")[0]) + days),
        Section("table1", "Table 1", table(lines[0], lines[1:], caption="Median (quartiles) or n (%)")
                + note("SMD: standardised difference (Austin 2009; Yang and Dalton 2012); above 0.1 groups count as unlike.")),
        Section("acquisition", "Acquisition", table(heading_of(study.cohort.rule), findings.acquisition)),
        Section("tissue", "What the inputs hold", table(TISSUE_HEADING, tissue_lines(findings.tissue),
                caption=f"From {findings.tissue['source']}, % of the voxels") + note(tissue_words(findings.tissue))
                + (note(findings.one_sided) if findings.one_sided else "")),
        Section("duplicates", "Suspected duplicates", _lines(duplicates_text(study, findings).split("\n")[0]) + twins),
        Section("precision", "Precision to expect", _lines(precision_text(findings))),
        Section("costs", "Cost", _lines(costs_text(study, findings))),
    ]  # fmt: skip
    path = study.folder / "check.html"
    write_text(path, page(f"Before training: {study.folder.name}", LOCAL, sections))
    return path


def _lines(text: str) -> str:
    parts: Sequence[str] = text.split("\n")
    return "".join(paragraph(part.strip()) for part in parts)
