"""MODEL_CARD.md of a bundle, from what its bundle.json says; what only its authors can say stays a marked blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.cohort.images import weightings
from datamodules.store.signatures import BITS
from experiments.bundles.bundle import Bundle
from experiments.externals.freeze import NUMBER_PRIMARY, PRIMARY
from experiments.runtime.words import plural
from experiments.statistics.numeric import shown_digits
from experiments.statistics.numeric_pairs import PRIMARY as NUMBER_SCORE
from experiments.statistics.significance import interval_text

BLANK = "*to be filled in by the authors*"
RESEARCH = (
    "**For research only.** Nothing here shows that these models are fit for the care of patients; they are no medical device."
)
MASKS = {
    "template": "the region of the MNI152 template, the same voxels for every scan",
    "template-dilated": "the region of the MNI152 template, grown by {dilate:g} mm, the same voxels for every scan",
    "subject": "each scan's own label map, which must come with it",
}


def card_text(bundle: Bundle, exports: Sequence[str] = ()) -> str:
    """The card as Markdown.

    Args:
        bundle: The bundle.
        exports: Which further forms lie in ``exports/``.
    """
    parts = [
        ("", [f"# {bundle.input} of study {bundle.study}", RESEARCH]),
        ("What it does", _purpose(bundle)),
        ("What it was trained on", _data(bundle)),
        ("How good it is", _scores(bundle)),
        ("Limits", _limits(bundle)),
        ("What this folder tells of its training cohort", _disclosed(bundle)),
        *([("For other programs", _exports(bundle, exports))] if exports else []),
        ("For the authors", [f"- {term}: {BLANK}" for term in ("intended use", "ethics approval", "contact", "licence")]),
    ]
    blocks = []
    for title, lines in parts:
        blocks += [f"## {title}"] if title else []
        blocks.append("\n".join(lines) if lines and lines[0].startswith(("- ", "|")) else "\n\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _purpose(bundle: Bundle) -> list[str]:
    target, sides = bundle.target, " x ".join(f"{side:g}" for side in bundle.scan_grid.spacing)
    region, mask = bundle.region, bundle.region.mask
    shows = "the whole brain" if not region.labels else f"{bundle.input}: {MASKS[mask.mode].format(dilate=mask.dilate_mm)}"
    larger = f", put together to voxels of {bundle.voxel_mm:g} mm" if bundle.voxel_mm else ""
    given = f"- Beside the image: {', '.join(bundle.covariates)}." if bundle.covariates else "- Nothing beside the image."
    output = f"- Output: {'a number' if target.is_number else 'the probability'} of {target.outcome()}."
    decision = "" if target.is_number else f" ({bundle.threshold:.4f})"
    scaled = str(bundle.preparation["intensities"])
    return [
        f"- Input: {weightings(bundle.shown_images)} brain MRI in MNI152 space, brain-extracted, {sides} mm{larger}.",
        f"- The networks see {shows}. Intensities: {scaled}.",
        given,
        output,
        f"- {target.sentence()}",
        f"- Primary model: {NUMBER_PRIMARY if target.is_number else PRIMARY}{decision}; {len(bundle.models)} models.",
        f"- Network: {bundle.network.class_path.rpartition('.')[2]}.",
    ]


def _data(bundle: Bundle) -> list[str]:
    cohort = bundle.preparation["cohort"]
    positive = f", {cohort['positives']} scans positive" if cohort["positives"] is not None else ""
    lines = [
        f"- {plural(cohort['patients'], 'patient')}, {plural(cohort['scans'], 'scan')}{positive}.",
        f"- {len(bundle.models)} folds; each model tuned on one part of the patients and never saw another, its internal test.",
    ]
    programs = bundle.preparation["programs"]
    named = [f"{program.get('Name', 'unnamed')} {program.get('Version', '')}".strip() for program in programs]
    lines.append(
        f"- Scans were prepared by {', '.join(named)}." if named else f"- How scans were brought to MNI152 space: {BLANK}."
    )
    return lines


def _scores(bundle: Bundle) -> list[str]:
    internal, lines = bundle.scores["internal"], []
    if internal is None:
        lines.append("Internal test: not in this bundle; the study's comparison was not made before it.")
    else:
        beside = [(f"{name} (no image)", row) for name, row in internal["baselines"].items()]
        size = f"{plural(internal['patients'], 'patient')}, {plural(internal['scans'], 'scan')}"
        lines.append(f"Internal test, each scan by the model that did not train on it ({size}):")
        lines.append(_table([(bundle.input, internal["scores"]), *beside]))
        chance = f" AUC: {internal['chance']}." if internal["chance"] else ""
        lines.append(f"In brackets: {internal['interval']}; {internal['draws']} draws.{chance}")
        lines += list(internal["remarks"])
    lines += _external_scores(bundle)
    return lines


def _external_scores(bundle: Bundle) -> list[str]:
    external = bundle.scores["external"]
    if not external:
        return ["External test: none."]
    rows = [(f"{result['cohort']} ({plural(result['patients'], 'patient')})", result["scores"]) for result in external]
    lines = ["External test, primary model:", _table(rows), f"In brackets: {external[0]['interval']}."]
    again = [result["cohort"] for result in external if result["frozen_after_labels"]]
    return lines + ([f"Labels of {', '.join(again)} were read before these models were frozen."] if again else [])


def _table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    titles = [score["title"] for score in rows[0][1].values()]
    digits = shown_digits((scores.get(NUMBER_SCORE) or {}).get("value") for _, scores in rows)
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for name, scores in rows:
        cells = (interval_text(score, digits=digits.get(metric, 2)) for metric, score in scores.items())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _limits(bundle: Bundle) -> list[str]:
    grid = "x".join(map(str, bundle.scan_grid.shape))
    limits = [
        f"- Scans must be prepared as the training cohort's were, on voxels of that size (grid {grid}); others are refused.",
        "- Patients unlike those of the training cohort, other scanners or another share of positives can change every number.",
        "- A number above describes groups of patients; what holds for one patient is not shown.",
    ]
    internal = bundle.scores["internal"]
    if internal is None or internal["chance"] != "above chance":
        limits.append("- That the models are better than chance is not shown here.")
    if internal is not None and len(internal["seeds"]) == 1:
        limits.append("- One seed: how much the numbers change with another start of the training is not known.")
    if not bundle.scores["external"]:
        limits.append("- No external test.")
    return limits


def _exports(bundle: Bundle, exports: Sequence[str]) -> list[str]:
    box, own = bundle.box, bundle.region.mask.mode == "subject" and bool(bundle.region.labels)
    channels = ", ".join(bundle.shown_images)
    masked = "zero outside the region of the scan's own label map" if own else "the region is cut out by the graph"
    return [
        f"- `exports/` holds the models as one graph: {', '.join(exports)}.",
        f"- Input `image` (batch, {len(bundle.shown_images)}, {', '.join(map(str, box.shape))}) float32: {channels}, prepared "
        f"as above, voxels {list(box.start)} to {list(box.stop)} of the grid, zero outside the brain and the grid; {masked}.",
        "- Outputs `primary` (batch,), what the primary model says, and `folds`, what each model says by itself.",
    ]


def _disclosed(bundle: Bundle) -> list[str]:
    known, scans = bundle.training_scans, bundle.preparation["cohort"]["scans"]
    lines = [
        "- No image, no name, no date and no path. Weights of networks can hold traces of what they were trained on; how much "
        "could be drawn out of these was not examined.",
        f"- SHA-256 of the voxels of each of the {scans} prepared scans: whoever has a scan, prepared alike, can tell that it "
        "was one of them.",
    ]
    if known["signatures"]:
        lines.append(
            f"- {BITS} signs for each scan, in no order, of how its 8 mm blocks deviate from the cohort's mean, and that mean: "
            "whoever has a scan of a patient can tell that this scan, saved again or with noise, was one of them."
        )
    told = "absolute errors" if bundle.target.is_number else "probabilities, by class,"
    return [
        *lines,
        f"- The {told} of the tuning scans of each fold, in ascending order, for sets with a known error rate.",
        "- Median and spread of quality numbers, mean and main directions of the features of each fold's training scans.",
    ]
