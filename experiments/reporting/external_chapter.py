"""The chapter about other hospitals: frozen models on an external cohort, site by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.externals.errors import ExternalError
from experiments.externals.freeze import touched
from experiments.externals.score import like_for_like, sites_words
from experiments.rendering.page import fold_away, items, missing, note, paragraph, table
from experiments.rendering.palette import RULE, SOFT, color_of, marker_of
from experiments.reporting.chapter import Chapter, Sheet, interval, keyed, number, p_value, triple, verdict
from experiments.reporting.intervals import Bar, Row, draw_bar, fitted
from experiments.reporting.look import Canvas, Chart, label_of, quiet_grid
from experiments.reporting.sources import Sources
from experiments.runtime.words import plural
from experiments.statistics.numeric_pairs import PRIMARY

MOST_WARNINGS = 4


def external(sources: Sources) -> Chapter:
    """One part for each external cohort."""
    title = "External test"
    if not sources.external:
        message = "No external cohort was scored, so nothing is known about other hospitals."
        return Chapter("external", title, [missing(message, f"make external COHORT=dir STUDY={sources.folder.name}")])
    blocks: list[str | Chart] = []
    sheets: list[Sheet] = []
    for number_, (name, cohort) in enumerate(sources.external.items()):
        blocks += _cohort(cohort, name, sources, f"external_{number_ + 1}" if number_ else "external")
        sheets.append(_sheet(cohort, f"external_{name}", sources))
    return Chapter("external", title, blocks, sheets)


def _cohort(cohort: Mapping[str, Any], name: str, sources: Sources, chart: str) -> list[str | Chart]:
    positive = f"{cohort['positives']} positive, " if "positives" in cohort else ""
    head = f"{plural(cohort['patients'], 'patient')}, {plural(cohort['scans'], 'scan')}, {positive}"
    frozen, words = cohort["frozen"], sources.words
    score = words.titles[words.primary]
    which = "Models were" if sources.target.is_number else "Models, thresholds and temperatures were"
    blocks: list[str | Chart] = [
        f"<h3>Cohort {label_of(name)}</h3>",
        paragraph(
            f"{head}{sites_words(cohort['sites'])}. {which} frozen on "
            f"{frozen['time'][:10]} (SHA-256 {frozen['hash'][:12]}\N{HORIZONTAL ELLIPSIS}), "
            f"before the labels were read. Primary: {cohort['primary']}."
        ),
        *_warnings(changed(sources.folder, name)),
        table(
            ["input", *words.titles.values(), f"{score}, sites left out one at a time"],
            [_score(result, sources) for result in cohort["inputs"]],
            caption="Ensembles: the folds' networks averaged",
        ),
        _site_chart(cohort, sources, chart),
        *(_changes(cohort, metric, sources) for metric in (words.primary, words.secondary)),
        note(
            f"{like_for_like(cohort['inputs'][0])} External values are mean \N{PLUS-MINUS SIGN} SD over the networks. "
            f"Intervals: {cohort['interval']}. Sites left out: lowest and highest value of the ensemble."
        ),
    ]
    if cohort.get("paired"):
        rows = [
            [
                label_of(pair["first"]),
                interval(pair["difference"], words.digits(words.primary), sign=True),
                p_value(pair["p_holm"]),
                verdict(pair["verdict"]),
            ]
            for pair in cohort["paired"]
        ]
        head_ = ["input", f"{score} minus global", "p (Holm)", "verdict"]
        blocks.append(table(head_, rows, caption="Paired differences of the ensembles"))
        if "independent_tests" in cohort:
            blocks.append(note(f"DeLong and McNemar: {cohort['independent_tests']}."))
    if not sources.target.is_number:
        columns = ["input", "Brier score", "calibration in the large", "slope"]
        lines = [_line(result, sources) for result in cohort["inputs"]]
        blocks.append(table(columns, lines, caption="Calibration of the ensemble"))
    if remarks := [*cohort["same_decisions"], *cohort["remarks"]]:
        blocks.append(items(remarks))
    return blocks


def _warnings(messages: Sequence[str]) -> list[str]:
    """What was touched since the freeze: the first few, the others on demand."""
    shown = [f'<p class="warning">Touched since the freeze: {escape(message)}.</p>' for message in messages[:MOST_WARNINGS]]
    rest = messages[MOST_WARNINGS:]
    return [*shown, fold_away(f"{len(rest)} more were touched", items(rest))] if rest else shown


def changed(study: Path, name: str) -> list[str]:
    """What was changed after the models were frozen, one sentence each; empty when nothing was."""
    try:
        messages = touched(study / "external" / name)
    except ExternalError as error:  # that the log cannot be read is what there is to tell
        messages = [str(error)]
    return [words.replace(f"{study}/", "") for words in messages]


def _score(result: Mapping[str, Any], sources: Sources) -> list[Any]:
    words = sources.words
    out = (result.get("leave_one_site_out") or {}).get(words.primary) or {}
    ends = [number(out.get(end), words.digits(words.primary)) for end in ("low", "high")]
    range_ = " to ".join(ends) if out.get("low") is not None else "undefined"
    scores = [interval(result["ensemble"].get(metric), words.digits(metric)) for metric in words.titles]
    return [keyed(result["input"], sources.inputs), *scores, range_]


def _changes(cohort: Mapping[str, Any], metric: str, sources: Sources) -> str:
    columns = ["input", "single networks, external", "single networks, internal test", "external minus internal"]
    rows = [_change(result, metric, sources) for result in cohort["inputs"]]
    caption = f"{sources.words.titles[metric]}, like for like: single networks on both sides"
    return table(columns, rows, caption=caption[0].upper() + caption[1:])


def _change(result: Mapping[str, Any], metric: str, sources: Sources) -> list[Any]:
    single, digits = result["single"].get(metric) or {}, sources.words.digits(metric)
    spread = " \N{PLUS-MINUS SIGN} ".join(number(single.get(each), digits) for each in ("mean", "sd"))
    change = interval(result["change"].get(metric), digits, sign=True)
    return [keyed(result["input"], sources.inputs), spread, interval(result["internal"].get(metric), digits), change]


def _line(result: Mapping[str, Any], sources: Sources) -> list[Any]:
    calibration = result.get("calibration") or {}
    parts = [
        interval(calibration.get("brier"), 3),
        interval(calibration.get("in_the_large")),
        interval(calibration.get("slope")),
    ]
    return [keyed(result["input"], sources.inputs), *parts]


def _site_chart(cohort: Mapping[str, Any], sources: Sources, name: str) -> Chart:
    inputs, metric = cohort["inputs"], sources.words.primary
    title = sources.words.titles[metric]
    digits = sources.words.digits(metric)
    scores = "; ".join(f"{result['input']} {interval(result['ensemble'].get(metric), digits)}" for result in inputs)
    chance = "" if sources.target.is_number else " The upright line is chance."
    return Chart(
        name,
        f"Forest of {title} by site for each input. All sites: {scores}.",
        f"{title[0].upper()}{title[1:]} of the ensemble in each site and in all of them, and of the internal test (single "
        f"models), with 95 % intervals.{chance} Small sites have wide intervals.",
        lambda canvas: draw_sites(canvas, inputs, sources.inputs, metric, {"ensemble": "all sites", "internal": "internal"}),
    )


def draw_sites(
    canvas: Canvas, inputs: Sequence[Mapping[str, Any]], names: Sequence[str], metric: str, below: Mapping[str, str]
) -> None:
    """A forest for each input: its sites, and below a line two rows more, the last one hollow.

    Args:
        canvas: Where.
        inputs: ``input``, ``sites`` and the rows below, each with the metric's value and interval.
        names: The study's inputs, for their colours.
        metric: Which.
        below: Key of each row below the line -> its label.
    """
    rows = max(len(result["sites"]) for result in inputs) + 2
    named = [site["site"] or "unknown" for site in inputs[0]["sites"]]
    labels, left = fitted([*named, *below.values()], 0.35 * canvas.width)
    summary, other = below
    for index, axes in enumerate(canvas.panels(len(inputs), 0.22 * (rows + 1) / 1.9, left=left)):
        result = inputs[index]
        axes.set_title(canvas.title(result["input"]))
        color, marker = color_of(result["input"], names), marker_of(result["input"], names)
        for number_, site in enumerate(result["sites"]):
            draw_bar(axes, Bar.of(site.get(metric)), number_, Row("", (), color, marker))
        last = len(result["sites"])
        draw_bar(axes, Bar.of(result[summary].get(metric)), last, Row("", (), color, marker))
        draw_bar(axes, Bar.of(result[other].get(metric)), last + 1, Row("", (), SOFT, marker, True))
        _site_axes(axes, labels, last, metric != PRIMARY)


def _site_axes(axes: Axes, labels: Sequence[str], last: int, is_share: bool) -> None:
    axes.axhline(last - 0.5, color=RULE, linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    if is_share:
        axes.axvline(0.5, color=SOFT, linewidth=0.8, zorder=1.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=4)
    quiet_grid(axes)


def _sheet(cohort: Mapping[str, Any], name: str, sources: Sources) -> Sheet:
    counted = ["scans", "patients", *(["positives"] if "positives" in cohort else [])]
    columns = ["input", "what", "site", *counted, "metric", "value", "low", "high"]
    rows = []
    for result in cohort["inputs"]:
        counts, none = [cohort[each] for each in counted], [None for _ in counted]
        parts = [("ensemble", "", counts, result["ensemble"]), ("internal", "", none, result["internal"])]
        parts += [("site", s["site"], [s[each] for each in counted], s) for s in result["sites"]]
        for what, site, sizes, values in parts:
            for metric in sources.words.titles:
                rows.append([result["input"], what, site, *sizes, metric, *triple(values.get(metric))])
    return Sheet(name, columns, rows)
