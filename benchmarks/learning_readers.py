"""Readers that train no network: of the planted changes, volumes, grey values, voxels, and features of untrained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from benchmarks.learning_cohort import LearningCohort
from datamodules.store.boxes import crop_to_box, region_step
from experiments.analysis.baseline_features import VOLUMES, measured_features
from experiments.analysis.baseline_models import BaselineFit, best_ridge
from experiments.analysis.linear_readers import Gram, component_scores, fit_reader, gram_matrices
from experiments.analysis.reader_inputs import ENCODERS as PRODUCT
from experiments.analysis.reader_inputs import drawn, encoded, encoder_of, shown_by
from experiments.study.settings import Settings, parse_settings
from lightning_modules.decision import Decision
from lightning_modules.pretrained import PretrainedEncoder
from regions.catalog import REGIONS

Floats = npt.NDArray[np.float64]
MULTIPLE, BATCH = 8, 16
DEFAULT = ("--preset", "default")
BINS = np.linspace(-4, 4, 33)


DECISION: Decision = "midpoint"
PENALTIES = tuple(10.0**power for power in range(-6, 2))


def read(cohort: LearningCohort, name: str, reader: str, seed: int) -> tuple[Floats, dict[str, float]]:
    """Fit a reader on the training part, with penalty and threshold from the tuning part.

    Args:
        cohort: One size of a cohort.
        name: The input.
        reader: One of ``READERS``.
        seed: Of untrained weights; the other readers have no chance in them.

    Returns:
        (tests,) probabilities of the test part, and the threshold.
    """
    parts, y = cohort.parts, cohort.labels
    train, tuning = parts["train"], parts["tuning"]
    if reader == VOXEL_RIDGE:
        fit: BaselineFit = fit_reader(gram(cohort, name), y, train, tuning, DECISION)
    elif reader in ENCODERS:
        fit = fit_reader(features_gram(cohort, name, reader, seed), y, train, tuning, DECISION)
    else:
        fit, _ = best_ridge([FEATURES[reader](cohort, name, seed)], PENALTIES, y, train, tuning, DECISION)
    return fit.p[parts["internal_test"]], {"threshold": fit.threshold}


def attainable(cohort: LearningCohort, name: str, seed: int) -> Floats:
    """What was planted in the input's structures: no image can tell more of them."""
    return scaled(cohort, cohort.latents[name])


def volumes(cohort: LearningCohort, name: str, seed: int) -> Floats:
    """Brain volume and that of the input's region (all regions for global), from the true label maps."""
    measured = _measured(cohort)
    columns = range(len(VOLUMES)) if name == "global" else (0, VOLUMES.index(f"{name}_ml"))
    return scaled(cohort, measured[:, list(columns)])


def histogram(cohort: LearningCohort, name: str, seed: int) -> Floats:
    """How many voxels of the input have which grey value, 32 bins from -4 to 4 for each image."""
    voxels = flat(cohort, name)
    half = voxels.shape[1] // 2
    counts = [[np.histogram(side, BINS)[0] for side in (row[:half], row[half:])] for row in voxels]
    return scaled(cohort, np.array(counts, dtype=np.float64).reshape(len(voxels), -1))


def pca(cohort: LearningCohort, name: str, seed: int) -> Floats:
    """The first 20 principal components of the input's voxels, in units of the first."""
    train = cohort.parts["train"]
    scores = component_scores(gram(cohort, name), train)[:, :20]
    return np.asarray(scores / scores[train, 0].std())


def features_gram(cohort: LearningCohort, name: str, encoder: str, seed: int) -> Gram:
    """Inner products of the scans over what enters an encoder's head, as the product's own reader takes them."""
    settings = parse_settings([*DEFAULT, "--seed", str(seed), "--threads", "1", "--tracking.mode", "disabled"])
    network = drawn(ENCODERS[encoder], settings)
    shown = shown_by(REGIONS[name], cohort.prepared.grid, settings, network)
    features = encoded(cohort.prepared, shown, encoder_of(network, settings), BATCH, lambda done, all_scans: None)
    return gram_matrices([([name], features)], [cohort.parts["train"]], len(cohort.scans))[name][0]


def _frozen(weights: str, settings: Settings) -> nn.Module:
    return PretrainedEncoder(weights, "frozen")


ENCODERS: Mapping[str, Callable[[Settings], nn.Module]] = MappingProxyType(
    {f"features({name})": PRODUCT[name] for name in ("untrained", "deepbet", "hd-bet")}
    | {f"features({name})": partial(_frozen, name) for name in ("random-deepbet", "random-hd-bet")}
)
"""Networks that are not trained, read by the product's linear reader; random weights take the pretrained ones' architecture."""
VOXEL_RIDGE = "voxel ridge"
FEATURES: Mapping[str, Callable[[LearningCohort, str, int], Floats]] = MappingProxyType(
    {
        "attainable": attainable,
        "volumes": volumes,
        "histogram": histogram,
        "20 components": pca,
    }
)
READERS = ("attainable", "volumes", "histogram", VOXEL_RIDGE, "20 components", *ENCODERS)
"""All readers; the ridge on voxels is the product's own baseline."""


def scaled(cohort: LearningCohort, values: npt.NDArray[Any]) -> Floats:
    """Features centred on the training part, in units of its standard deviation; a constant one is 0."""
    train = values[cohort.parts["train"]]
    spread = train.std(axis=0)
    out: Floats = (values - train.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    return out


def gram(cohort: LearningCohort, name: str) -> Gram:
    """Inner products of the scans over the input's voxels, standardised on the training part."""
    return gram_matrices([([name], flat(cohort, name))], [cohort.parts["train"]], len(cohort.scans))[name][0]


def flat(cohort: LearningCohort, name: str) -> npt.NDArray[np.float32]:
    """(scans, 2 x voxels) the voxels of the input's box that are not 0 in every scan, T1w before FLAIR."""
    boxes = images(cohort, name).reshape(len(cohort.scans), 2, -1)
    inside = (boxes[:, 0] != 0).any(axis=0)
    return np.ascontiguousarray(boxes[:, :, inside]).reshape(len(boxes), -1)


def images(cohort: LearningCohort, name: str) -> npt.NDArray[np.float32]:
    """(scans, 2, I, J, K) the input's box, zero outside the region."""
    region = REGIONS[name]
    mask, box = region_step(region, cohort.prepared.grid, "template", 0.0, MULTIPLE)
    inside = 1 if mask is None else crop_to_box(mask, box)
    return np.stack([cohort.prepared.crop(row, box).astype(np.float32) * inside for row in range(len(cohort.scans))])


def _measured(cohort: LearningCohort) -> Floats:
    """(scans, volumes) in ml, kept beside the cohort."""
    table = cohort.folder.with_name(f"{cohort.folder.name}-measured") / str(len(cohort.scans)) / "features.tsv"
    return measured_features(cohort.scans, cohort.prepared, table, workers=2)[:, : len(VOLUMES)]
