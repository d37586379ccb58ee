"""The chapter of stacked networks: the regions together against the whole brain, and what each input adds to age and sex."""

from __future__ import annotations

from typing import Any

from experiments.analysis.stacking import INPUTS_TOGETHER, TOGETHER
from experiments.rendering.page import items, missing, note, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, interval, p_value, verdict
from experiments.reporting.look import Chart, label_of
from experiments.reporting.results_chapters import METRICS, part
from experiments.reporting.sources import Sources
from experiments.statistics.stacking import STRENGTH

HELD_BACK = (
    "Each fold's stack is a logistic regression on the networks' log odds, fitted on its tuning part, scored on its test part. "
    "The tuning part is small and has chosen each network's epoch and threshold already, so its log odds flatter them: no "
    f"weight is negative, and all are shrunk towards 0 by a penalty chosen beforehand (C {STRENGTH:g}, log odds of one SD)."
)


def stacked(sources: Sources) -> Chapter:
    """Scores of the stacks, the two questions that they answer, and the sentences by rule."""
    comparison = sources.comparison
    rows = {row["input"]: row for row in comparison.get("stacked", ())}
    whole = "Inputs" if INPUTS_TOGETHER in rows else "Regions"
    title = f"{whole} together, and beside age and sex"
    if not rows:
        message = "Networks are stacked where two regions, or an input and the baseline age + sex, are compared."
        return Chapter("stacked", title, [missing(message, sources.command("baselines"))])
    blocks: list[str | Chart] = [items([f"{words}." for words in comparison["stacked_sentences"]])]
    for row in (TOGETHER, INPUTS_TOGETHER):
        if row not in rows:
            continue
        pairs = {pair["metric"]: pair for name in ("", "_auc") for pair in comparison.get(f"paired_stacked{name}", ())}
        cells = [[METRICS[metric], interval(part(rows[row], metric)), *_cells(pairs.get(metric))] for metric in METRICS]
        head = ["", row, "minus global", "p", "verdict"]
        asked = (
            "Does the whole brain know more than its parts?" if row == TOGETHER else "Does global know more than these inputs?"
        )
        blocks += [f"<h3>{asked}</h3>", table(head, cells, caption=row)]
    blocks += _added(sources, rows)
    blocks.append(note(HELD_BACK))
    names = list(next(iter(rows.values())))
    return Chapter(
        "stacked", title, blocks, [Sheet("stacked", names, [[row[name] for name in names] for row in rows.values()])]
    )


def _added(sources: Sources, rows: dict[str, Any]) -> list[str | Chart]:
    comparison = sources.comparison
    brier = {pair["first"]: pair for pair in comparison.get("paired_added_brier", ())}
    cells = []
    for pair in comparison.get("paired_added", ()):
        other, name = brier[pair["first"]], pair["first"]
        loss = [interval(other["difference"], 3, sign=True), p_value(other["p_holm"])]
        cells.append([label_of(name), interval(part(rows[name], "auc")), *_cells(pair)[:2], *loss])
    heading = "<h3>What does the image add to age and sex?</h3>"
    if not cells:
        return [heading, missing("The baseline age + sex is missing.", sources.command("baselines"))]
    head = ["stack", "AUC", "AUC minus age + sex", "p (Holm)", "Brier score minus age + sex", "p (Holm)"]
    how = (
        "The log odds of the clinical model enter unchanged, and the network's are added with a weight: without information "
        "in the image the stack stays what age and sex say. The AUC judges; of the Brier score less is better. Tests and "
        "intervals are those of the other differences, one Holm family for each score."
    )
    return [heading, table(head, cells, caption="Added value, on the same patients"), paragraph(how)]


def _cells(pair: Any) -> list[Any]:
    """Difference, p and verdict of a pair; empty where there is none."""
    return [interval(pair["difference"], sign=True), p_value(pair["p_holm"]), verdict(pair["verdict"])] if pair else [None] * 3
