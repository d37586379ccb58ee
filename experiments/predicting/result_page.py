"""The page of a prediction: every scan in a table, then scan by scan its predictions, what was wrong, and its slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.bundles.bundle import Bundle
from experiments.predicting.chart import NARROW, WIDE, chart
from experiments.predicting.coverage import HOW
from experiments.predicting.files import Run, picture_path
from experiments.predicting.judging import counts
from experiments.predicting.records import NOTICE, ClassPrediction, InputOutcome, NumberPrediction, ScanOutcome
from experiments.predicting.relevance import map_stem
from experiments.predicting.view import prediction_text
from experiments.rendering.page import Cell, Html, Section, definitions, figure, fold_away, items, note, page, paragraph, table
from experiments.runtime.words import plural, rounded
from experiments.statistics.conformal import LABELS, ConformalScores, least_patients
from experiments.statistics.conformal_numbers import NumberScores

MOST_DRAWN = 60
"""Scans with slices on the page; a picture takes a tenth of a megabyte."""
FEW = 3
"""Of so many scans the slices are shown at once."""
SETS = {
    "negative": "only the negative class is credible",
    "positive": "only the positive class is credible",
    "undecided": "both classes are credible: the networks do not decide",
    "neither": "neither class is credible: the scan is unlike both",
}


def result_page(out: Path, outcomes: Sequence[ScanOutcome], run: Run) -> str:
    """The whole page.

    Args:
        out: The results, where the scans' pictures lie.
        outcomes: All scans, in the order of the table.
        run: How they were predicted.
    """
    sections = [
        Section("scans", "Scans", _overview(outcomes, run)),
        Section("each", "Scan by scan", _scans(out, outcomes, run)),
        Section("coverage", "What the sets promise", _coverage(run)),
        Section("reading", "How to read this", _reading(run)),
        Section("made", "How it was made", _made(run)),
    ]
    bundle = run.bundles[0]
    lead = Html(f"<strong>{NOTICE}</strong> What the networks of one study say of scans that nobody has assessed.")
    return page(f"Predictions: {bundle.target.describe()}", lead, sections)


def _overview(outcomes: Sequence[ScanOutcome], run: Run) -> str:
    number = counts(outcomes)
    said = ", ".join(f"{count} {verdict}" for verdict, count in number.items() if count)
    columns = ["scan", "verdict", *(bundle.input.replace("_", " ") for bundle in run.bundles)]
    rows: list[list[Cell]] = [
        [
            Html(f'<a href="#scan-{place}">{Html(_escaped(outcome.name))}</a>'),
            _verdict(outcome.verdict),
            *([prediction_text(each) for each in outcome.inputs] or ["-"] * len(run.bundles)),
        ]
        for place, outcome in enumerate(outcomes)
    ]
    what = "Predicted number and its interval" if run.is_number else "Probability of the positive class and set of labels"
    caption = f"{what} at {run.asking.wanted.level:.0%}, by input"
    return paragraph(f"{plural(len(outcomes), 'scan')}: {said}.") + table(
        columns, rows, caption=caption, sortable=True, tall=len(outcomes) > 15
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _verdict(verdict: str) -> Html:
    return Html(f'<span class="flag-{"ok" if verdict == "ok" else "warning"}">{verdict}</span>')


def _scans(out: Path, outcomes: Sequence[ScanOutcome], run: Run) -> str:
    more = len(outcomes) - MOST_DRAWN
    left = note(f"Slices are shown of the first {MOST_DRAWN} scans; those of all lie beside their files.") if more > 0 else ""
    return left + "".join(_scan(out, place, each, run, len(outcomes) <= FEW) for place, each in enumerate(outcomes))


def _scan(out: Path, place: int, outcome: ScanOutcome, run: Run, run_of_few: bool) -> str:
    names = [bundle.input for bundle in run.bundles]
    head = f'<h3 id="scan-{place}">{_escaped(outcome.name)}: {outcome.verdict}</h3>'
    reasons = [f"{reason.verdict}: {reason.text}" for reason in outcome.reasons]
    reasons += [f"{each.input}: {r.verdict}: {r.text}" for each in outcome.inputs for r in each.reasons]
    parts = [head, f'<div class="warning">{items(reasons)}</div>' if reasons else ""]
    if any(each.prediction for each in outcome.inputs):
        drawn = [chart(outcome.inputs, names, width) for width in (WIDE, NARROW)]
        alt = f"{outcome.name}: " + "; ".join(f"{each.input} {prediction_text(each)}" for each in outcome.inputs)
        parts.append(figure(drawn[0], alt=alt, caption="", narrow=drawn[1]))
        parts.append(fold_away("Numbers", _numbers(outcome.inputs, run)))
    picture = picture_path(out, outcome.patient, outcome.session)
    if place < MOST_DRAWN and outcome.numbers is not None and picture.is_file():
        alt = f"Slices of {outcome.name} with the outlines of the template's regions"
        slices = figure(picture.read_bytes(), alt=alt, caption="Left in the picture is the patient's left.")
        parts.append(slices if run_of_few else fold_away("Slices", slices))
    parts += _maps(out, outcome) if run.maps else []
    if outcome.numbers is not None:
        parts.append(fold_away("Quality against the training cohort", _quality(outcome)))
    return "".join(parts)


def _maps(out: Path, outcome: ScanOutcome) -> list[str]:
    """Where the networks look, for the inputs whose maps were drawn."""
    shown = []
    for each in outcome.inputs:
        stem = map_stem(out, outcome.patient, outcome.session, each.input)
        path = stem.with_name(f"{stem.name}.png")
        if each.prediction is not None and path.is_file():
            caption = "SmoothGrad, mean of the folds, over that of networks with permuted labels; coloured where it is larger."
            picture = figure(
                path.read_bytes(), alt=f"Where the networks of {each.input} look in {outcome.name}", caption=caption
            )
            shown.append(fold_away(f"Where the networks look: {each.input.replace('_', ' ')}", picture))
    return shown


def _numbers(inputs: Sequence[InputOutcome], run: Run) -> str:
    rows: list[list[Cell]] = []
    if run.is_number:
        for each in inputs:
            p = each.prediction
            spread = map(p.shown, (p.sd, min(p.folds), max(p.folds))) if isinstance(p, NumberPrediction) else [None] * 3
            rows.append([each.input, None if p is None else prediction_text(each), *spread])
        return table(["input", "number and interval", "SD of folds", "least", "most"], rows)
    shift = run.asking.wanted.prevalence
    columns = ["input", "probability", "by log odds", "SD of folds", "least", "most", "threshold", "decision", "set",
               "p negative", "p positive", *([f"at prevalence {shift:g}"] if shift else [])]  # fmt: skip
    for each in inputs:
        p = each.prediction
        if not isinstance(p, ClassPrediction):
            rows.append([each.input, *[None] * (len(columns) - 1)])
            continue
        values = (p.probability, p.probability_log_odds, p.sd, min(p.folds), max(p.folds), p.threshold)
        more = [f"{p.at_prevalence:.3f}"] if p.at_prevalence is not None else []
        rows.append([each.input, *(f"{value:.3f}" for value in values), p.decision, p.label_set,
                     f"{p.p_negative:.3f}", f"{p.p_positive:.3f}", *more])  # fmt: skip
    return table(columns, rows)


def _quality(outcome: ScanOutcome) -> str:
    assert outcome.numbers is not None
    z = outcome.z or {}
    rows: list[list[Cell]] = [
        [name, rounded(value), f"{z[name]:+.1f}" if name in z else None] for name, value in outcome.numbers.items()
    ]
    distances = [[f"features of {each.input}", None, f"{each.feature_distance:+.1f}"]
                 for each in outcome.inputs if each.feature_distance is not None]  # fmt: skip
    return table(["number", "value", "robust SDs from the training cohort"], [*rows, *distances])


def _coverage(run: Run) -> str:
    level = run.asking.wanted.level
    if run.is_number:
        rows: list[list[Cell]] = [
            [bundle.input, f"{item.covered:.0%}", item.patients]
            for bundle in run.bundles
            for item in NumberScores.of(bundle.conformal).coverage
            if abs(item.level - level) < 1e-9
        ]
        shown = table(["input", "numbers inside their interval", "test patients"], rows)
        return paragraph(f"Aimed at {level:.0%}; measured on {HOW}.") + shown
    rows = [row for bundle in run.bundles for row in _class_rows(bundle, level)]
    columns = ["input", "class", "test patients", "true label in the set", "alone in it", "only the other label", "empty",
               "in folds with patients enough", "tuning patients"]  # fmt: skip
    least = least_patients(level)
    return (
        paragraph(f"In each class {level:.0%} of sets are to hold the true label. Measured on {HOW}:")
        + table(columns, rows)
        + note(
            f"A label with fewer than {least} tuning patients is never excluded at {level:.0%}. New scans are ranked among the "
            "tuning patients of all folds, so that their sets are narrower than these where a fold has few of them."
        )
    )


def _class_rows(bundle: Bundle, level: float) -> list[list[Cell]]:
    kept = ConformalScores.of(bundle.conformal)
    measured = [item for label in LABELS if (item := kept.coverage_at(level, label)) is not None]
    return [
        [bundle.input, ("negative", "positive")[item.label], item.patients,
         *(f"{share:.0%}" for share in (item.covered, item.alone, item.wrong, item.empty, item.decidable)),
         kept.patients(item.label)]
        for item in measured
    ]  # fmt: skip


def _reading(run: Run) -> str:
    verdicts = definitions([
        ("ok", "Within the limits of the scans that the networks were trained on."),
        ("look", "Something lies more than 3.5 robust SDs from those scans: look at the slices before believing a prediction."),
        ("refused", "Beyond 6 robust SDs or a fixed limit, or a scan of the training cohort. Predicted on --insist alone."),
    ])  # fmt: skip
    if run.is_number:
        return verdicts + paragraph("Dots are the folds' networks, the large dot is their mean, the band is the interval.")
    return (
        verdicts
        + definitions(list(SETS.items()))
        + paragraph(
            "Small dots are the calibrated probabilities of the folds' networks, the large dot is their mean, the stroke is "
            "the threshold. The set of labels is made from ranks among patients of each class and can differ from the decision."
        )
    )


def _made(run: Run) -> str:
    facts, wanted = run.plain(), run.asking.wanted
    versions = facts["provenance"]["versions"]
    shift = "as in the training cohort" if wanted.prevalence is None else f"{wanted.prevalence:g} (Saerens et al. 2002)"
    prior = [] if run.is_number else [("prevalence", f"{run.bundles[0].prevalence:.2f} in training; probabilities: {shift}")]
    return definitions([
        ("study", facts["study"]),
        ("inputs", ", ".join(bundle.input for bundle in run.bundles)),
        ("networks", f"{sum(len(bundle.models) for bundle in run.bundles)}"),
        ("primary", facts["primary"]),
        *prior,
        ("insisted", "yes" if run.asking.insist else "no"),
        ("bundles", ", ".join(digest[:12] for digest in run.digests)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
    ])  # fmt: skip
