"""The chapters behind the headline: ROC curves, spread over folds and seeds, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.analysis.partitions import SCORES
from experiments.rendering.page import missing, note, table
from experiments.reporting.chapter import Chapter, Sheet, interval, keyed, number, p_value, percent, verdict
from experiments.reporting.curves import draw_roc
from experiments.reporting.intervals import Bar, Panel, draw_dots
from experiments.reporting.look import Chart, label_of
from experiments.reporting.results_chapters import part, row_of
from experiments.reporting.roc import RocBand, roc_bands
from experiments.reporting.sources import Sources


def discrimination(sources: Sources) -> Chapter:
    """ROC curves, and the AUC three ways."""
    comparison, rows = sources.comparison, {row["input"]: row for row in sources.comparison["inputs"]}
    operating = {name: (row["sensitivity"], row["specificity"]) for name, row in rows.items()}
    corners = {name: f"AUC {interval(part(row, 'auc'))}" for name, row in rows.items()}
    bands = roc_bands(sources.tables)
    chart = Chart(
        "roc",
        "ROC curve of each input with 95 % band. " + "; ".join(f"{name}: {text}" for name, text in corners.items()) + ".",
        "ROC curves: the average of the folds' curves, each weighted by its pairs of a positive and a negative scan, with "
        "pointwise 95 % bands. The marker is where the models decide, at the thresholds of the folds.",
        lambda canvas: draw_roc(canvas, bands, operating, corners),
    )
    columns = ["input", "AUC within folds", "pooled AUC", "gap", "mean of the folds' AUC, influence-curve interval"]
    areas = comparison["details"]["auc"]
    checks = [
        [
            keyed(name, sources.inputs) if name in sources.inputs else label_of(name),
            number(area["auc"]),
            number(area["pooled_auc"]),
            number(area["gap"], sign=True),
            interval({"value": area["cv_auc"], "low": area["cv_auc_low"], "high": area["cv_auc_high"]}),
        ]
        for name, area in areas.items()
    ]
    words = note(
        "Models of different folds may use different scales, and pooling their scores then changes the AUC; the gap shows by "
        "how much. The influence-curve interval (LeDell 2015) needs no resampling and is a check on the bootstrap."
    )
    names = list(next(iter(areas.values())))
    sheets = [Sheet("auc", ["input", *names], [[n, *(area[k] for k in names)] for n, area in areas.items()]), _roc_sheet(bands)]
    blocks: list[str | Chart] = [chart, table(columns, checks, caption="The area under the curve, three ways"), words]
    return Chapter("discrimination", "ROC curves", blocks, sheets)


def _roc_sheet(bands: Mapping[str, RocBand]) -> Sheet:
    columns = ("false_positive_rate", "sensitivity", "low", "high")
    rows = [
        [name, *(float(value) for value in point)]
        for name, band in bands.items()
        for point in zip(*(getattr(band, column) for column in columns), strict=True)
    ]
    return Sheet("roc", ["input", *columns], rows)


def folds(sources: Sources) -> Chapter:
    """Per-fold dots, thresholds, and seeds."""
    details = sources.comparison["details"]
    values = details["fold_values"]
    drawn = [row_of(name, sources, [Bar(None)]) for name in values]
    fold_scores = [values[name]["balanced_accuracy"] for name in values]
    scores_chart = Chart(
        "folds",
        "Balanced accuracy of each fold. "
        + "; ".join(f"{n}: {', '.join(map(number, v))}" for n, v in zip(values, fold_scores, strict=True)),
        "Balanced accuracy of each fold and their mean. A fold tests few patients, so its own interval is wide.",
        lambda canvas: draw_dots(canvas, drawn, fold_scores, Panel("balanced accuracy of a fold", (0.0, 1.0), null=0.5)),
    )
    cuts = details["thresholds"]
    spread = [row_of(name, sources, [Bar(None)]) for name in cuts]
    chosen = [[cut for fold in fold_cuts["values"].values() for cut in fold] for fold_cuts in cuts.values()]
    cuts_chart = Chart(
        "thresholds",
        "Threshold of each fold. "
        + "; ".join(f"{n}: {number(o['lowest'])} to {number(o['highest'])}" for n, o in cuts.items()),
        f"Threshold of each fold ({sources.decision}), and their mean. The upright line is 0.5.",
        lambda canvas: draw_dots(canvas, spread, chosen, Panel("threshold", (0.0, 1.0), null=0.5)),
    )
    half = [
        [label_of(name), f"{number(cut['lowest'])} to {number(cut['highest'])}", number(cut["sd"])]
        + [interval(cut["at_half"][metric]) for metric in ("balanced_accuracy", "sensitivity", "specificity")]
        for name, cut in cuts.items()
    ]
    head = ["input", "thresholds", "SD", "balanced accuracy at 0.5", "sensitivity at 0.5", "specificity at 0.5"]
    blocks: list[str | Chart] = [scores_chart, cuts_chart, table(head, half, caption="Thresholds, and what 0.5 would give")]
    blocks += [*_seeds(sources), *_ensembles(sources), *_over_partitions(sources)]
    sheet = Sheet("folds", ["input", "metric", "fold", "value"], [
        [name, metric, fold, value] for name, metrics in values.items() for metric, column in metrics.items()
        for fold, value in enumerate(column)
    ])  # fmt: skip
    return Chapter("folds", "Spread over folds and seeds", blocks, [sheet])


def _seeds(sources: Sources) -> list[str | Chart]:
    seeds = sources.comparison["details"].get("seeds")
    if not seeds:
        message = "One seed was trained, so the variation from training again is not known."
        return [missing(message, sources.command("sweep") + " SEEDS=0,1,2")]
    agreement = seeds["balanced_accuracy"]
    rows = [
        [keyed(name, sources.inputs), number(s["mean"]), number(s["sd"], 3), f"{s['best_rank']:g} to {s['worst_rank']:g}"]
        for name, s in agreement["spread"].items()
    ]
    message = (
        f"{agreement['seeds']} seeds: Kendall's W of the rank orders {number(agreement['concordance'])}; "
        "the input with the highest mean "
    )
    message += f"leads in {percent(agreement['same_leader'])} of the seeds."
    return [table(["input", "mean", "SD between seeds", "ranks"], rows, caption="Balanced accuracy over seeds"), note(message)]


def _over_partitions(sources: Sources) -> list[str | Chart]:
    """Means over several splits of the patients; nothing where there is one."""
    content = sources.optional.get("partitions")
    if content is None:
        return []
    if any(sources.comparison["predictions"].get(name) != digest for name, digest in content["predictions"].items()):
        again = f"{sources.command('compare')} ARGS='--partitions {','.join(content['studies'][1:])}'"
        return [missing("The means over partitions are of other runs than this report.", again)]
    pairs = {(pair["first"], pair["metric"]): pair for pair in content["paired"]}
    rows: list[list[Any]] = []
    for row in content["inputs"]:
        pair = pairs.get((row["input"], row["metric"]))
        gap = interval(pair["difference"], sign=True) if pair else None
        words = [p_value(pair["p_holm"]), verdict(pair["verdict"])] if pair else [None, None]
        each = ", ".join(map(number, row["by_partition"]))
        rows.append([keyed(row["input"], sources.inputs), SCORES[row["metric"]], interval(row), each, gap, *words])
    head = ["input", "score", "mean over partitions", "each", "minus global's", "p (Holm)", "verdict"]
    return [
        "<h3>Several partitions of the patients</h3>",
        table(head, rows, caption=f"{len(content['studies'])} partitions, {content['folds']} folds each"),
        note(content["about"]),
    ]


def _ensembles(sources: Sources) -> list[str | Chart]:
    """Ensembles of the seeds, scored and compared with one another; nothing with one seed."""
    comparison = sources.comparison
    pairs = {
        (pair["first"], pair["metric"]): pair
        for family in ("paired_ensembles", "paired_ensembles_auc")
        for pair in comparison.get(family, ())
    }
    rows = []
    for row in comparison.get("ensembles", ()):
        cells: list[Any] = [keyed(row["input"], sources.inputs)]
        for metric in ("balanced_accuracy", "auc"):
            pair = pairs.get((row["input"], metric))
            cells.append(interval(part(row, metric)))
            cells += [interval(pair["difference"], sign=True), verdict(pair["verdict"])] if pair else [None, None]
        rows.append(cells)
    if not rows:
        return []
    columns = ["ensemble of", "balanced accuracy", "minus global's", "verdict", "AUC", "minus global's", "verdict"]
    return [
        "<h3>Ensembles of the seeds</h3>",
        table(columns, rows, caption="Internal test: ensembles, compared with ensembles"),
        note(
            f"An ensemble is the mean log odds of {len(comparison['seeds'])} networks of a fold, decided at the threshold "
            "that the averaged tuning rows choose. All other tables of the internal test are of single networks: means over "
            "seeds. The ensembles are Holm families of their own."
        ),
    ]
