"""What the voxels of a region are in one patient: fluid, another tissue than the region's name says, or no brain at all.

A label map says it exactly. Without one a mixture of three normal distributions with one common covariance is fitted to T1w and
FLAIR of the brain by expectation-maximisation, from where the template has fluid, cortex and white matter. It tells fluid well.
It cannot tell deep nuclei and brainstem from white matter, so that of these no share of other tissue is given; how well it does
stands in docs/statistics.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files.float16 import to_single
from regions.atlas import template_on
from regions.catalog import CEREBELLAR_CORTEX, CORTEX, LESIONS, UNSPECIFIED_GRAY_MATTER, VENTRICLES, WHITE_MATTER, Region
from regions.grid import Grid

SHARES = ("csf", "other", "outside")
"""Shares of a region's voxels: cerebrospinal fluid in ventricles or around the brain; brain that is neither fluid nor what the
region is named after; outside the brain, or without a label."""
CSF, WHITE, GRAY = 24, 186, 187
FLUID = (*VENTRICLES, CSF)
ESTIMATED = {CSF: FLUID, GRAY: (*CORTEX, *CEREBELLAR_CORTEX, *UNSPECIFIED_GRAY_MATTER), WHITE: (*WHITE_MATTER, *LESIONS)}
"""Label of an estimated tissue -> the labels whose tissue intensities can tell from the others."""
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
        image: (2, I, J, K) float16 as prepared, exactly 0 outside the brain.
    """
    brain = _brain(image)
    tissues: NDArray[np.uint8] = labels * brain
    return tissues if np.count_nonzero(tissues) >= LABELLED * np.count_nonzero(brain) else None


def estimated_tissues(image: NDArray[Any], grid: Grid) -> NDArray[np.uint8] | None:
    """Fluid, gray and white matter by intensity, labels of ``ESTIMATED``; None where the template's tissues are not in view.

    Args:
        image: (2, I, J, K) float16 as prepared: T1w and FLAIR, z-scores, exactly 0 outside the brain.
        grid: Where the voxels lie, MNI152 space.
    """
    brain = np.flatnonzero(_brain(image).ravel())
    values = np.stack([to_single(channel.reshape(-1)[brain]) for channel in image], axis=1)
    few = slice(None, None, max(brain.size // SAMPLE, 1))
    values = np.clip(values, *np.percentile(values[few], [0.5, 99.5], axis=0).astype(np.float32))
    within = _template_tissues(grid).ravel()[brain]
    parts = [values[within == tissue] for tissue in ESTIMATED]
    if min(map(len, parts)) < LEAST_VOXELS:
        return None
    fluid = parts[0][parts[0][:, 0] <= np.median(parts[0][:, 0])]
    start = np.array([np.median(part, axis=0) for part in (fluid, *parts[1:])], dtype=np.float64)
    slopes, offsets = mixture(values[few].astype(np.float64), start)
    tissues = np.zeros(image[0].size, np.uint8)
    scores = values @ slopes.T.astype(np.float32) + offsets.astype(np.float32)
    tissues[brain] = np.array(list(ESTIMATED), np.uint8)[scores.argmax(axis=1)]
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
    weights, precision = np.full(len(means), 1 / len(means)), np.linalg.inv(np.cov(values.T) / len(means) + ridge)
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
        estimated: Whether the tissues are those of ``estimated_tissues``.

    Returns:
        0 ... 1 each; nan for all where there is no voxel, and for `other` where intensities cannot tell.
    """
    counts = np.bincount(tissues, minlength=256)
    if not tissues.size:
        return float("nan"), float("nan"), float("nan")
    wanted = _as_estimated(region) if estimated else region
    known = FLUID + (wanted.labels or tuple(range(1, 256)))
    fluid, outside = counts[list(FLUID)].sum() / tissues.size, counts[0] / tissues.size
    other = 1 - outside - counts[list(set(known))].sum() / tissues.size
    untold = estimated and {GRAY, WHITE} <= set(wanted.labels)
    return float(fluid), float("nan") if untold else max(float(other), 0.0), float(outside)


def _as_estimated(region: Region) -> Region:
    """The region in labels of ``ESTIMATED``: both tissues where none of its labels is one that intensities can tell."""
    told = tuple(tissue for tissue, labels in ESTIMATED.items() if set(labels) & set(region.labels))
    return Region(region.name, (told or (GRAY, WHITE)) if region.labels else (), region.description, region.source)


def _brain(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a prepared image is not 0; numpy compares float16 twenty times as slowly."""
    return np.asarray(image[0].view(np.uint16) != 0)


@lru_cache(maxsize=2)
def _template_tissues(grid: Grid) -> NDArray[np.uint8]:
    """Where the template has fluid, cortex and white matter, labels of ``ESTIMATED``; cached."""
    labels, tissues = template_on(grid), np.zeros(grid.shape, np.uint8)
    for tissue, members in {CSF: FLUID, GRAY: CORTEX, WHITE: WHITE_MATTER}.items():
        tissues[np.isin(labels, members)] = tissue
    return tissues
