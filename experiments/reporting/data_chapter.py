"""The chapter about the data: flow of exclusions, table 1, the reference standard, partitions, acquisition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from datamodules.cohort.target import Target
from experiments.analysis.tissue import TISSUE_HEADING, tissue_lines, tissue_words
from experiments.rendering.page import missing, note, paragraph, table
from experiments.rendering.palette import ACCENT, GRAY, INK, RULE, SOFT
from experiments.reporting.chapter import Chapter, Sheet
from experiments.reporting.look import Canvas, Chart, quiet_grid
from experiments.reporting.sources import Sources
from experiments.reporting.table_one import acquisition_blocks, table_one_blocks
from experiments.runtime.words import plural, rounded
from experiments.statistics.precision import StudySize, expected_precision

LINE_INCHES, BOX_GAP = 0.17, 0.3
MOST_BARS = 40
"""Values that have a bar of their own; more are put into so many bins."""


def data(sources: Sources) -> Chapter:
    """Who was studied, and how they were divided."""
    blocks: list[str | Chart] = []
    sheets: list[Sheet] = []
    flow = sources.optional.get("flow")
    if flow is None:
        blocks.append(missing("The flow of exclusions is missing.", sources.command("sweep")))
    else:
        blocks.append(_flow_chart(flow, _division(sources)))
        counted = ["patients", "scans", *([] if sources.target.is_number else ["positive_scans"])]
        rows = [[row["reason"], *(row.get(name) for name in counted)] for row in flow["excluded"]]
        if rows:
            columns = ["excluded because", *(name.replace("_", " ") for name in counted)]
            blocks.append(table(columns, rows, caption="Exclusions"))
        sheets.append(Sheet("exclusions", ["reason", *counted], rows))
    made, more = table_one_blocks(sources)
    blocks += made
    sheets += more
    blocks += ["<h3>Reference standard</h3>", paragraph(reference_standard(sources.target))]
    target = sources.target
    known = [row for row in sources.cohort if row.get(target.column)]
    cells = [(target.value_of(row[target.column]), row["label"] == "1" and not target.is_number) for row in known]
    scores = [(value, positive) for value, positive in cells if value is not None]
    days = [float(row["days"]) for row in sources.cohort if row.get("days")]
    if scores and not target.is_named:
        blocks.append(_label_chart(scores, days, target))
    blocks += ["<h3>Partitions</h3>", *_partitions(sources)]
    blocks += ["<h3>What the inputs hold of each patient</h3>", *_tissue(sources)]
    made, more = acquisition_blocks(sources)
    blocks += ["<h3>Acquisition</h3>", *made, "<h3>Sample size</h3>", paragraph(sample_size(sources))]
    return Chapter("data", "Patients and data", blocks, [*sheets, *more])


def _tissue(sources: Sources) -> list[str]:
    content = sources.optional.get("tissue")
    if content is None:
        return [missing("How much of each region is fluid, other tissue or outside is missing.", sources.command("check"))]
    caption = f"Shares of the voxels, from {content['source']}"
    return [table(TISSUE_HEADING, tissue_lines(content), caption=caption), note(tissue_words(content))]


def sample_size(sources: Sources) -> str:
    """What a study of this size could be expected to show, by normal approximation."""
    comparison = sources.comparison
    if sources.target.is_number:
        return "What a study of this size could show of a number depends on the errors: see the widths of the intervals above."
    negatives = comparison["scans"] - comparison["positives"]
    if min(comparison["positives"], negatives) < 1:
        return "With one class only nothing can be expected."
    size = StudySize(comparison["positives"], negatives, comparison["patients"])
    others = len(comparison["paired"])
    precision = expected_precision(size, comparisons=max(1, others))
    points = {name: f"{100 * value:.0f}" for name, value in vars(precision).items()}
    scans = f"{plural(comparison['positives'], 'positive scan')} and {plural(negatives, 'negative scan')}"
    text = (
        f"With {scans}, and with sensitivity and specificity of 0.8 assumed, an interval of balanced accuracy reaches about "
        f"{points['half_width']} points to each side."
    )
    if not others:
        return text
    return (
        f"{text} A paired difference to the whole brain is detected with a power of 80 % when it is {points['detectable']} "
        f"points ({points['detectable_adjusted']} after Holm's adjustment for {others})."
    )


def reference_standard(target: Target) -> str:
    """How a value became a label, in words."""
    words = [target.sentence()]
    if target.window():
        undated = "excluded" if target.undated == "exclude" else "kept"
        words.append(f"Scans whose time to the assessment is unknown were {undated}.")
    if target.source:
        words.append(f"Scores counted when their source was: {target.source}.")
    if target.relapse_days:
        words.append(f"A score within {target.relapse_days} days after the onset of a relapse did not count.")
    return " ".join(words)


def _flow_chart(flow: Mapping[str, Any], division: tuple[str, str]) -> Chart:
    used = flow["used"]
    alt = f"Flow: {_counts(flow['found'])} found; " + "; ".join(
        f"{_counts(exclusion)} excluded: {exclusion['reason']}" for exclusion in flow["excluded"]
    )
    return Chart(
        "flow",
        f"{alt}; {_counts(used)} used.",
        "Flow of patients and scans."
        + (" Positive scans are counted where the score is known." if "positive_scans" in used else ""),
        lambda canvas: _draw_flow(canvas, flow, division),
    )


def _size(stage: Mapping[str, Any]) -> str:
    return f"{plural(stage['patients'], 'patient')}, {plural(stage['scans'], 'scan')}"


def _counts(stage: Mapping[str, Any]) -> str:
    return _size(stage) if stage.get("positive_scans") is None else f"{_size(stage)}, {stage['positive_scans']} positive"


def _draw_flow(canvas: Canvas, flow: Mapping[str, Any], division: tuple[str, str]) -> None:
    reasons = [f"{row['reason']}: {_size(row)}" for row in flow["excluded"]]
    width = 26 if canvas.narrow else 46
    excluded = [line for reason in reasons for line in _wrapped(reason, width)] or ["none excluded"]
    side = LINE_INCHES * (len(excluded) + 1) + 0.16
    heights = [0.5, 0.5, 0.5]
    total = sum(heights) + max(side + 2 * 0.12, BOX_GAP) + BOX_GAP + 0.1
    axes = canvas.single(total, left=0.02, right=0.02, top=0.04, bottom=0.04)
    axes.set_xlim(0, canvas.width - 0.04)
    axes.set_ylim(total - 0.08, 0)
    axes.set_axis_off()
    main = 1.62 if canvas.narrow else 2.9
    stage = [
        ("Found", _lines(flow["found"])),
        ("Used", _lines(flow["used"])),
        (division[0], [division[1]]),
    ]
    tops = [0.0, 0.5 + max(side + 0.24, BOX_GAP), 0.0]
    tops[2] = tops[1] + 0.5 + BOX_GAP
    for (head, lines), top in zip(stage, tops, strict=True):
        _box(axes, 0.01, top, main, 0.5, head, lines, INK)
    middle = main / 2
    for upper, lower in ((tops[0] + 0.5, tops[1]), (tops[1] + 0.5, tops[2])):
        axes.annotate("", (middle, lower), (middle, upper), arrowprops={"arrowstyle": "-|>", "color": SOFT, "linewidth": 0.9})
    branch = tops[0] + 0.5 + (tops[1] - tops[0] - 0.5) / 2
    left = main + 0.25
    axes.plot([middle, left], [branch, branch], color=SOFT, linewidth=0.9)
    _box(axes, left, branch - side / 2, canvas.width - 0.06 - left, side, "Excluded", excluded, SOFT)


def _division(sources: Sources) -> tuple[str, str]:
    folds = sources.comparison["folds"]
    if sources.sites:
        return f"Split by site into {folds} parts", "one tests; of the others a sixth tunes"
    return f"Split by patient into {folds} parts", "one tests, the next tunes, the rest train"


def _lines(stage: Mapping[str, Any]) -> list[str]:
    return [_counts(stage)]


def _box(axes: Axes, x: float, y: float, width: float, height: float, head: str, lines: Sequence[str], color: str) -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor="none", edgecolor=color, linewidth=0.9))
    axes.text(x + 0.08, y + 0.18, head, fontsize=8, fontweight="bold", va="center")
    small = 6.3 if width < 2 else 7.5
    for number, line in enumerate(lines):
        axes.text(x + 0.08, y + 0.18 + LINE_INCHES * (number + 1), line, fontsize=small, va="center")


def _wrapped(words: str, width: int) -> list[str]:
    return wrap(words, width, subsequent_indent="  ")


def _label_chart(scores: Sequence[tuple[float, bool]], days: Sequence[float], target: Target) -> Chart:
    classes = "" if target.is_number else " (dark: positive)"
    values, width = _bars(scores)
    at_each = Counter(value for value, _ in scores)
    counts = ", ".join(f"{rounded(value, 6)}: {count}" for value, count in sorted(at_each.items()))
    ends = f"{plural(len(scores), 'scan')} from {rounded(min(at_each), 6)} to {rounded(max(at_each), 6)}"
    return Chart(
        "labels",
        f"Histogram of {target.name}. " + (f"{ends}." if len(at_each) > MOST_BARS else f"Scans at each value: {counts}."),
        f"{target.name} of the scans used{classes}{' and days from scan to assessment' if days else ''}.",
        lambda canvas: _draw_labels(canvas, values, width, days, target.title),
    )


def _bars(scores: Sequence[tuple[float, bool]]) -> tuple[Counter[tuple[float, bool]], float]:
    """Scans at each value and class, in bins where there are more than ``MOST_BARS`` values, and the width of a bar."""
    values = np.array([value for value, _ in scores])
    known = np.unique(values)
    if known.size <= MOST_BARS:
        return Counter(scores), 0.8 * float(np.diff(known).min()) if known.size > 1 else 0.4
    width = float(np.ptp(known)) / MOST_BARS
    middles = known[0] + (np.minimum((values - known[0]) // width, MOST_BARS - 1) + 0.5) * width
    return Counter(zip(middles.tolist(), (positive for _, positive in scores), strict=True)), width


def _draw_labels(
    canvas: Canvas, values: Mapping[tuple[float, bool], int], width: float, days: Sequence[float], title: str
) -> None:
    panels = canvas.panels(2 if days else 1, 0.62, columns=(2, 1))
    for positive, color in ((False, GRAY), (True, ACCENT)):
        counts = {edss: count for (edss, label), count in values.items() if label is positive}
        below = [values.get((edss, False), 0) if positive else 0 for edss in counts]
        panels[0].bar(list(counts), list(counts.values()), width=width, bottom=below, color=color)
    panels[0].set_xlabel(title)
    panels[0].set_ylabel("scans")
    if days:
        panels[1].hist(
            days,
            bins=[float(edge) for edge in np.linspace(min(0, *days), max(*days, 1), 19)],
            color=GRAY,
            edgecolor="white",
            linewidth=0.5,
        )
        panels[1].set_xlabel("days to assessment")
    for axes in panels:
        axes.tick_params(labelbottom=True, labelleft=True)
        quiet_grid(axes, "y")
        axes.spines["bottom"].set_color(RULE)


def _partitions(sources: Sources) -> list[str]:
    facts = sources.optional.get("splits") or {}
    by_value = sources.target.is_number
    parts: dict[str, list[Mapping[str, str]]] = {}
    for row in sources.splits:
        parts.setdefault(row["part"], []).append(row)
    named = {str(part): name for part, name in enumerate(sources.sites)}
    rows: list[list[str | int]] = []
    for part in sorted(parts, key=int):
        members = parts[part]
        positive = sum(row["label"] == "1" for row in members)
        patients, share = len({row["patient"] for row in members}), f"{100 * positive / len(members):.0f} %"
        classes: list[str | int] = [] if by_value else [positive, share]
        rows.append([named.get(part, part), patients, len(members), *classes])
    several = [row["patient"] for row in sources.splits]
    spread = {(row["patient"], row["part"]) for row in sources.splits}
    twice = len(spread) - len({patient for patient, _ in spread})
    repeats = sum(count > 1 for count in Counter(several).values())
    tuned = "early stopping" if by_value else "early stopping, temperature, most rules of the threshold"
    tuning = "a sixth of the patients of the other parts, which are sites," if named else "part k + 1"
    return [
        paragraph(
            f"Patients were divided once, by {'value' if by_value else 'label'}, with seed {facts.get('seed', 'unknown')}; "
            f"{plural(repeats, 'patient')} with several scans. Patients in more than one part: {twice}. "
            f"Fold k tests part k, tunes ({tuned}) on {tuning} and trains on the others."
        ),
        table(["part", "patients", "scans", *([] if by_value else ["positive", "share"])], rows, caption="Parts"),
        note(
            f"SHA-256 of the split {facts.get('split_hash', 'unknown')}, of the cohort {facts.get('cohort_hash', 'unknown')}."
        ),
    ]
