"""The result chapters of a study that predicts a number: scores, differences, agreement with the true values, spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.analysis.baseline_files import about_baseline
from experiments.rendering.page import items, missing, note, paragraph, table
from experiments.rendering.palette import GRAY, color_of
from experiments.reporting.chapter import Chapter, Sheet, interval, keyed, number, p_value, verdict
from experiments.reporting.intervals import Bar, Panel, draw_dots, draw_rows, limits_of
from experiments.reporting.look import Canvas, Chart, label_of, quiet_grid
from experiments.reporting.results_chapters import (
    ESTIMAND,
    beyond,
    chance_words,
    named,
    networks_words,
    nothing_to_compare,
    pair_sheets,
    part,
    row_of,
    summary,
)
from experiments.reporting.sources import Sources
from experiments.runtime.words import plural
from experiments.statistics.numeric import Numbers
from experiments.statistics.numeric_pairs import PRIMARY, SECONDARY

SCORES_NOTE = (
    "MAE and RMSE: lower is better. R2 compares with the mean of each fold\u2019s training part and is below 0 where that is "
    "the better prediction. Spearman\u2019s correlation compares scans within a fold only: the folds\u2019 mean, weighted by "
    "their scans. Above chance: its interval, with both arms lengthened by \N{SQUARE ROOT}2 for overlapping training parts, "
    "lies above 0. Over folds: mean \N{PLUS-MINUS SIGN} standard deviation of the folds\u2019 MAE; not a standard error."
)


def number_scores(sources: Sources) -> Chapter:
    """The headline: every input and baseline with all scores."""
    comparison, words = sources.comparison, sources.words
    rows = [*comparison["inputs"], *comparison["baselines"]]
    shown_metrics = [metric for metric in words.titles if metric not in ("intercept", "slope")]
    columns = ["input", *(words.titles[metric] for metric in shown_metrics), "Spearman is", "MAE over folds"]
    shown = [
        [
            named(row, sources),
            *(interval(part(row, metric), words.digits(metric)) for metric in shown_metrics),
            chance_words(row["input"], sources),
            " \N{PLUS-MINUS SIGN} ".join(number(row[f"mae_fold_{each}"], words.digits(PRIMARY)) for each in ("mean", "sd")),
        ]
        for row in rows
    ]
    head = f"{plural(comparison['patients'], 'patient')}, {plural(comparison['scans'], 'scan')}{networks_words(comparison)}"
    ends = f"In brackets: 95 % intervals, {comparison['interval'].removeprefix('95 % ')}, {comparison['draws']:,} draws. "
    blocks: list[str | Chart] = [
        table(columns, shown, caption=f"Internal test: {head}", sortable=True),
        note(ends, SCORES_NOTE, _steps(sources)),
        _headline(sources, rows),
        paragraph(ESTIMAND),
    ]
    if not comparison["baselines"]:
        blocks.append(missing("Baselines (mean, age and sex, volumes) are missing.", sources.command("baselines")))
    else:
        about = {row["input"]: about_baseline(row["input"], sources.images, sources.target) for row in comparison["baselines"]}
        described = [f"{label_of(name)}: {text}." for name, text in about.items()]
        blocks += [paragraph("Baselines, fitted on the same folds:"), items(described)]
    names = list(rows[0])
    sheet = Sheet("scores", names, [[row[name] for name in names] for row in rows])
    return Chapter("scores", "Performance of the inputs", blocks, [sheet])


def _steps(sources: Sources) -> str:
    """What each step of an ordinal target is."""
    target = sources.target
    if not target.steps:
        return ""
    listed = "; ".join(f"{step}: {target.step_text(step)}" for step in range(target.steps + 1))
    return f" Steps: {listed}. A prediction is the expected step; kappa takes it rounded, with quadratic weights."


def _headline(sources: Sources, rows: Sequence[Mapping[str, Any]]) -> Chart:
    titles, digits = sources.words.titles, sources.words.digits(PRIMARY)
    drawn = [row_of(row["input"], sources, [Bar.of(part(row, metric)) for metric in (PRIMARY, SECONDARY)]) for row in rows]
    panels = [
        Panel(titles[PRIMARY], limits_of(drawn, 0, (0.0, 0.0), digits)),
        Panel(titles[SECONDARY], limits_of(drawn, 1, (-0.2, 0.5)), 0),
    ]
    alt = "; ".join(f"{row['input']}: {titles[PRIMARY]} {interval(part(row, PRIMARY), digits)}" for row in rows)
    caption = f"{titles[PRIMARY]} (lower is better) and {titles[SECONDARY]} with 95 % intervals. The upright line is chance."
    return Chart("scores", f"Dots with 95 % intervals for each input. {alt}.", caption, lambda c: draw_rows(c, drawn, panels))


def number_differences(sources: Sources) -> Chapter:
    """Each region against the whole brain, with the verdicts in words."""
    comparison, primary = sources.comparison, sources.comparison["paired"]
    title, metric = "Differences to the whole brain", sources.words.titles[PRIMARY]
    if not primary:
        return nothing_to_compare(sources, title)
    ranked = {pair["first"]: pair for pair in comparison["paired_auc"]}
    shown = [
        [
            keyed(pair["first"], sources.inputs),
            interval(pair["difference"], sources.words.digits(PRIMARY), sign=True),
            p_value(pair["p_holm"]),
            verdict(pair["verdict"]),
            interval(ranked[pair["first"]]["difference"], sign=True),
        ]
        for pair in primary
    ]
    columns = ["input", f"{metric}, minus global", "p (Holm)", "verdict", "Spearman minus global"]
    blocks: list[str | Chart] = [
        f'<p class="lead">{summary(primary)}</p>',
        _forest(sources),
        table(columns, shown, caption=f"Paired differences, on the same patients{networks_words(comparison)}"),
        note(
            f"Primary: MAE, above 0 where the input errs more than global; one family of {plural(len(primary), 'comparison')}, "
            "Holm-adjusted p of a paired permutation test in which a patient\u2019s scans are exchanged together, stretched "
            "for overlapping training parts. \u201cDifferent\u201d needs p < 0.05 and an interval that excludes 0; all else "
            "is \u201cnot distinguishable\u201d, which is not a claim of equality. Intervals are not adjusted for multiplicity."
        ),
    ]
    return Chapter("differences", title, [*blocks, *beyond(sources)], pair_sheets(comparison))


def _forest(sources: Sources) -> Chart:
    pairs = [*sources.comparison["paired"], *sources.comparison["paired_baselines"]]
    drawn = [row_of(pair["first"], sources, [Bar.of(pair["difference"])], pair["verdict"]) for pair in pairs]
    digits = sources.words.digits(PRIMARY)
    limits = limits_of(drawn, 0, (-0.1, 0.1), digits)
    panel = Panel(f"{sources.words.titles[PRIMARY]}, minus that of global", limits, null=0.0)
    gaps = [interval(pair["difference"], digits, sign=True) for pair in pairs]
    described = "; ".join(f"{pair['first']} {gap}, {pair['verdict']}" for pair, gap in zip(pairs, gaps, strict=True))
    return Chart(
        "differences",
        f"Forest of paired differences to global. {described}.",
        "Paired differences with 95 % intervals; right of the line the input errs more than global.",
        lambda canvas: draw_rows(canvas, drawn, [panel]),
    )


def agreement(sources: Sources) -> Chapter:
    """Predicted against true, and the calibration line."""
    title = sources.target.title
    rows = {row["input"]: row for row in sources.comparison["inputs"]}
    lines = {name: (row["intercept"], row["slope"]) for name, row in rows.items()}
    corners = {name: f"Spearman {interval(part(row, SECONDARY))}" for name, row in rows.items()}
    tables = {name: seeds[0] for name, seeds in sources.tables.items()}
    several = " of the first seed" if len(sources.comparison["seeds"]) > 1 else ""
    chart = Chart(
        "agreement",
        f"Predicted {title} against the true one for each input. " + "; ".join(f"{n}: {t}" for n, t in corners.items()) + ".",
        f"Predicted {title} (upright: the true one), one dot a scan of the internal test{several}. Dashed: agreement; solid: "
        "the calibration line, the true values regressed on the predicted ones.",
        lambda canvas: _draw_agreement(canvas, tables, lines, corners),
    )
    shown = [
        [named(row, sources), *(interval(part(row, m), sources.words.digits(m)) for m in ("intercept", "slope"))]
        for row in rows.values()
    ]
    blocks: list[str | Chart] = [
        chart,
        table(["input", "intercept", "slope"], shown, caption="Calibration line: true value on predicted value"),
        note("Perfect predictions have intercept 0 and slope 1; a slope below 1 means predictions that differ too much."),
    ]
    cells = [
        [name, *cell]
        for name, seed in tables.items()
        for cell in zip(seed.fold.tolist(), seed.y.tolist(), seed.p.tolist(), strict=True)
    ]
    return Chapter(
        "agreement", "Predicted against true", blocks, [Sheet("agreement", ["input", "fold", "true", "predicted"], cells)]
    )


def _draw_agreement(
    canvas: Canvas,
    tables: Mapping[str, Numbers],
    lines: Mapping[str, tuple[float | None, float | None]],
    corners: Mapping[str, str],
) -> None:
    names = list(tables)
    ends = np.concatenate([column for seed in tables.values() for column in (seed.y, seed.p)])
    low, high = float(ends.min()), float(ends.max())
    rim = 0.05 * (high - low)
    for axes, name in zip(canvas.panels(len(names)), names, strict=True):
        seed, color = tables[name], color_of(name, names)
        axes.set_title(canvas.title(name))
        axes.plot([low, high], [low, high], color=GRAY, linewidth=0.8, linestyle=(0, (3, 3)))
        shift = np.random.default_rng(0).uniform(-0.12, 0.12, seed.y.size) if seed.steps else 0.0
        axes.plot(
            seed.p, seed.y + shift, linestyle="none", marker="o", markersize=3, alpha=0.45, color=color, markeredgewidth=0
        )
        intercept, slope = lines[name]
        if intercept is not None and slope is not None:
            across = np.array([seed.p.min(), seed.p.max()])
            axes.plot(across, intercept + slope * across, color=color)
        axes.set_xlim(low - rim, high + rim)
        axes.set_ylim(low - 3 * rim, high + rim)
        axes.text(0.97, 0.03, corners[name], transform=axes.transAxes, ha="right", fontsize=7)
        axes.locator_params(axis="both", nbins=4)
        quiet_grid(axes, "both")
    canvas.rim("predicted", "true")


def number_folds(sources: Sources) -> Chapter:
    """Dots of the folds, and seeds."""
    values, title = sources.comparison["details"]["fold_values"], sources.words.titles[PRIMARY]
    shown = partial(number, digits=sources.words.digits(PRIMARY))
    drawn = [row_of(name, sources, [Bar(None)]) for name in values]
    dots = [values[name][PRIMARY] for name in values]
    known = [value for row in dots for value in row if value is not None]
    chart = Chart(
        "folds",
        "MAE of each fold. "
        + "; ".join(f"{name}: {', '.join(map(shown, row))}" for name, row in zip(values, dots, strict=True)),
        f"{title} of each fold and their mean. A fold tests few patients, so its own interval is wide.",
        lambda canvas: draw_dots(canvas, drawn, dots, Panel(f"{title}, of a fold", (0.0, 1.05 * max(known)))),
    )
    columns = ["input", "metric", "fold", "value"]
    rows = [
        [name, metric, fold, value]
        for name, metrics in values.items()
        for metric, row in metrics.items()
        for fold, value in enumerate(row)
    ]
    blocks: list[str | Chart] = [chart, *_seeds(sources), *_ensembles(sources)]
    return Chapter("folds", "Spread over folds and seeds", blocks, [Sheet("folds", columns, rows)])


def _seeds(sources: Sources) -> list[str | Chart]:
    seeds = sources.comparison["details"]["seeds"]
    if not seeds:
        message = "One seed was trained, so the variation from training again is not known."
        return [missing(message, sources.command("sweep") + " SEEDS=0,1,2")]
    spread = seeds[PRIMARY]["spread"]
    digits = sources.words.digits(PRIMARY)
    rows = [
        [keyed(name, sources.inputs), number(seed["mean"], digits), number(seed["sd"], digits + 1)]
        for name, seed in spread.items()
    ]
    agree = number(seeds[PRIMARY]["concordance"])
    return [
        table(["input", "mean", "SD between seeds"], rows, caption=f"{sources.words.titles[PRIMARY]} over seeds"),
        note(f"{seeds[PRIMARY]['seeds']} seeds: Kendall's W of the rank orders {agree}."),
    ]


def _ensembles(sources: Sources) -> list[str | Chart]:
    """Ensembles of the seeds, compared with one another; nothing with one seed."""
    comparison, digits = sources.comparison, sources.words.digits(PRIMARY)
    pairs = {pair["first"]: pair for pair in comparison.get("paired_ensembles", ())}
    rows = []
    for row in comparison.get("ensembles", ()):
        pair = pairs.get(row["input"])
        cells = [interval(pair["difference"], digits, sign=True), verdict(pair["verdict"])] if pair else [None, None]
        rows.append([keyed(row["input"], sources.inputs), interval(part(row, PRIMARY), digits), *cells])
    if not rows:
        return []
    columns = ["ensemble of", sources.words.titles[PRIMARY], "minus global\u2019s", "verdict"]
    return [
        "<h3>Ensembles of the seeds</h3>",
        table(columns, rows, caption="Internal test: means of the seeds\u2019 predictions"),
    ]
