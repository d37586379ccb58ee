"""What the voxels of a region are in one patient: fluid, another tissue than the region's name says, or no brain at all.

A label map says it exactly. Without one a mixture of three normal distributions with one common covariance is fitted to T1w and
FLAIR of the brain by expectation-maximisation, from where the template has fluid, cortex and white matter. It tells fluid from
brain. Gray from white matter it tells in phantoms and not in real scans, so that no more than fluid is taken from it
(docs/statistics.md has what was measured).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files.float16 import to_single
from regions.atlas import template_on
from regions.catalog import CORTEX, VENTRICLES, WHITE_MATTER, Region
from regions.grid import Grid

SHARES = ("csf", "other", "outside")
"""Shares of a region's voxels: cerebrospinal fluid in ventricles or around the brain; brain that is neither fluid nor what the
region is named after; outside the brain, or without a label."""
CSF = 24
FLUID = (*VENTRICLES, CSF)
CLASSES = (FLUID, CORTEX, WHITE_MATTER)
"""The template's labels from which the mixture starts, fluid first."""
LABELLED = 0.5
"""A label map that names a smaller share of the brain, lesions alone for example, says nothing of tissues."""
SAMPLE = 20_000
"""Voxels that the mixture is fitted to, every n-th of the brain's."""
STEPS, TOLERANCE = 200, 1e-6
LEAST_VARIANCE = 1e-3
"""Added to the variances, in squared standard deviations of the brain."""
LEAST_VOXELS = 50


def labelled_tissues(labels: NDArray[np.uint8], image: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The label map within the brain, 0 outside; None where it names too little of the brain.

    Args:
        labels: (I, J, K), the scan's own.
        image: (C, I, J, K) float16 as prepared, exactly 0 outside the brain.
    """
    brain = _brain(image)
    tissues: NDArray[np.uint8] = labels * brain
    return tissues if np.count_nonzero(tissues) >= LABELLED * np.count_nonzero(brain) else None


def estimated_fluid(image: NDArray[Any], grid: Grid) -> NDArray[np.uint8] | None:
    """``CSF`` in fluid and 1 in the rest of the brain, by intensity; None where the template's tissues are not in view.

    Args:
        image: (C, I, J, K) float16 as prepared: T1w, and FLAIR where there is one, z-scores, exactly 0 outside the brain.
        grid: Where the voxels lie, MNI152 space.
    """
    brain = np.flatnonzero(_brain(image).ravel())
    values = np.stack([to_single(channel.reshape(-1)[brain]) for channel in image], axis=1)
    few = slice(None, None, max(brain.size // SAMPLE, 1))
    values = np.clip(values, *np.percentile(values[few], [0.5, 99.5], axis=0).astype(np.float32))
    within = _template_classes(grid).ravel()[brain]
    parts = [values[within == index] for index in range(1, len(CLASSES) + 1)]
    if min(map(len, parts)) < LEAST_VOXELS:
        return None
    dark = parts[0][parts[0][:, 0] <= np.median(parts[0][:, 0])]
    start = np.array([np.median(part, axis=0) for part in (dark, *parts[1:])], dtype=np.float64)
    slopes, offsets = mixture(values[few].astype(np.float64), start)
    scores = values @ slopes.T.astype(np.float32) + offsets.astype(np.float32)
    tissues = np.zeros(image[0].size, np.uint8)
    tissues[brain] = np.where(scores.argmax(axis=1) == 0, CSF, 1)
    return tissues.reshape(image[0].shape)


def mixture(values: NDArray[np.float64], means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit normal distributions with one common covariance; a value belongs to the one of the highest linear score.

    Args:
        values: (n, channels).
        means: (classes, channels) to start from.

    Returns:
        Slopes (classes, channels) and offsets (classes,) of the scores, log posteriors up to what all classes share.
    """
    size, channels = values.shape
    ridge = LEAST_VARIANCE * np.eye(channels)
    weights, precision = (
        np.full(len(means), 1 / len(means)),
        np.linalg.inv(np.atleast_2d(np.cov(values.T)) / len(means) + ridge),
    )
    for _ in range(STEPS):
        slopes = means @ precision
        offsets = np.log(weights) - 0.5 * (slopes * means).sum(axis=1)
        scores = values @ slopes.T + offsets
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        counts = shares.sum(axis=0) + 1e-9
        before, means, weights = means, shares.T @ values / counts[:, None], counts / size
        precision = np.linalg.inv((values.T @ values - (means.T * counts) @ means) / size + ridge)
        if np.abs(means - before).max() < TOLERANCE:
            break
    return slopes, offsets


def tissue_shares(tissues: NDArray[np.uint8], region: Region, estimated: bool) -> tuple[float, float, float]:
    """Which shares of a region's voxels are ``SHARES``.

    Args:
        tissues: (voxels,) what the patient has where the region is shown, 0 outside the brain.
        region: What the voxels should be.
        estimated: Whether the tissues are those of ``estimated_fluid``.

    Returns:
        0 ... 1 each; nan for all where there is no voxel, and for `other` of a region of brain where fluid alone is known, or
        of an atlas, whose names say nothing of tissues.
    """
    if not tissues.size:
        return float("nan"), float("nan"), float("nan")
    counts = np.bincount(tissues, minlength=256)
    known = {*FLUID, *(region.labels or range(1, 256))}
    untold = region.atlas is not None or (estimated and not known <= set(FLUID) and region.labels)
    fluid, outside, told = (int(counts[list(labels)].sum()) for labels in (FLUID, (0,), (0, *known)))
    other = float("nan") if untold else (tissues.size - told) / tissues.size
    return fluid / tissues.size, other, outside / tissues.size


def _brain(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a prepared image is not 0; numpy compares float16 twenty times as slowly."""
    return np.asarray(image[0].view(np.uint16) != 0)


@lru_cache(maxsize=2)
def _template_classes(grid: Grid) -> NDArray[np.uint8]:
    """Where the template has each of ``CLASSES``, from 1; cached."""
    labels, classes = template_on(grid), np.zeros(grid.shape, np.uint8)
    for index, members in enumerate(CLASSES, start=1):
        classes[np.isin(labels, members)] = index
    return classes
