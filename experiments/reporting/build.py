"""From the files of a study to its report: chapters in order, charts drawn, page, figures and tables written.

::

    report.html  figures/<name>.svg  figures/<name>.png  tables/<name>.tsv
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.files.atomic import write_atomically, write_text
from datamodules.files.tables import tsv_text
from experiments.rendering.page import Html, Section, figure, page
from experiments.reporting.chapter import Chapter, Sheet
from experiments.reporting.checklist_chapter import checklists
from experiments.reporting.data_chapter import data
from experiments.reporting.doubt_chapters import controls, robustness, subgroups
from experiments.reporting.explain_chapter import explain
from experiments.reporting.external_chapter import external
from experiments.reporting.failure_chapter import failures
from experiments.reporting.look import Chart, label_of, render
from experiments.reporting.method_chapters import methods, model_card
from experiments.reporting.numeric_chapters import agreement, number_differences, number_folds, number_scores
from experiments.reporting.probability_chapters import calibration, utility
from experiments.reporting.results_chapters import differences, scores
from experiments.reporting.run_chapters import learning, run_card
from experiments.reporting.site_chapter import sites
from experiments.reporting.sources import Sources
from experiments.reporting.spread_chapters import discrimination, folds
from experiments.reporting.stacked_chapter import stacked
from experiments.runtime.words import plural
from regions.catalog import REGIONS


@dataclass(frozen=True)
class Written:
    """Where a report lies and what it holds."""

    page: Path
    figures: int
    tables: int


def chapters(sources: Sources, images: bool = False) -> list[Chapter]:
    """All chapters in reading order; where a number is predicted, none is of thresholds, probabilities or classes."""
    if sources.target.is_number:
        results = [number_scores(sources), number_differences(sources), agreement(sources), number_folds(sources)]
        doubts = [external(sources), controls(sources)]
    else:
        results = [scores(sources), differences(sources), stacked(sources), discrimination(sources), folds(sources)]
        results += [*([sites(sources)] if sources.sites else []), calibration(sources), utility(sources)]
        doubts = [external(sources), controls(sources), explain(sources), subgroups(sources), robustness(sources)]
        doubts.append(failures(sources, images))
    return [
        *results,
        *doubts,
        data(sources),
        learning(sources),
        run_card(sources),
        methods(sources),
        model_card(sources),
        checklists(sources),
    ]


def write_report(sources: Sources, out: Path, images: bool = False) -> Written:
    """Write report.html, figures/ and tables/.

    Args:
        sources: The study's files.
        out: Folder to write into, as a rule the study's own.
        images: Put slices of the most confident errors into the page.
    """
    parts = chapters(sources, images)
    charts = [block for part in parts for block in part.blocks if isinstance(block, Chart)]
    drawn = {chart.name: _draw(chart, out / "figures") for chart in charts}
    sheets = [sheet for part in parts for sheet in part.sheets]
    for sheet in sheets:
        write_text(out / "tables" / f"{sheet.name}.tsv", as_tsv(sheet))
    sections = [Section(part.id, part.title, _html(part.blocks, drawn)) for part in parts]
    path = out / "report.html"
    write_text(path, page(f"Study {sources.name}", lead(sources), sections))
    return Written(path, len(charts), len(sheets))


def _draw(chart: Chart, folder: Path) -> str:
    made = render(chart)
    for kind, content in (("svg", made.svg), ("png", made.png)):
        write_atomically(folder / f"{chart.name}.{kind}", partial(_put, content))
    caption = Html(f'{escape(chart.caption)} <span class="files">figures/{chart.name}.svg, .png</span>')
    return figure(made.wide, alt=chart.alt, caption=caption, narrow=made.narrow)


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _html(blocks: Sequence[str | Chart], drawn: dict[str, str]) -> str:
    return "".join(drawn[block.name] if isinstance(block, Chart) else block for block in blocks)


def as_tsv(sheet: Sheet) -> str:
    """A sheet as tab-separated text; an undefined number is an empty cell."""
    return tsv_text(sheet.columns, (map(_cell, row) for row in sheet.rows))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return " ".join(str(value).split())


def _shown(sources: Sources) -> str:
    """What was trained on what."""
    regions = [name for name in sources.inputs if name in REGIONS and REGIONS[name].labels]
    if len(sources.inputs) == 1:
        return f"a network on {label_of(sources.inputs[0])}"
    return f"the same network on {'the whole brain and on its regions' if 'global' in sources.inputs and regions else 'each'}"


def lead(sources: Sources) -> Html:
    """What was studied, in two sentences, and what a reader must know before any number."""
    comparison = sources.comparison
    text = (
        f"{plural(len(sources.inputs), 'input')}, {plural(comparison['folds'], 'fold')}, "
        f"{plural(len(comparison['seeds']), 'seed')}: "
        f"{_shown(sources)}, {plural(comparison['patients'], 'patient')} with "
        f"{plural(comparison['scans'], 'scan')}, split by {'site' if sources.sites else 'patient'}."
    )
    text += f" {sources.target.short()}"
    warnings = [*comparison.get("notes", ())]
    if comparison["missing"]:
        warnings.append(
            f"Partial: {plural(len(comparison['missing']), 'run')} missing; all inputs are cut to the folds they share."
        )
    if sources.newer:
        warnings.append(f"{sources.newer[0]} is newer than this comparison; make it again: {sources.command('compare')}.")
    return Html(escape(text) + "".join(f'</p><p class="warning">{escape(warning)}' for warning in warnings))
