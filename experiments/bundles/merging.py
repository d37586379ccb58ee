"""The counts of several sites as one table: each site, all scans together, and how much the sites differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from datamodules.files.tables import tsv_text
from experiments.bundles.site_files import counts_of
from experiments.runtime.console import print_table
from experiments.runtime.words import plural
from experiments.statistics.aggregates import Aggregate, Range, pooled
from experiments.statistics.heterogeneity import of_areas
from experiments.statistics.number_aggregates import NUMBER_SCORES, NumberAggregate, pooled_numbers
from experiments.statistics.numeric import shown_digits, title_of
from experiments.statistics.numeric_pairs import PRIMARY
from experiments.statistics.significance import interval_text

TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "brier": "Brier score",
}
NUMBER_TITLES = {name: title_of(name) for name in NUMBER_SCORES}
SIZES = {"classes": ("negative", "positive"), "number": ("scans",)}
ALL = "all scans"


def merged(sites: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the counts of one or more sites say together.

    Args:
        sites: From ``experiments.bundles.site_files.read_sites``.
    """
    kind, counts = sites[0]["kind"], [counts_of(site) for site in sites]
    return {
        "bundle": sites[0]["bundle"],
        "target": sites[0]["target"],
        "kind": kind,
        "sites": [_site(site, each) for site, each in zip(sites, counts, strict=True)],
        "pooled": _pooled(counts),
        "over_sites": _over_sites(sites) if kind == "classes" else None,
        "withheld": [sentence for site, each in zip(sites, counts, strict=True) for sentence in _withheld(site["site"], each)],
    }


def _pooled(counts: Sequence[Aggregate | NumberAggregate]) -> dict[str, dict[str, float | None]]:
    """Score -> its ends, and its value where both are equal."""
    numbers = [each for each in counts if isinstance(each, NumberAggregate)]
    ranges = {name: Range(value, value) for name, value in pooled_numbers(numbers).items()} if numbers else None
    ranges = ranges or pooled([each for each in counts if isinstance(each, Aggregate)])
    return {name: {"value": each.value, "low": each.low, "high": each.high} for name, each in ranges.items()}


def _site(site: Mapping[str, Any], counts: Aggregate | NumberAggregate) -> dict[str, Any]:
    sizes = (
        {"scans": counts} if isinstance(counts, NumberAggregate) else {name: getattr(counts, name) for name in SIZES["classes"]}
    )
    numbers = {name: {"scans": each.scans, "patients": each.patients, "most": each.most} for name, each in sizes.items()}
    return {"site": site["site"], "least": counts.least, **numbers, "metrics": site["metrics"]}


def _over_sites(sites: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The random-effects summary of the sites' AUCs; None with fewer than two that have an interval."""
    areas = [area for site in sites if (area := site["metrics"]["auc"]) and area["low"] is not None and area["error"]]
    areas = [area for area in areas if 0 < area["value"] < 1]
    if len(areas) < 2:
        return None
    return asdict(of_areas([area["value"] for area in areas], [area["error"] for area in areas]))


def _withheld(name: str, counts: Aggregate | NumberAggregate) -> list[str]:
    if isinstance(counts, NumberAggregate):
        few = f"{name}: its scans, at most {counts.most}, are of fewer than {counts.least} patients, and in no number above"
        return [few] if counts.scans is None else []
    sentences = []
    for title, each in (("negative", counts.negative), ("positive", counts.positive)):
        if each.scans is None:
            sentences.append(f"{name}: the {title} scans, at most {each.most}, are of fewer than {counts.least} patients")
        elif each.right_low != each.right_high:
            told = f"{each.right_low} to {each.right_high} of {each.scans} {title} scans are decided rightly"
            sentences.append(f"{name}: {told}; more is not told of fewer than {counts.least} patients")
    if counts.least > 1:
        sentences.append(f"{name}: the AUC knows its scores in bins of {counts.least} patients or more")
    return sentences


def table_text(content: Mapping[str, Any]) -> str:
    """The forest table as tab-separated text: one row a site and one for all scans; what is withheld is empty."""
    titles, sizes = titles_of(content), SIZES[content["kind"]]
    header = ["site", *(f"{name.removesuffix('scans')}_scans".lstrip("_") for name in sizes)]
    header += [f"{name}{end}" for name in titles for end in ("", "_low", "_high")]
    rows = []
    for site in content["sites"]:
        cells = [site["site"], *(_text(site[name]["scans"]) for name in sizes)]
        for name in titles:
            estimate = site["metrics"][name] or {}
            cells += [_text(estimate.get(end)) for end in ("value", "low", "high")]
        rows.append(cells)
    together = [_text(content["pooled"][name][end]) for name in titles for end in ("value", "low", "high")]
    return tsv_text(header, [*rows, [ALL, *("" for _ in sizes), *together]])


def titles_of(content: Mapping[str, Any]) -> Mapping[str, str]:
    """Score -> what a column calls it."""
    return NUMBER_TITLES if content["kind"] == "number" else TITLES


def _text(value: Any) -> str:
    return "" if value is None else repr(value)


def show(content: Mapping[str, Any], console: Console) -> None:
    """Print the sites, all scans together, and how much the sites differ."""
    of, sites = content["bundle"], plural(len(content["sites"]), "site")
    title = f"bundle {of['input']} of study {of['study']} at {sites}"
    table = Table(title=f"{title} ({content['target']})", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("site", no_wrap=True)
    titles, kinds = titles_of(content), SIZES[content["kind"]]
    digits = _digits(content)
    for name in (*kinds, *titles.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for site in content["sites"]:
        sizes = (_size(site[name], site["least"]) for name in kinds)
        values = (_interval(site["metrics"][name], digits.get(name, 2)) for name in titles)
        table.add_row(site["site"], *sizes, *values)
    if len(content["sites"]) > 1:
        table.add_section()
        together = {name: Range(content["pooled"][name]["low"], content["pooled"][name]["high"]) for name in titles}
        table.add_row(ALL, *("" for _ in kinds), *(_range(each, digits.get(name, 2)) for name, each in together.items()))
    print_table(console, table)
    for line in (*_over_text(content), *content["withheld"]):
        console.print(line)


def _size(counts: Mapping[str, Any], least: int) -> str:
    return f"{counts['scans']}" if counts["scans"] is not None else f"of < {least} patients"


def _digits(content: Mapping[str, Any]) -> dict[str, int]:
    """Score -> digits after the point, where the unit of a predicted number decides."""
    if content["kind"] != "number":
        return {}
    errors = [(site["metrics"][PRIMARY] or {}).get("value") for site in content["sites"]]
    return shown_digits([*errors, content["pooled"][PRIMARY]["value"]])


def _interval(estimate: Mapping[str, Any] | None, digits: int) -> str:
    return "withheld" if estimate is None else interval_text(estimate, digits=digits)


def _range(value: Range, digits: int) -> str:
    """Of all scans together, which is exact or a range: with two digits more than an estimate."""
    if value.low is None or value.high is None:
        return "undefined"
    low, high = (f"{end:.{digits + 2}f}" for end in (value.low, value.high))
    return low if value.value is not None else f"{low} to {high}"


def _over_text(content: Mapping[str, Any]) -> list[str]:
    over = content["over_sites"]
    if over is None:
        return []
    mean = f"{over['mean']:.2f} [{over['low']:.2f}, {over['high']:.2f}]"
    text = f"AUC over {over['sites']} sites {mean}, I2 {100 * over['i2']:.0f} %"
    if over["predicted_low"] is not None:
        text += f"; that of a further site would lie in {over['predicted_low']:.2f} to {over['predicted_high']:.2f}"
    return [text]
