"""Region occlusion: what a network says when one region shows what the training part shows there on average.

It needs no gradient and asks another question than a map does: not where the output is steep, but what the decision needs.

References:
    Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014 (occlusion).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from experiments.explaining.gradients import explaining, log_odds, present_images
from lightning_modules.classifier import StratificationModule
from regions.errors import UserError


def mean_image(batches: Iterable[Tensor]) -> Tensor:
    """Mean over all scans of batches (B, C, I, J, K) that have an image: (C, I, J, K) float32, summed in float64.

    Raises:
        UserError: if there is no scan.
    """
    total, scans = None, None
    for batch in batches:
        part, there = batch.double().sum(dim=0), present_images(batch).sum(dim=0)
        total, scans = (part, there) if total is None or scans is None else (total + part, scans + there)
    if total is None or scans is None:
        raise UserError("there is no training scan, so what a region shows on average is not known")
    return (total / scans.clamp_min(1)).float()


def occluded(image: Tensor, region: Tensor, average: Tensor) -> Tensor:
    """The images (B, C, I, J, K) with the average (C, I, J, K) in the place of a region (I, J, K) bool.

    An image that a scan lacks stays zero.
    """
    return torch.where(region & present_images(image), average, image)


def occlusion(
    module: StratificationModule, image: Tensor, index: Tensor, count: int, average: Tensor, covariates: Tensor | None = None
) -> Tensor:
    """Log odds of the images as they are, and without each region.

    Args:
        module: The network; its mode and its weights are as before afterwards.
        image: (B, C, I, J, K).
        index: (I, J, K) int, number of the region from 1.
        count: Number of regions.
        average: (C, I, J, K), what the training part shows on average.
        covariates: (B, V), if the network takes them.

    Returns:
        (B, 1 + count), the first column is that of the whole image.
    """
    with explaining(module), torch.no_grad():
        columns = [log_odds(module, image, covariates)]
        for number in range(1, count + 1):
            columns.append(log_odds(module, occluded(image, index == number, average), covariates))
    return torch.stack(columns, dim=1)
