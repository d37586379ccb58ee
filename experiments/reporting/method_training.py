"""What the methods paragraph says of inputs, network and training, from the settings and the runs' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from datamodules.cohort.images import indicator, title, titles
from datamodules.cohort.target import Target
from experiments.reporting.chapter import joined
from experiments.reporting.look import label_of
from experiments.reporting.sources import RunRecord, Sources
from experiments.runtime.words import plural, rounded
from experiments.study.record import read_record
from regions.catalog import REGIONS

MASKS = {
    "template": "the region of the MNI152 template, the same voxels for every scan",
    "subject": "each scan's own label map, so that the mask's shape itself carries information",
    "template-dilated": "the template's region, dilated",
}


def inputs_text(sources: Sources) -> str:
    """What each network was shown."""
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


def network_text(sources: Sources) -> str:
    """What was trained, and what of it was trained before."""
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
        + joined([rounded(cut, 6) for cut in model.get("cuts", ())]),
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


def training_text(sources: Sources) -> str:
    """How it was trained."""
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
