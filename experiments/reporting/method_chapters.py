"""The chapters for a paper: a methods paragraph and a model card, written from the settings and the runs' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from datamodules.cohort.images import DEFAULT_IMAGES, indicator, title, titles, weightings
from datamodules.cohort.target import Target
from experiments.rendering.page import Html, definitions, note, paragraph
from experiments.reporting.chapter import Chapter, interval, joined, number
from experiments.reporting.data_chapter import reference_standard
from experiments.reporting.look import label_of
from experiments.reporting.sources import RunRecord, Sources
from experiments.runtime.words import plural
from experiments.study.preparation import programs_of
from experiments.study.record import read_record
from regions.catalog import REGIONS

MASKS = {
    "template": "the region of the MNI152 template, the same voxels for every scan",
    "subject": "each scan's own label map, so that the mask's shape itself carries information",
    "template-dilated": "the template's region, dilated",
}


PROGRAMS = ("antspyx", "deepbet", "torch", "nibabel", "preparation")
"""Packages of a preparation whose versions are named."""


def methods(sources: Sources) -> Chapter:
    """Paragraphs that may be taken into a paper."""
    parts = [
        _participants(sources),
        _preparation(sources),
        _inputs(sources),
        _network(sources),
        _training(sources),
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


def _inputs(sources: Sources) -> str:
    data = sources.config.get("data") or {}
    mode = str(data.get("mask_mode", "template"))
    words = MASKS.get(mode, mode)
    if mode == "template-dilated":
        words += f" by {data.get('dilate_mm', 0):g} mm"
    shown = {record.run.input: _shown(record) for record in sources.records}
    inputs = [_described(name, shown[name].get("images", ())) for name in sources.inputs]
    texts = [
        "Scans in MNI152 space were cropped to the study's grid, standardised within the brain (mean 0, SD 1, each image by "
        "itself) and set to zero outside it.",
        f"{len(inputs)} inputs were compared: {joined(inputs)}." if len(inputs) > 1 else f"The input was {inputs[0]}.",
    ]
    cut = [name for name in sources.inputs if (REGIONS[name].labels if name in REGIONS else shown[name].get("labels", True))]
    if cut:
        texts.append(f"Regions were cut out after all other steps, with {words}{_own_atlas(cut, sources)}.")
    if len(inputs) > 1:
        network = "network but for the images that it takes" if any(map(_images_of, sources.records)) else "network"
        same = f"patients, order, augmentation, initial weights, {network}"
        texts.append(f"Everything else was the same for all inputs: {same}.")
    return " ".join(texts)


def _shown(record: RunRecord) -> Mapping[str, Any]:
    """What a run's input shows, as its run.json has it."""
    return record.facts["fingerprint"].get("region") or {}


def _images_of(record: RunRecord) -> Sequence[str]:
    return tuple(_shown(record).get("images", ()))


def _described(name: str, images: Sequence[str]) -> str:
    """An input with what it is, and which images it shows where these are not all."""
    words = [*([REGIONS[name].description] if name in REGIONS else []), *([f"{titles(images)} alone"] if images else [])]
    return f"{label_of(name)} ({'; '.join(words)})" if words else label_of(name)


def _own_atlas(cut: Sequence[str], sources: Sources) -> str:
    """Which regions come from a label map of the user's; empty where none does."""
    record = read_record(sources.folder)
    own = [label_of(name) for name in cut if name not in REGIONS] if record and record.atlas else []
    return f", but for {joined(own)}: with the label map that the study was given" if own else ""


def _network(sources: Sources) -> str:
    network = sources.config.get("network") or {}
    path = str(network.get("class_path", "unknown"))
    options = network.get("init_args") or {}
    counts = sorted({int(record.facts["parameters"]) for record in sources.records})
    size = joined([f"{count:,}" for count in counts])
    described = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in options.items() if value not in ([], ""))
    name = path.rsplit(".", 1)[-1]
    if pretrained := [record.facts["pretrained"] for record in sources.records if "pretrained" in record.facts]:
        told = f"{_pretrained(pretrained, titles(sources.images))}{_covariates(sources)}"
        return f"The network was {path}, {size} parameters. {told}"
    if name != "ResidualCNN":
        return f"The network was {path} ({described}), {size} parameters, initialised at random.{_covariates(sources)}"
    pooled = "the largest value and the mean of each channel" if options.get("pooling") == "max+mean" else "a global max-pool"
    return (
        f"The network was a residual 3D convolutional network (ResidualCNN: {described}), {size} parameters, initialised at "
        "random: each "
        "stage adds a 3x3x3 and a 1x1x1 convolution, followed by batch normalisation and leaky ReLU, with max-pooling between "
        f"stages and {pooled} before the classifier.{_covariates(sources)}"
    )


def _covariates(sources: Sources) -> str:
    """What the head was given beside the image, and how many of the scans lacked it."""
    recorded = sources.records[0].facts.get("covariates", ())
    if not recorded:
        return ""
    lacking = {covariate["name"]: sum(covariate["missing"].values()) for covariate in recorded}
    missing = ", ".join(f"{name} in {plural(count, 'scan')}" for name, count in lacking.items() if count) or "none"
    how = f"standardised on the training part of each fold; missing values ({missing}) took its median or commonest value"
    told = {indicator(name): f"whether {title(name)} was there" for name in sources.images}
    return f" The classifier was also given {joined([told.get(name, name) for name in lacking])}, {how}."


def training_loss(model: Mapping[str, Any]) -> str:
    """What a training minimised, from the settings of its model."""
    loss = {
        "ordinal": "the cross-entropy of cumulative logits (proportional odds) at the scores "
        + joined([f"{cut:g}" for cut in model.get("cuts", ())]),
        "regression": "the negative log-likelihood of the score under a logistic error",
    }.get(str(model.get("objective")), "cross-entropy")
    noise, weights = model.get("label_noise"), model.get("class_weights")
    loss += f" weighted by class ({joined([f'{weight:g}' for weight in weights])})" if weights else ""
    return loss + (f", expected over a score that lies one step off with probability {noise:g}," if noise else "")


def number_loss(target: Target) -> str:
    """What a training minimised where a number is predicted."""
    if target.steps:
        return f"the cross-entropy of cumulative logits (proportional odds) at the {plural(target.steps, 'cut')}"
    return "the smooth L1 loss of the value, standardised by mean and SD of the training part"


def _pretrained(facts: list[dict[str, Any]], images: str) -> str:
    tuned = {"frozen": "was not trained further", "last": "was trained in its last stage", "all": "was trained as a whole"}
    texts = []
    for first in {str(fact): fact for fact in facts}.values():
        source = f"{PurePath(first['weights']).name} (SHA-256 {first['sha256']}, licence: {first['licence'] or 'not known'})"
        start = f"had the weights {source}" if first["sha256"] else "was initialised at random"
        tune, trained = tuned[first["tune"]], f"{first['trained']:,} parameters trained"
        texts.append(
            f"{images} each passed the {first['architecture']} encoder, which {start} and {tune}; the mean and maximum "
            f"of its feature maps entered one linear layer, initialised at random ({trained})."
        )
    return " ".join(texts)


def _training(sources: Sources) -> str:
    config = sources.config
    model, trainer, data = (config.get(name) or {} for name in ("model", "trainer", "data"))
    chosen = {k: v for k, v in (data.get("augmentation") or {}).items() if v}
    changes = [f"{key.replace('_', ' ')} {value:g}" for key, value in chosen.items()]
    changes += [f"{_class(entry)} (TorchIO)" for entry in data.get("transforms") or ()]
    augmented = ", ".join(changes) or "none"
    precision = joined(sorted({str(record.facts.get("precision") or "not recorded") for record in sources.records}))
    betas = ", ".join(f"{value:g}" for value in model.get("betas", ()))
    seeds, target = sources.comparison["seeds"], sources.target
    decided = "" if target.is_number else f" A scan counts as positive from this probability on: {sources.decision}."
    return (
        f"Training minimised {number_loss(target) if target.is_number else training_loss(model)} with {model.get('optimizer')} "
        f"(learning rate {model.get('learning_rate')}, {_schedule(model)}, betas {betas}, weight decay "
        f"{model.get('weight_decay')}), batches of "
        f"{data.get('batch_size')} scans, at most {trainer.get('max_epochs')} epochs, early stopping on the tuning loss with "
        f"patience {(config.get('early_stopping') or {}).get('patience')}, precision {precision}, "
        f"{plural(len(seeds), 'seed')} ({joined([str(seed) for seed in seeds])}). Augmentation of training scans: {augmented}. "
        f"The weights of the epoch with the lowest tuning loss were kept.{decided}"
    )


def _class(entry: Any) -> str:
    """Name of a class without its module, as settings name it."""
    return str(entry["class_path"] if isinstance(entry, Mapping) else entry).rpartition(".")[2]


def _schedule(model: Mapping[str, Any]) -> str:
    """How the learning rate changes over the epochs."""
    falls = "cosine schedule" if model.get("schedule") == "cosine" else f"decay {model.get('lr_decay')} per epoch"
    warmup = model.get("warmup_epochs") or 0
    return f"{falls} after {plural(warmup, 'epoch')} of warm-up" if warmup else falls


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
