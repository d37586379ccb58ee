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
    found = sources.optional.get("controls")
    title = "Controls"
    if found is None:
        told = "Controls show whether region shape, scanner or leakage could explain the result."
        return Chapter("controls", title, [missing(told, sources.command("controls"))])
    rows = [one for one in found["controls"] if one["state"] == "complete"]
    absent = [f"{one['title']}: not run, {one['reason']}" for one in found["controls"] if one["state"] != "complete"]
    drawn = [_control_row(one, sources) for one in rows]
    chart = Chart(
        "controls",
        "AUC of each control. " + "; ".join(f"{one['title']}: {interval(one['estimates']['auc'])}" for one in rows) + ".",
        "AUC of the controls with 95 % intervals; the upright line is chance.",
        lambda canvas: draw_rows(canvas, drawn, [Panel("AUC", limits_of(drawn, 0, (0.3, 0.9)), null=0.5)]),
    )
    columns = ["control", "input", "AUC", "difference of AUC", "verdict"]
    shown = [_control_cells(one, sources) for one in rows]
    spacing = " x ".join(f"{side:g}" for side in found["spacing_mm"])
    blocks: list[str | Chart] = [
        paragraph(
            f"A small network on {spacing} mm voxels, {found['epochs']} epochs, the study's own folds, mask mode "
            f"{found['mask_mode']}. The controls are compared with the same network on the image itself, never with the "
            "networks of the study."
        ),
        chart,
        table(columns, shown, caption="Controls and verdicts"),
        fold_away("Rules behind the verdicts", items([f"{label_of(n)}: {rule}" for n, rule in found.get("rules", {}).items()])),
    ]
    if absent:
        blocks.insert(3, items(absent))
    return Chapter("controls", title, blocks, [_control_sheet(found["controls"])])


def _control_row(one: Mapping[str, Any], sources: Sources) -> Row:
    name = one["input"]
    label = one["title"] if name is None else f"{one['title']}, {label_of(name)}"
    color, marker = (color_of(name, sources.inputs), marker_of(name, sources.inputs)) if name else (INK, "o")
    return Row(label, [Bar.of(one["estimates"]["auc"])], color, marker, one["control"] != "image")


def _control_cells(one: Mapping[str, Any], sources: Sources) -> list[Any]:
    gap = one["difference"]
    difference = wordy(f"{text(one['difference_of'])}: {interval(gap['auc'], sign=True)}") if gap else None
    warned = '<strong class="flag-warning">Warning:</strong> ' if one["flag"] == "warning" else ""
    name = keyed(one["input"], sources.inputs) if one["input"] else "all"
    return [one["title"], name, interval(one["estimates"]["auc"]), difference, wordy(warned + text(one["verdict"]))]


def _control_sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = ["control", "input", "state", "auc", "auc_low", "auc_high", "difference_of", "difference", "low", "high"]
    out = []
    for one in rows:
        auc, gap = (one["estimates"] or {}).get("auc", {}), (one["difference"] or {}).get("auc", {})
        values = [auc.get("value"), auc.get("low"), auc.get("high"), one["difference_of"]]
        last = [gap.get("value"), gap.get("low"), gap.get("high"), one["flag"], one["verdict"], one["reason"]]
        out.append([one["control"], one["input"], one["state"], *values, *last])
    return Sheet("controls", [*columns, "flag", "verdict", "reason"], out)


def subgroups(sources: Sources) -> Chapter:
    """A forest over subgroups for the whole brain, and a table of all inputs."""
    found = sources.optional.get("subgroups")
    title = "Subgroups"
    if found is None:
        told = "Subgroups by sex, age, scanner, site and lesion volume are not there yet."
        return Chapter("subgroups", title, [missing(told, sources.command("compare"))])
    groups = found["groups"]
    main = REFERENCE if REFERENCE in sources.inputs else sources.inputs[0]
    drawn = _group_rows(groups, main, sources)
    shown = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}
    chart = Chart(
        "subgroups",
        f"Forest of subgroups for {label_of(main)}. "
        + "; ".join(f"{one['variable']} {one['level']}: {_group_score(one, main)}" for one in groups)
        + ".",
        f"Subgroups of the internal test scans, input {label_of(main)}, 95 % intervals. In brackets: scans, positive scans.",
        lambda canvas: draw_rows(
            canvas,
            drawn,
            [Panel(told, limits_of(drawn, place, (0.3, 1.0)), null=0.5) for place, told in enumerate(shown.values())],
        ),
    )
    head = ["subgroup", "scans", "patients", "positive", *(label_of(name) for name in sources.inputs), "note"]
    rows = [
        [f"{VARIABLES.get(one['variable'], one['variable'])}: {one['level']}", one["scans"], one["patients"], one["events"]]
        + [_group_stack(one, name) for name in sources.inputs]
        + [one["note"]]
        for one in groups
    ]
    blocks: list[str | Chart] = [paragraph(found["about"])]
    if groups:
        every = table(head, rows, caption="Balanced accuracy of every input in every subgroup")
        blocks += [chart, fold_away("All inputs in all subgroups", every)]
    if found["absent"]:
        blocks.append(note("No values in this cohort: " + ", ".join(VARIABLES.get(n, n) for n in found["absent"]) + "."))
    return Chapter("subgroups", title, blocks, [_group_sheet(groups)])


def _group_rows(groups: Sequence[Mapping[str, Any]], main: str, sources: Sources) -> list[Row]:
    rows: list[Row] = []
    last = ""
    for one in groups:
        if one["variable"] != last:
            last = one["variable"]
            rows.append(Row(VARIABLES.get(last, label_of(last))))
        own = one["inputs"].get(main) or {}
        bars = [Bar.of(own.get("balanced_accuracy")), Bar.of(own.get("auc"))]
        told = f"{one['level']} ({one['scans']}, {one['events']})"
        rows.append(Row(told, bars, color_of(main, sources.inputs), marker_of(main, sources.inputs)))
    return rows


def _group_score(one: Mapping[str, Any], name: str) -> str:
    return interval((one["inputs"].get(name) or {}).get("balanced_accuracy"))


def _group_stack(one: Mapping[str, Any], name: str) -> Html:
    return stacked((one["inputs"].get(name) or {}).get("balanced_accuracy"))


def _group_sheet(groups: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = ["variable", "level", "scans", "patients", "positive_scans", "input", "metric", "value", "low", "high"]
    rows = [
        [*(one[key] for key in ("variable", "level", "scans", "patients", "events")), name, metric, *triple(value)]
        for one in groups
        for name, own in one["inputs"].items()
        for metric, value in own.items()
    ]
    return Sheet("subgroups", columns, rows)


def robustness(sources: Sources) -> Chapter:
    """Other EDSS thresholds, and subsets of the scans."""
    found = sources.optional.get("robustness")
    title = "Robustness"
    if found is None:
        told = "Other EDSS thresholds and subsets of the scans are not there yet."
        return Chapter("robustness", title, [missing(told, sources.command("compare"))])
    steps = found["edss"]
    chart = Chart(
        "edss_thresholds",
        "AUC of each input against the EDSS threshold from which a scan counts as positive.",
        f"AUC when another EDSS threshold defines the classes, with 95 % intervals; the models were trained for "
        f"{found['label_threshold']:g} (upright line).",
        lambda canvas: draw_ladder(canvas, steps, sources.inputs, found["label_threshold"]),
    )
    head = ["scans used", "scans", "patients", "positive", *(label_of(name) for name in sources.inputs)]
    rows = [
        [one["name"], one["scans"], one["patients"], one["events"], *(_group_stack(one, name) for name in sources.inputs)]
        for one in found["subsets"]
    ]
    columns = ["kind", "which", "scans", "positive_scans", "input", "metric", "value", "low", "high"]
    parts = [("edss", one["threshold"], one) for one in steps] + [("subset", one["name"], one) for one in found["subsets"]]
    flat = [
        [kind, which, one["scans"], one["events"], name, metric, *triple(value)]
        for kind, which, one in parts
        for name, own in one["inputs"].items()
        for metric, value in own.items()
    ]
    blocks: list[str | Chart] = [paragraph(found["about"])]
    if steps:
        blocks.append(chart)
    blocks.append(table(head, rows, caption="Balanced accuracy on parts of the scans"))
    return Chapter("robustness", title, blocks, [Sheet("robustness", columns, flat)])
