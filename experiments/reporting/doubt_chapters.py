"""The chapters that doubt the result: controls, subgroups, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.rendering.page import Html, fold_away, items, missing, note, paragraph, table, text
from experiments.rendering.palette import INK, color_of, marker_of
from experiments.reporting.chapter import Chapter, Sheet, interval, keyed, stacked, triple, wordy
from experiments.reporting.curves import draw_ladder
from experiments.reporting.intervals import Bar, Panel, Row, draw_rows, limits_of
from experiments.reporting.look import Chart, label_of
from experiments.reporting.sources import Sources

REFERENCE = "global"
VARIABLES = {
    "sex": "sex",
    "age": "age (years)",
    "field_strength": "field strength (T)",
    "scanner": "scanner",
    "site": "site",
    "lesion_ml": "lesion volume (ml)",
    "days": "days from scan to score",
}


def controls(sources: Sources) -> Chapter:
    """Negative and positive controls with their verdicts by rule."""
    content = sources.optional.get("controls")
    title = "Controls"
    if content is None:
        message = "Controls show whether region shape, scanner or leakage could explain the result."
        return Chapter("controls", title, [missing(message, sources.command("controls"))])
    rows = [row for row in content["controls"] if row["state"] == "complete"]
    absent = [f"{row['title']}: not run, {row['reason']}" for row in content["controls"] if row["state"] != "complete"]
    score, metric = sources.words.titles[sources.words.secondary], sources.words.secondary
    known = [row for row in rows if metric in row["estimates"]]
    drawn = [_control_row(row, sources) for row in known]
    limits, null = ((0.3, 0.9), 0.5) if metric == "auc" else ((-0.4, 0.8), 0.0)
    chart = Chart(
        "controls",
        f"{score} of each control. "
        + "; ".join(f"{row['title']}: {interval(row['estimates'][metric])}" for row in known)
        + ".",
        f"{score} of the controls with 95 % intervals; the upright line is chance.",
        lambda canvas: draw_rows(canvas, drawn, [Panel(score, limits_of(drawn, 0, limits), null=null)]),
    )
    columns = ["control", "input", score, f"difference of {score}", "verdict"]
    shown = [_control_cells(row, sources) for row in rows]
    spacing = " x ".join(f"{side:g}" for side in content["spacing_mm"])
    blocks: list[str | Chart] = [
        paragraph(
            f"A small network on {spacing} mm voxels, {content['epochs']} epochs, the study's own folds, mask mode "
            f"{content['mask_mode']}. The controls are compared with the same network on the image itself, never with the "
            "networks of the study."
        ),
        *([chart] if drawn else []),
        table(columns, shown, caption="Controls and verdicts"),
        fold_away(
            "Rules behind the verdicts", items([f"{label_of(n)}: {rule}" for n, rule in content.get("rules", {}).items()])
        ),
    ]
    if absent:
        blocks.insert(-1, items(absent))
    return Chapter("controls", title, blocks, [_control_sheet(content["controls"], metric)])


def _control_row(control: Mapping[str, Any], sources: Sources) -> Row:
    name = control["input"]
    label = control["title"] if name is None else f"{control['title']}, {label_of(name)}"
    color, marker = (color_of(name, sources.inputs), marker_of(name, sources.inputs)) if name else (INK, "o")
    return Row(label, [Bar.of(control["estimates"][sources.words.secondary])], color, marker, control["control"] != "image")


def _control_cells(control: Mapping[str, Any], sources: Sources) -> list[Any]:
    gap, metric, estimates = control["difference"], sources.words.secondary, control["estimates"]
    difference = wordy(f"{text(control['difference_of'])}: {interval(gap[metric], sign=True)}") if gap else None
    score = interval(estimates[metric]) if metric in estimates else f"AUC {interval(estimates['auc'])}"
    warned = '<strong class="flag-warning">Warning:</strong> ' if control["flag"] == "warning" else ""
    name = keyed(control["input"], sources.inputs) if control["input"] else "all"
    return [control["title"], name, score, difference, wordy(warned + text(control["verdict"]))]


def _control_sheet(rows: Sequence[Mapping[str, Any]], metric: str) -> Sheet:
    scores = [metric, f"{metric}_low", f"{metric}_high"]
    columns = ["control", "input", "state", *scores, "difference_of", "difference", "low", "high"]
    out = []
    for row in rows:
        score, gap = ((row[name] or {}).get(metric, {}) for name in ("estimates", "difference"))
        values = [score.get("value"), score.get("low"), score.get("high"), row["difference_of"]]
        last = [gap.get("value"), gap.get("low"), gap.get("high"), row["flag"], row["verdict"], row["reason"]]
        out.append([row["control"], row["input"], row["state"], *values, *last])
    return Sheet("controls", [*columns, "flag", "verdict", "reason"], out)


def subgroups(sources: Sources) -> Chapter:
    """A forest over subgroups for the whole brain, and a table of all inputs."""
    content = sources.optional.get("subgroups")
    title = "Subgroups"
    if content is None:
        message = "Subgroups by sex, age, scanner, site and lesion volume are missing."
        return Chapter("subgroups", title, [missing(message, sources.command("compare"))])
    groups = content["groups"]
    main = REFERENCE if REFERENCE in sources.inputs else sources.inputs[0]
    drawn = _group_rows(groups, main, sources)
    shown = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}
    chart = Chart(
        "subgroups",
        f"Forest of subgroups for {label_of(main)}. "
        + "; ".join(f"{group['variable']} {group['level']}: {_group_score(group, main)}" for group in groups)
        + ".",
        f"Subgroups of the internal test scans, input {label_of(main)}, 95 % intervals. In brackets: scans, positive scans.",
        lambda canvas: draw_rows(
            canvas,
            drawn,
            [Panel(label, limits_of(drawn, column, (0.3, 1.0)), null=0.5) for column, label in enumerate(shown.values())],
        ),
    )
    head = ["subgroup", "scans", "patients", "positive", *(label_of(name) for name in sources.inputs), "note"]
    rows = [
        [
            f"{VARIABLES.get(group['variable'], group['variable'])}: {group['level']}",
            group["scans"],
            group["patients"],
            group["events"],
        ]
        + [_group_stack(group, name) for name in sources.inputs]
        + [group["note"]]
        for group in groups
    ]
    blocks: list[str | Chart] = [paragraph(content["about"])]
    if groups:
        every = table(head, rows, caption="Balanced accuracy of every input in every subgroup")
        blocks += [chart, fold_away("All inputs in all subgroups", every)]
    if content["absent"]:
        names = ", ".join(VARIABLES.get(name, name) for name in content["absent"])
        blocks.append(note(f"Not divided by {names}: no values, none that differ, or the target itself."))
    return Chapter("subgroups", title, blocks, [_group_sheet(groups)])


def _group_rows(groups: Sequence[Mapping[str, Any]], main: str, sources: Sources) -> list[Row]:
    rows: list[Row] = []
    last = ""
    for group in groups:
        if group["variable"] != last:
            last = group["variable"]
            rows.append(Row(VARIABLES.get(last, label_of(last))))
        estimates = group["inputs"].get(main) or {}
        bars = [Bar.of(estimates.get("balanced_accuracy")), Bar.of(estimates.get("auc"))]
        label = f"{group['level']} ({group['scans']}, {group['events']})"
        rows.append(Row(label, bars, color_of(main, sources.inputs), marker_of(main, sources.inputs)))
    return rows


def _group_score(group: Mapping[str, Any], name: str) -> str:
    return interval((group["inputs"].get(name) or {}).get("balanced_accuracy"))


def _group_stack(group: Mapping[str, Any], name: str) -> Html:
    return stacked((group["inputs"].get(name) or {}).get("balanced_accuracy"))


def _group_sheet(groups: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = ["variable", "level", "scans", "patients", "positive_scans", "input", "metric", "value", "low", "high"]
    rows = [
        [*(group[key] for key in ("variable", "level", "scans", "patients", "events")), name, metric, *triple(value)]
        for group in groups
        for name, estimates in group["inputs"].items()
        for metric, value in estimates.items()
    ]
    return Sheet("subgroups", columns, rows)


def _thresholds(content: Mapping[str, Any], sources: Sources) -> Chart:
    where = "below which" if sources.target.direction == "below" else "from which"
    return Chart(
        "edss_thresholds",
        f"AUC of each input against the EDSS threshold {where} a scan counts as positive.",
        f"AUC when another EDSS threshold defines the classes, with 95 % intervals; the models were trained for "
        f"{content['label_threshold']:g} (upright line).",
        lambda canvas: draw_ladder(canvas, content["edss"], sources.inputs, content["label_threshold"]),
    )


def robustness(sources: Sources) -> Chapter:
    """Other EDSS thresholds, and subsets of the scans."""
    content = sources.optional.get("robustness")
    title = "Robustness"
    if content is None:
        thresholds = "Other EDSS thresholds and subsets" if sources.target.is_edss else "Subsets"
        message = f"{thresholds} of the scans are missing."
        return Chapter("robustness", title, [missing(message, sources.command("compare"))])
    steps = content["edss"]
    head = ["scans used", "scans", "patients", "positive", *(label_of(name) for name in sources.inputs)]
    rows = [
        [
            subset["name"],
            subset["scans"],
            subset["patients"],
            subset["events"],
            *(_group_stack(subset, name) for name in sources.inputs),
        ]
        for subset in content["subsets"]
    ]
    columns = ["kind", "which", "scans", "positive_scans", "input", "metric", "value", "low", "high"]
    parts = [("edss", group["threshold"], group) for group in steps] + [
        ("subset", group["name"], group) for group in content["subsets"]
    ]
    flat = [
        [kind, which, group["scans"], group["events"], name, metric, *triple(value)]
        for kind, which, group in parts
        for name, estimates in group["inputs"].items()
        for metric, value in estimates.items()
    ]
    blocks: list[str | Chart] = [paragraph(content["about"])]
    if steps:
        blocks.append(_thresholds(content, sources))
    blocks.append(table(head, rows, caption="Balanced accuracy on parts of the scans"))
    return Chapter("robustness", title, blocks, [Sheet("robustness", columns, flat)])
