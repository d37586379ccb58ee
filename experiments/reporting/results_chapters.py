"""The chapters that answer the question: scores of inputs and baselines, and what their differences mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.baseline_files import about_baseline
from experiments.analysis.comparison import ALL_FAMILIES, key_of
from experiments.analysis.view import Words
from experiments.rendering.page import Html, fold_away, items, missing, note, paragraph, table
from experiments.rendering.palette import SOFT, color_of, marker_of
from experiments.reporting.chapter import Chapter, Sheet, interval, joined, keyed, number, p_value, verdict
from experiments.reporting.intervals import Bar, Panel, Row, draw_rows, limits_of
from experiments.reporting.look import Chart, label_of
from experiments.reporting.sources import Sources
from experiments.runtime.words import plural
from experiments.statistics.numeric_pairs import TOO_FEW as TOO_FEW_NUMBERS
from experiments.statistics.paired import MARGIN, SILENT, TOO_FEW

METRICS = {"balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}
ESTIMAND = (
    "Estimated is the performance of this training procedure on a new patient of this population. The patient is the unit: "
    "intervals and tests keep all scans of a patient together. They hold the trained models fixed, so the variation of "
    "training again is not in them."
)


def part(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """One metric of a row of comparison.json as value, low and high."""
    return {"value": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}


def scores(sources: Sources) -> Chapter:
    """The headline: every input and baseline with four metrics."""
    comparison = sources.comparison
    rows = [*comparison["inputs"], *comparison.get("baselines", ())]
    columns = ["input", *METRICS.values(), "AUC is", "over folds"]
    shown = [
        [named(row, sources), *(interval(part(row, m)) for m in METRICS), chance_words(row["input"], sources), _spread(row)]
        for row in rows
    ]
    head = (
        f"{plural(comparison['patients'], 'patient')}, {plural(comparison['scans'], 'scan')}, "
        f"{comparison['positives']} of them positive"
    )
    intervals = f"In brackets: 95 % intervals, {comparison['interval'].removeprefix('95 % ')}, {comparison['draws']:,} draws."
    blocks: list[str | Chart] = [
        table(columns, shown, caption=f"Internal test: {head}{networks_words(comparison)}", sortable=True),
        note(
            intervals,
            f" Threshold of each fold: {sources.decision}. The AUC compares scans within a fold only. "
            "Over folds: mean \N{PLUS-MINUS SIGN} standard deviation of the folds' balanced accuracy, for comparison with "
            "studies that report it; not a standard error. Above chance: the AUC's interval, with both arms lengthened by "
            "\N{SQUARE ROOT}2, lies above 0.5. The training parts of the folds overlap, which a bootstrap of fixed models does "
            "not see: with models trained on noise 10 to 15 % of the intervals in brackets exclude 0.5.",
        ),
        _headline_chart(sources, rows),
        paragraph(ESTIMAND),
    ]
    if not comparison.get("baselines"):
        blocks.append(missing("Baselines (prevalence, age and sex, volumes) are missing.", sources.command("baselines")))
    else:
        described = [f"{label_of(r['input'])}: {about_baseline(r['input'], sources.images)}." for r in comparison["baselines"]]
        blocks += [paragraph("Baselines, fitted on the same folds:"), items(described)]
    names = list(rows[0])
    return Chapter(
        "scores", "Performance of the inputs", blocks, [Sheet("scores", names, [[r[n] for n in names] for r in rows])]
    )


def networks_words(comparison: Mapping[str, Any]) -> str:
    """That values are means over seeds, where they are."""
    return f"; single networks, mean over {len(comparison['seeds'])} seeds" if len(comparison["seeds"]) > 1 else ""


def named(row: Mapping[str, Any], sources: Sources) -> Html | str:
    """The name in a row of comparison.json, an input's behind its colour."""
    return keyed(row["input"], sources.inputs) if row["input"] in sources.inputs else label_of(row["input"])


def _spread(row: Mapping[str, Any]) -> str:
    mean, sd = row["balanced_accuracy_fold_mean"], row["balanced_accuracy_fold_sd"]
    return number(mean) if mean is None or sd is None else f"{number(mean)} \N{PLUS-MINUS SIGN} {number(sd)}"


def chance_words(name: str, sources: Sources) -> str | None:
    """What is said of an input and chance."""
    chance = sources.comparison["details"].get("chance", {}).get(name)
    return chance["words"] if chance else None


def row_of(name: str, sources: Sources, bars: Sequence[Bar], remark: str = "") -> Row:
    """A row of a chart in the look of its input; baselines are gray and hollow."""
    if name not in sources.inputs:
        return Row(label_of(name), bars, SOFT, "o", True, remark)
    return Row(label_of(name), bars, color_of(name, sources.inputs), marker_of(name, sources.inputs), False, remark)


def _headline_chart(sources: Sources, rows: Sequence[Mapping[str, Any]]) -> Chart:
    shown = ("balanced_accuracy", "auc")
    drawn = [row_of(row["input"], sources, [Bar.of(part(row, metric)) for metric in shown]) for row in rows]
    panels = [Panel(METRICS[m], limits_of(drawn, column, (0.4, 0.9)), null=0.5) for column, m in enumerate(shown)]
    alt = "; ".join(f"{row['input']}: balanced accuracy {interval(part(row, 'balanced_accuracy'))}" for row in rows)
    return Chart(
        "scores",
        f"Dots with 95 % intervals for each input. {alt}.",
        "Balanced accuracy and AUC with 95 % intervals. The upright line is chance.",
        lambda canvas: draw_rows(canvas, drawn, panels),
    )


def differences(sources: Sources) -> Chapter:
    """Each region against the whole brain, with the verdicts in words."""
    comparison = sources.comparison
    primary = comparison["paired"]
    title = "Differences to the whole brain"
    if not primary:
        return nothing_to_compare(sources, title)
    auc = {pair["first"]: pair for pair in comparison.get("paired_auc", ())}
    shown = [
        [
            keyed(pair["first"], sources.inputs),
            interval(pair["difference"], sign=True),
            p_value(pair["p_holm"]),
            verdict(pair["verdict"]),
            interval(auc[pair["first"]]["difference"], sign=True) if pair["first"] in auc else None,
        ]
        for pair in primary
    ]
    columns = ["input", "balanced accuracy minus global", "p (Holm)", "verdict", "AUC minus global"]
    blocks: list[str | Chart] = [
        f'<p class="lead">{summary(primary)}</p>',
        _forest(sources),
        table(columns, shown, caption=f"Paired differences, on the same patients{networks_words(comparison)}"),
        note(
            f"Primary: balanced accuracy, one family of {plural(len(primary), 'comparison')}, Holm-adjusted p of a paired "
            "permutation test in which a patient's scans are exchanged together. \u201cDifferent\u201d needs p < 0.05 and an "
            "interval that excludes 0; \u201cequivalent\u201d three seeds, ten patients decided differently, and an interval "
            "that allows for few patients and for overlapping training parts inside "
            f"\N{PLUS-MINUS SIGN}{100 * MARGIN:g} points; all else is \u201cnot distinguishable\u201d, which is not a claim of "
            "equality. Intervals are not adjusted for multiplicity."
        ),
        items([sentence(pair) for pair in primary]),
    ]
    blocks += beyond(sources)
    return Chapter("differences", title, blocks, pair_sheets(comparison))


def nothing_to_compare(sources: Sources, title: str) -> Chapter:
    """The chapter of a study without the whole brain, or without anything beside it; what else was compared is shown."""
    why = "the study holds one input only" if len(sources.inputs) == 1 else "global is none of the inputs"
    more = beyond(sources)
    sheets = pair_sheets(sources.comparison) if more else []
    return Chapter("differences", title, [paragraph(f"No input is compared with the whole brain: {why}."), *more], sheets)


def summary(primary: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about the primary family, by rule."""
    groups: dict[str, list[str]] = {}
    for pair in primary:
        groups.setdefault(pair["verdict"], []).append(label_of(pair["first"]))
    if set(groups) == {"not distinguishable"}:
        return f"None of the other inputs ({len(primary)}) can be told apart from the whole brain in this study."
    words = {"different": "from the whole brain", "not distinguishable": "from the whole brain"}
    silent = groups.pop(SILENT["balanced_accuracy"], [])
    unjudged = {kind: groups.pop(kind) for kind in (TOO_FEW, TOO_FEW_NUMBERS) if kind in groups}
    phrases = [
        f"{joined(names)} {'is' if len(names) == 1 else 'are'} {kind} {words.get(kind, 'with the whole brain')}"
        for kind, names in groups.items()
    ]
    phrases += [f"for {joined(silent)} there is no decision to compare with the whole brain's"] if silent else []
    phrases += [f"nothing is said of {joined(names)} and the whole brain ({kind})" for kind, names in unjudged.items()]
    text = "; ".join(phrases)
    return text[0].upper() + text[1:] + "."


def sentence(pair: Mapping[str, Any]) -> str:
    """A comparison in words, with the difference in points."""
    gap = pair["difference"]
    if gap["value"] is None:
        return f"{label_of(pair['first'])}: the difference is undefined."
    points = f"{abs(100 * gap['value']):.0f}"
    side = "above" if gap["value"] >= 0 else "below"
    text = f"{label_of(pair['first'])}: {points} point{'' if points == '1' else 's'} {side} {pair['second']}"
    if gap["low"] is not None and gap["high"] is not None:
        text += f" (95 % interval {number(100 * gap['low'], 0, True)} to {number(100 * gap['high'], 0, True)})"
    return f"{text}, Holm p {p_value(pair['p_holm'])}: {pair['verdict']}."


def _forest(sources: Sources) -> Chart:
    primary = [*sources.comparison["paired"], *sources.comparison.get("paired_baselines", ())]
    drawn = [row_of(pair["first"], sources, [Bar.of(pair["difference"])], pair["verdict"]) for pair in primary]
    panel = Panel("balanced accuracy minus that of global", limits_of(drawn, 0, (-0.2, 0.2)), null=0.0, margin=MARGIN)
    described = "; ".join(f"{pair['first']} {interval(pair['difference'], sign=True)}, {pair['verdict']}" for pair in primary)
    return Chart(
        "differences",
        f"Forest of paired differences to global. {described}.",
        f"Paired differences with 95 % intervals. Shaded: the margin of \N{PLUS-MINUS SIGN}{100 * MARGIN:g} points.",
        lambda canvas: draw_rows(canvas, drawn, [panel]),
    )


def beyond(sources: Sources) -> list[str | Chart]:
    """Baselines, secondary test and exploratory pairs."""
    comparison, metric = sources.comparison, sources.words.titles[sources.words.primary]
    digits = sources.words.digits(sources.words.primary)
    blocks: list[str | Chart] = []
    columns = ["", "difference", "p (Holm)", "verdict"]
    if comparison.get("paired_baselines"):
        rows = [pair_row(pair, label_of(pair["first"]), digits) for pair in comparison["paired_baselines"]]
        blocks += [
            "<h3>Baselines</h3>",
            table(columns, rows, caption=f"Baseline minus global, {metric}; its own family"),
        ]
    blocks += _linear_readers(comparison, sources.words) if comparison.get("paired_readers") else []
    corrected = comparison["details"].get("corrected_t", ())
    if corrected:
        rows = [
            [
                label_of(test["first"]),
                interval({"value": test["mean"], **test}, digits, sign=True),
                number(test["t"]),
                p_value(test["p"]),
            ]
            for test in corrected
        ]
        head = ["input", "mean difference over folds", "t", "p"]
        blocks += [
            "<h3>Secondary: corrected t test on the folds</h3>",
            table(head, rows),
            note(_CORRECTED.format(comparison["folds"])),
        ]
    if comparison.get("paired_all"):
        rows = [
            pair_row(pair, f"{label_of(pair['first'])} minus {label_of(pair['second'])}", digits)
            for pair in comparison["paired_all"]
        ]
        caption = f"Exploratory: all pairs, {metric}"
        blocks.append(fold_away("All pairs of inputs", table(["pair", *columns[1:]], rows, caption=caption, sortable=True)))
    return blocks


def _linear_readers(comparison: Mapping[str, Any], words: Words) -> list[str | Chart]:
    score = words.titles[words.secondary]
    values = {row["input"]: interval(part(row, words.secondary)) for row in [*comparison["inputs"], *comparison["readers"]]}
    pairs = [(pair, pair["first"], pair["second"]) for pair in comparison["paired_readers"]]
    rows = [
        [label_of(network), reader.partition("/")[0], values[network], values[reader], *pair_row(pair, "")[1:]]
        for pair, network, reader in pairs
    ]
    head = ["input", "linear reader", f"network {score}", f"reader {score}", "difference", "p (Holm)", "verdict"]
    return [
        "<h3>Linear readers of the same input</h3>",
        table(head, rows, caption=f"Network minus linear reader, {score}; a family for each reader"),
        items([f"{words}." for words in comparison["reader_sentences"]]),
    ]


_CORRECTED = (
    "The variance is corrected for overlapping training parts (Nadeau and Bengio 2003); not adjusted for multiplicity. "
    "It shows how little the {} folds alone can tell."
)


def pair_row(pair: Mapping[str, Any], name: str, digits: int = 2) -> list[Any]:
    """Cells of a paired difference."""
    return [name, interval(pair["difference"], digits, sign=True), p_value(pair["p_holm"]), verdict(pair["verdict"])]


def pair_sheets(comparison: Mapping[str, Any]) -> list[Sheet]:
    """All paired differences of a comparison as one sheet."""
    columns = ["family", "first", "second", "metric", "difference", "low", "high", "p", "p_holm", "p_fdr", "verdict"]
    rows = []
    for family in ALL_FAMILIES:
        for pair in comparison.get(family, ()):
            gap = pair["difference"]
            middle = [pair["first"], pair["second"], pair["metric"], gap["value"], gap["low"], gap["high"]]
            rows.append(
                [key_of(family, comparison["target"]), *middle, pair["p"], pair["p_holm"], pair["p_fdr"], pair["verdict"]]
            )
    return [Sheet("differences", columns, rows)]
