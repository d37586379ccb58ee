"""The chapters about the probabilities: are they right, and would acting on them do good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.rendering.page import Html, note, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, interval, keyed, number
from experiments.reporting.curves import draw_decision, draw_reliability
from experiments.reporting.look import Chart, label_of
from experiments.reporting.sources import Sources

SHOWN_BASELINES = ("age_sex", "age_sex_volumes")


def calibration(sources: Sources) -> Chapter:
    """Reliability curves and the calibration line, before and after each fold's temperature."""
    parts = sources.comparison["details"]["calibration"]
    inputs = {name: parts[name] for name in sources.inputs}
    slopes = {name: f"slope {_line(entry['after'], 'slope')}" for name, entry in inputs.items()}
    chart = Chart(
        "calibration",
        "Observed share against probability for each input. "
        + "; ".join(f"{name}: {text}" for name, text in slopes.items())
        + ".",
        "Calibration of the internal test probabilities after each fold's temperature, which its tuning part chose. Dots: bins "
        "of nearly equal numbers of scans. Solid: smooth curve; dashed: the same before the temperature; dotted: perfect.",
        lambda canvas: draw_reliability(canvas, inputs, slopes),
    )
    columns = ["input", "", "Brier score", "log loss", "in the large", "slope", "ICI"]
    rows = [row for name, entry in parts.items() for row in _rows(name, entry, sources)]
    words = (
        "Trained: as the network gave them; tempered: after the temperature. Lower Brier score and log loss are better. "
        "Calibration in the large is right at 0, the slope at 1; below 1 the probabilities are too extreme. Standard errors "
        "keep a patient's scans together. ICI: mean distance of the smooth curve from the diagonal."
    )
    blocks: list[str | Chart] = [chart, table(columns, rows, caption="Calibration"), note(words)]
    blocks += [paragraph(_imbalance(sources))]
    return Chapter("calibration", "Calibration", blocks, [_sheet(parts)])


def _imbalance(sources: Sources) -> str:
    comparison = sources.comparison
    share = comparison["positives"] / comparison["scans"]
    weights = (sources.config.get("model") or {}).get("class_weights")
    text = f"{100 * share:.0f} % of the scans are positive. "
    if weights:
        return text + f"The loss was weighted by class ({weights}); probabilities are then shifted towards the rarer class."
    return text + "The loss was not weighted and no class was oversampled, so the probabilities need no prior correction."


def _line(part: Mapping[str, Any], name: str) -> str:
    return interval(part["line"][name]) if part["line"] else "undefined"


def _rows(name: str, entry: Mapping[str, Any], sources: Sources) -> list[list[Any]]:
    shown = keyed(name, sources.inputs) if name in sources.inputs else label_of(name)
    rows = []
    for part, words in (("before", "trained"), ("after", "tempered")):
        stage = entry[part]
        lines = [_line(stage, key) for key in ("in_the_large", "slope")]
        scores = [interval(stage[key], 3) for key in ("brier", "log_loss")]
        rows.append([shown if part == "before" else Html(""), words, *scores, *lines, number(stage["ici"], 3)])
    return rows


def _sheet(parts: Mapping[str, Any]) -> Sheet:
    columns = ["input", "stage", "quantity", "value", "low", "high"]
    rows = []
    for name, entry in parts.items():
        for stage in ("before", "after"):
            part = entry[stage]
            estimates = {key: part[key] for key in ("brier", "log_loss")} | (part["line"] or {})
            rows += [[name, stage, key, value["value"], value["low"], value["high"]] for key, value in estimates.items()]
            rows += [[name, stage, key, part[key], None, None] for key in ("ece", "ici")]
    return Sheet("calibration", columns, rows)


def utility(sources: Sources) -> Chapter:
    """Decision curves of the calibrated probabilities."""
    content = sources.comparison["details"]["utility"]
    others = [name for name in SHOWN_BASELINES if name in content["inputs"]]
    lines = ["dashed: acting on every scan", "upright zero: acting on none"]
    lines += [f"{style}: {label_of(name)}" for name, style in zip(others, ("dotted", "dash-dotted"), strict=False)]
    chart = Chart(
        "decision",
        "Decision curves: net benefit against threshold probability for each input, beside acting on all and on none.",
        f"Net benefit of acting on a scan when its calibrated probability reaches a threshold (Vickers and Elkin 2006). Solid: "
        f"the input; {'; '.join(lines)}.".replace("upright zero", "zero line"),
        lambda canvas: draw_decision(canvas, content, sources.inputs, others),
    )
    columns = ["threshold", "treat_all", *content["inputs"]]
    rows = [
        [threshold, all_, *(curve[index] for curve in content["inputs"].values())]
        for index, (threshold, all_) in enumerate(zip(content["thresholds"], content["treat_all"], strict=True))
    ]
    words = note(
        "Net benefit is in true positives per scan, after subtracting false positives at the exchange rate of the threshold. "
        "Internal test data; a decision about use needs an external cohort."
    )
    return Chapter("utility", "Decision curve", [chart, words], [Sheet("decision", columns, rows)])
