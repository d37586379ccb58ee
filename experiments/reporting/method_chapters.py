"""The chapters for a paper: a methods paragraph and a model card, written from the settings and the runs' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.cohort.images import DEFAULT_IMAGES, title, titles, weightings
from experiments.rendering.page import Html, definitions, note, paragraph
from experiments.reporting.chapter import Chapter, interval, joined, number
from experiments.reporting.data_chapter import reference_standard
from experiments.reporting.look import label_of
from experiments.reporting.method_training import inputs_text, network_text, training_text
from experiments.reporting.sources import Sources
from experiments.runtime.words import plural
from experiments.study.preparation import programs_of

PROGRAMS = ("antspyx", "deepbet", "torch", "nibabel", "preparation")
"""Packages of a preparation whose versions are named."""


def methods(sources: Sources) -> Chapter:
    """Paragraphs that may be taken into a paper."""
    parts = [
        _participants(sources),
        _preparation(sources),
        inputs_text(sources),
        network_text(sources),
        training_text(sources),
        _statistics(sources),
    ]
    blocks = [
        note("Generated from config.yaml, splits.json, run.json and the dataset's description; only what they say is said."),
        *map(paragraph, parts),
    ]
    return Chapter("methods", "Methods paragraph", blocks)


def _participants(sources: Sources) -> str:
    comparison, facts = sources.comparison, sources.optional.get("splits") or {}
    share = "" if sources.target.is_number else f", {comparison['positives']} of {comparison['scans']} scans positive"
    return (
        f"{plural(comparison['patients'], 'patient')} with {plural(comparison['scans'], 'scan')} "
        f"({weightings(sources.images)}) were included{share}.{_missing_images(sources)} "
        f"{reference_standard(sources.target)} {_division(sources, facts.get('seed', 'unknown'))} "
        "All scans of a patient were in one part."
    )


def _missing_images(sources: Sources) -> str:
    """Which images some scans lacked, and what networks saw in their place."""
    counts = {title(name): sum(not row.get(name) for row in sources.cohort) for name in sources.images}
    of = plural(len(sources.cohort), "scan")
    lacking = joined([f"{name} was missing in {count} of {of}" for name, count in counts.items() if count])
    return f" {lacking}, where networks were shown zeros." if lacking else ""


def _division(sources: Sources, seed: Any) -> str:
    folds = sources.comparison["folds"]
    if sources.sites:
        return (
            f"Leave-site-out: each of {folds} parts held the patients of one site ({', '.join(sources.sites)}); in fold k part "
            f"k was the internal test set, a sixth of the patients of the other sites, drawn by label and site (seed {seed}), "
            "the tuning set and the rest the training set."
        )
    by = "value" if sources.target.is_number else "label"
    return (
        f"Patients were divided into {folds} parts, stratified by {by} (seed {seed}); in fold k part k was the internal test "
        "set, part k + 1 the tuning set and the rest the training set."
    )


def outcome(sources: Sources) -> str:
    """What is predicted, as the study's label rule has it."""
    return sources.target.outcome()


def preparation_of(sources: Sources) -> Sequence[Mapping[str, Any]]:
    """The programs that the scans were prepared with, from the description of the derivative that they lie in."""
    path = next((row[name] for row in sources.cohort for name in sources.images if row.get(name)), "")
    return programs_of(Path(path))


def _preparation(sources: Sources) -> str:
    """With which programs the scans were prepared, in words."""
    made = preparation_of(sources)
    if not made:
        return "How the scans were brought to MNI152 space is not recorded beside them: for the authors."
    texts = []
    for program in made:
        versions = joined([f"{name} {value}" for name, value in (program.get("Versions") or {}).items() if name in PROGRAMS])
        steps = program.get("Parameters") or {}
        brain = f"brain extraction by {steps['brain']}, " if "brain" in steps else ""
        moved = "affine and nonlinear (SyN)" if steps.get("nonlinear") else "affine"
        others = [name for name in steps.get("images", DEFAULT_IMAGES) if name != "t1w"]
        rigid = f"rigid registration of {titles(others)} to T1w, " if others else ""
        how = f": {brain}N4, {rigid}{moved} registration to {steps['space']}" if "space" in steps else ""
        name = f"{program.get('Name', 'an unnamed program')} {program.get('Version', '')}".strip()
        texts.append(f"{name}{how}{f' ({versions})' if versions else ''}")
    return f"Scans were prepared by {joined(texts)}."


def _statistics(sources: Sources) -> str:
    comparison = sources.comparison
    if sources.target.is_number:
        return _number_statistics(comparison)
    over_sites = " In this leave-site-out study a difference of balanced accuracies also had to hold with sites as units."
    return (
        "Balanced accuracy, sensitivity and specificity were pooled over the folds at each fold's own threshold; the AUC "
        "compares scans within a fold. Intervals are 95 % percentile intervals of a patient-cluster bootstrap stratified by "
        f"fold and label ({comparison['draws']:,} draws, the same for all inputs); Wilson's (rates) or Newcombe's (AUC) where "
        f"patients of a fold hardly differ.{_compared(comparison, 'balanced accuracy')}"
        f"{over_sites if sources.sites and comparison['paired'] else ''} Calibration: one temperature "
        "per fold from the tuning part, Brier score, log loss, calibration intercept and slope with patient-cluster standard "
        "errors."
    )


def _number_statistics(comparison: Mapping[str, Any]) -> str:
    return (
        "MAE, RMSE, R2 against the mean of each fold's training part, and the calibration line were pooled over the folds; "
        "Spearman's correlation compares scans within a fold. Intervals are 95 % percentile intervals of a patient-cluster "
        f"bootstrap stratified by fold ({comparison['draws']:,} draws, the same for all inputs)."
        f"{_compared(comparison, 'the MAE')}"
    )


def _compared(comparison: Mapping[str, Any], primary: str) -> str:
    """How inputs were compared with one another; empty where none was."""
    if not comparison["paired"] and not comparison["paired_all"]:
        return ""
    which, over = ("All pairs of inputs were compared", "pairs; they are exploratory")
    if comparison["paired"]:
        which, over = "Each other input was compared with the whole brain", "inputs"
    return (
        f" {which} by paired bootstrap intervals and a paired permutation test that exchanges all scans of a patient "
        f"({comparison['draws']:,} permutations, stretched for overlapping training parts); {primary} was primary, with Holm's "
        f"adjustment over the {over}."
    )


def model_card(sources: Sources) -> Chapter:
    """What the models are, and what only their authors can say."""
    comparison = sources.comparison
    main = next((row for row in comparison["inputs"] if row["input"] == "global"), comparison["inputs"][0])
    metric, target = sources.words.primary, sources.target
    title = sources.words.titles[metric]
    score = {"value": main[metric], "low": main[f"{metric}_low"], "high": main[f"{metric}_high"]}
    output = f"{'expected step' if target.steps else 'value'} of {target.title}" if target.is_number else ""
    facts: list[tuple[str, Any]] = [
        ("models", f"{plural(len(sources.records), 'network')}: one per input, fold and seed"),
        ("input", f"{weightings(sources.images)} brain MRI in MNI152 space, brain-extracted, one grid"),
        ("output", output or f"probability of {outcome(sources)}, and a decision at each model's threshold"),
        (
            "trained on",
            f"{plural(comparison['patients'], 'patient')}, {plural(comparison['scans'], 'scan')}; see Patients and data",
        ),
        ("internal test", f"{title} of {label_of(main['input'])}: {interval(score, sources.words.digits(metric))}"),
        ("external test", _external(sources)),
        ("known limits", _limits(sources)),
        ("weights", "<input>/fold-<k>/seed-<s>/checkpoints/best.ckpt, state dictionaries without pickled objects"),
    ]
    facts += [
        (term, None)
        for term in ("intended use", "users", "uses that are not intended", "ethics approval", "contact", "licence")
    ]
    words = "Research models. Nothing here shows that they are fit for the care of patients."
    return Chapter("model-card", "Model card", [paragraph(Html(f"<strong>{words}</strong>")), definitions(facts)])


def _external(sources: Sources) -> str:
    if not sources.external:
        return "none"
    texts = []
    for name, cohort in sources.external.items():
        result: Mapping[str, Any] = cohort["inputs"][0]
        score = result["ensemble"].get(sources.words.primary)
        shown = interval(score, sources.words.digits(sources.words.primary))
        texts.append(f"{label_of(name)}, {label_of(result['input'])}: {shown}")
    return "; ".join(texts)


def _limits(sources: Sources) -> str:
    comparison = sources.comparison
    rows = comparison["inputs"]
    widths = [
        100 * (row["balanced_accuracy_high"] - row["balanced_accuracy_low"]) / 2
        for row in rows
        if row.get("balanced_accuracy_high") is not None
    ]
    limits = []
    if widths:
        limits.append(
            f"intervals of balanced accuracy reach {number(min(widths), 0)} to {number(max(widths), 0)} points to each side"
        )
    if len(comparison["seeds"]) == 1:
        limits.append("one seed")
    if not sources.external:
        limits.append("no external test")
    if sources.optional.get("controls") is None:
        limits.append("no controls")
    if not comparison.get("baselines"):
        limits.append("no baselines")
    return "; ".join(limits) or f"see Controls{'' if sources.target.is_number else ' and Subgroups'}"
