"""What ``check`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from datamodules.batches.transform_task import PROCESSES
from datamodules.cohort.flagged_scans import SAME_PERSON
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.quality.limits import Judged
from datamodules.store.duplicates import LEAST_SCANS
from experiments.analysis.table1 import table1_lines
from experiments.analysis.tissue import TISSUE_HEADING, tissue_lines, tissue_words
from experiments.checking.costs import size, span
from experiments.checking.days import days_lines
from experiments.checking.gather import Findings, Subject
from experiments.checking.quality import ScanQuality
from experiments.runtime.console import print_note
from experiments.runtime.words import plural

NAME_WIDTH = 24
"""Characters of a name that are not broken over lines, where it has so many."""
SHOWN = 15
"""Scans that are named in the terminal; all of them stand on the page."""


def show(
    study: Subject, findings: Findings, quality: Sequence[ScanQuality], judged: Sequence[Judged], console: Console
) -> None:
    """Print all findings, the flow first, what it will cost last; the console must print texts as they stand."""
    console.print(flow_table(findings.flow))
    for remark in study.cohort.remarks:
        print_note(console, remark)
    console.print(quality_lines(quality, judged))
    if study.splits is not None:
        console.print(fold_table(study.cohort.scans, study.splits, study.cohort.rule.is_number))
    if len(findings.scanners) > 1 or "unknown" not in findings.scanners:
        console.print(scanner_table(findings.scanners, study.cohort.rule.is_number))
    console.print(days_text(study, findings))
    console.print(table1_table(findings.table1))
    if findings.left_out_columns:
        console.print(f"not in table 1, since nothing says what they are: columns {', '.join(findings.left_out_columns)}")
    console.print(duplicates_text(study, findings))
    console.print(input_table(study, findings))
    if findings.one_sided:
        console.print(f"note: {findings.one_sided}")
    console.print(tissue_table(findings))
    console.print(tissue_words(findings.tissue))
    console.print(precision_text(findings))
    console.print(costs_text(study, findings))


def _table(title: str, first: str, columns: Sequence[str], least: int = 0) -> Table:
    """An empty table; its first column is at least so many characters wide, also where the terminal is narrow."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold", min_width=least)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def flow_table(flow: Mapping[str, Any]) -> Table:
    """Scans, positive scans and patients: found, excluded for each reason with what is left after it, used."""
    if "positive_scans" not in flow["used"]:
        return _number_flow_table(flow)
    table = _table("exclusions", "step", ("scans", "positive", "patients", "scans left", "positive left"))
    counted = flow["found"]
    scans, positive = counted["scans"], counted["positive_scans"]
    table.add_row("found", str(scans), str(positive), str(counted["patients"]), str(scans), str(positive))
    for excluded in flow["excluded"]:
        scans, positive = scans - excluded["scans"], positive - excluded["positive_scans"]
        numbers = (excluded["scans"], excluded["positive_scans"], excluded["patients"], scans, positive)
        table.add_row(f"excluded: {excluded['reason']}", *map(str, numbers))
    used = flow["used"]
    table.add_row("used", str(used["scans"]), str(used["positive_scans"]), str(used["patients"]), str(scans), str(positive))
    return table


def _number_flow_table(flow: Mapping[str, Any]) -> Table:
    """The same, where a number is predicted."""
    table = _table("exclusions", "step", ("scans", "patients"))
    steps = [
        ("found", flow["found"]),
        *((f"excluded: {row['reason']}", row) for row in flow["excluded"]),
        ("used", flow["used"]),
    ]
    for name, counted in steps:
        table.add_row(name, str(counted["scans"]), str(counted["patients"]))
    return table


def quality_lines(quality: Sequence[ScanQuality], judged: Sequence[Judged]) -> str:
    """How many scans are beyond the limits, and which."""
    counts = Counter(verdict.verdict for verdict in judged)
    lines = [f"quality: {plural(counts['held'], 'scan')} beyond a limit, {counts['look']} to look at, {counts['ok']} within"]
    words = {"held": "beyond", "look": "look at"}
    rows = [(scan.name, verdict) for scan, verdict in zip(quality, judged, strict=True) if verdict.verdict != "ok"]
    lines += [f"  {words[verdict.verdict]} {name}: {verdict.reason} ({verdict.detail})" for name, verdict in rows[:SHOWN]]
    return "\n".join([*lines, *_more(len(rows))])


def _more(count: int) -> list[str]:
    return [f"  and {count - SHOWN} more, all on the page"] if count > SHOWN else []


def fold_table(scans: Sequence[Scan], splits: Splits, is_number: bool = False) -> Table:
    """Patients, scans and, of two classes, positive scans of each fold's partitions."""
    table = _table(f"patients / scans{'' if is_number else ' / positive scans'}", "fold", ("train", "tuning", "internal test"))
    for fold in range(splits.folds):
        parts = splits.partitions(fold, [scan.patient for scan in scans])
        cells = []
        for rows in parts.values():
            chosen = [scans[row] for row in rows]
            positive = "" if is_number else f" / {sum(s.label for s in chosen)}"
            cells.append(f"{len({s.patient for s in chosen})} / {len(chosen)}{positive}")
        table.add_row(splits.title(fold), *cells)
    return table


def scanner_table(scanners: Mapping[str, Sequence[tuple[int, int]]], is_number: bool = False) -> Table:
    """Scans and, of two classes, positive scans by scanner and test part."""

    def cell(scans: int, positive: int) -> str:
        return str(scans) if is_number else f"{scans}/{positive}"

    parts = len(next(iter(scanners.values())))
    names = [str(part) for part in range(parts)] if parts > 1 else []
    title = f"scans{'' if is_number else '/positive scans'} by scanner{' and part' if names else ''}"
    table = _table(title, "scanner", [*names, "all"], min(max(map(len, scanners)), NAME_WIDTH))
    for name, row in scanners.items():
        cells = [cell(scans, positive) if scans else "" for scans, positive in row] if names else []
        table.add_row(name, *cells, cell(sum(s for s, _ in row), sum(p for _, p in row)))
    return table


def days_text(study: Subject, findings: Findings) -> str:
    """What is told from the images, and how long after the scan it was assessed."""
    rule, days = study.cohort.rule, findings.days
    text = "; assessed ".join(part for part in (rule.describe(), rule.window()) if part)
    if days.quartiles is None:
        return f"{text}; no scan has a date" if rule.window() else text
    first, median, third = days.quartiles
    here = f"here {days.least} to {days.most} days, median {median:g} (quartiles {first:g} and {third:g})"
    unknown = f", {plural(days.unknown, 'scan')} without a date" if days.unknown else ""
    return "\n".join([f"{text}; {here}{unknown}", *days_lines(days)])


def table1_table(content: Mapping[str, Any]) -> Table:
    """The columns of table 1 that fit a terminal: all, by class, external, and differences."""
    lines = table1_lines(content)
    shown = [0] + [column for column, name in enumerate(lines[0]) if column and not name.startswith("test ")]
    table = _table("table 1: median (quartiles) or n (%); SMD: standardised difference, > 0.1 is unlike", "variable",
                   [lines[0][column] for column in shown[1:]])  # fmt: skip
    for line in lines[1:]:
        table.add_row(*(line[column] for column in shown))
    return table


def duplicates_text(study: Subject, findings: Findings) -> str:
    """Suspected duplicates, those between patients first."""
    if not findings.duplicates:
        few = len(study.cohort.scans) < LEAST_SCANS
        brains = f"; brains are compared where there are {LEAST_SCANS} scans or more" if few else ", nearly equal brains"
        return f"duplicates: none suspected (equal files, equal voxels{brains})"
    other = sum(not pair.same_patient for pair in findings.duplicates)
    advice = f"give both one patient in {SAME_PERSON}, or remove one" if other else "remove one, or check the sessions"
    lines = [f"duplicates: {len(findings.duplicates)} suspected, {other} of them between two patients; {advice}"]
    for pair in findings.duplicates[:SHOWN]:
        lines.append(f"  {pair}")
    return "\n".join([*lines, *_more(len(findings.duplicates))])


def input_table(study: Subject, findings: Findings) -> Table:
    """For each input: the box that is read, the region's volume, and its share of the whole brain's voxels."""
    spacing = " x ".join(f"{side:g}" for side in study.prepared.grid.spacing)
    columns = ("box, voxels", "region, ml", "of global's box", "time, all folds")
    table = _table(f"inputs, {spacing} mm", "input", columns, min(max(len(box.name) for box in findings.inputs), NAME_WIDTH))
    whole = findings.inputs[0].voxels
    for box in findings.inputs:
        volume = "brain" if box.ml is None else f"{box.ml:.1f}"
        shape = " x ".join(map(str, box.box.shape))
        table.add_row(box.name, shape, volume, f"1/{whole / box.voxels:.1f}", span(findings.costs.seconds_by_input[box.name]))
    return table


def tissue_table(findings: Findings) -> Table:
    """What each input holds: fluid, other tissue, outside, and how far that differs between the classes."""
    title = f"what the inputs hold of each patient, from {findings.tissue['source']}"
    table = _table(title, TISSUE_HEADING[0], TISSUE_HEADING[1:], max(len(box.name) for box in findings.inputs))
    for line in tissue_lines(findings.tissue):
        table.add_row(*(cell.replace("; ", "\n") for cell in line))
    return table


def precision_text(findings: Findings) -> str:
    """What the study can show, before it is trained."""
    if "positive_scans" not in findings.flow["used"]:
        return "precision to expect: of a number it depends on the errors; see the intervals of a first comparison"
    if findings.precision is None:
        return "precision: one class is empty, nothing can be shown"
    precision = findings.precision
    return (
        f"precision to expect of balanced accuracy near 0.80: +/- {100 * precision.half_width:.1f} points for one input,"
        f" +/- {100 * precision.difference_half_width:.1f} for a difference between two (95 % intervals)\n"
        f"  smallest true difference found in 8 of 10 studies: {100 * precision.detectable:.1f} points,"
        f" {100 * precision.detectable_adjusted:.1f} after correction for {len(findings.inputs) - 1} comparisons\n"
        f"  normal approximation without the variation of training; repeated scans count {1 / precision.design_effect:.2f}"
    )


def costs_text(study: Subject, findings: Findings) -> str:
    """Time, memory and disk."""
    costs, seconds = findings.costs, findings.transform_seconds
    transforms = "" if seconds is None else f"\nTorchIO transforms: {seconds:.2g} s per scan, in up to {PROCESSES} processes"
    return (
        f"cost of all runs to the last epoch, one after another: {span(costs.seconds)}; memory of the largest run "
        f"{size(costs.memory_mb)}; disk {size(costs.disk_mb)} of {size(costs.free_mb)} free\n"
        f"  {costs.source}\n"
        f"prepared volumes: {size(costs.volumes_mb)} in {study.prepared.folder}, shared by all runs{transforms}"
    )
