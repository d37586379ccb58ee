"""The chapter of a leave-site-out study: each site scored by models that never saw it, and how much the sites differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.analysis.sites import site_sentence
from experiments.rendering.page import items, missing, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, interval, stacked, triple
from experiments.reporting.external_chapter import draw_sites
from experiments.reporting.look import Chart, label_of
from experiments.reporting.sources import Sources


def sites(sources: Sources) -> Chapter:
    """A forest of every input over the sites, a table, and the heterogeneity in words."""
    content = sources.optional.get("sites")
    title = "Sites"
    if content is None:
        return Chapter("sites", title, [missing("The scores of the sites are missing.", sources.command("compare"))])
    groups, over = content["sites"], content["over_sites"]
    forest = [_forest(name, groups, over[name]) for name in sources.inputs]
    lines = [site_sentence(label_of(name), over[name]) for name in sources.inputs]
    scores = "; ".join(
        f"{group['site']} {interval((group['inputs'].get(sources.inputs[0]) or {}).get('auc'))}" for group in groups
    )
    chart = Chart(
        "sites",
        f"Forest of the AUC by site for each input. {label_of(sources.inputs[0])}: {scores}.",
        "AUC in each site, by models that saw no scan of it, the random-effects mean, and the interval in which the AUC of a "
        "further site would lie. 95 % intervals; the upright line is chance.",
        lambda canvas: draw_sites(canvas, forest, sources.inputs, "auc", {"mean": "over sites", "further": "a further site"}),
    )
    head = ["site", "scans", "patients", "positive", *(label_of(name) for name in sources.inputs), "note"]
    rows = [
        [
            *(group[column] for column in ("site", "scans", "patients", "events")),
            *(stacked((group["inputs"].get(name) or {}).get("auc")) for name in sources.inputs),
            group["note"],
        ]
        for group in groups
    ]
    blocks: list[str | Chart] = [
        paragraph(content["about"]), chart, items([f"{line}." for line in lines]),
        table(head, rows, caption="AUC of every input in every site"),
    ]  # fmt: skip
    columns = ["site", "scans", "patients", "positive_scans", "input", "metric", "value", "low", "high"]
    flat = [
        [*(group[column] for column in ("site", "scans", "patients", "events")), name, metric, *triple(value)]
        for group in groups
        for name, estimates in group["inputs"].items()
        for metric, value in estimates.items()
    ]
    kinds = list(next(filter(None, over.values()), {}))
    summary = [[name, *(values[kind] for kind in kinds)] for name, values in over.items() if values]
    return Chapter("sites", title, blocks, [Sheet("sites", columns, flat), Sheet("heterogeneity", ["input", *kinds], summary)])


def _forest(name: str, groups: Any, over: Mapping[str, Any] | None) -> dict[str, Any]:
    ends = over or {}
    return {
        "input": name,
        "sites": [{"site": group["site"], **(group["inputs"].get(name) or {})} for group in groups],
        "mean": {"auc": {"value": ends.get("mean"), "low": ends.get("low"), "high": ends.get("high")}},
        "further": {"auc": {"value": ends.get("mean"), "low": ends.get("predicted_low"), "high": ends.get("predicted_high")}},
    }
