"""How much relevance a region holds, voxel for voxel, relative to the whole input."""

from __future__ import annotations

import torch
from torch import Tensor


def strength(relevance: Tensor) -> Tensor:
    """Relevance of the voxels of one scan, whatever its sign and image: (C, I, J, K) -> (I, J, K), the mean of |relevance|."""
    return relevance.abs().mean(dim=0)


def densities(strong: Tensor, shown: Tensor, index: Tensor, count: int) -> Tensor:
    """Mean strength of each region over the mean of all voxels that the scan shows; 1 is what no preference gives.

    Args:
        strong: (I, J, K), 0 or more.
        shown: (I, J, K) bool.
        index: (I, J, K) int, number of the region from 1.
        count: Number of regions.

    Returns:
        (count,) float64; NaN for a region of which the scan shows nothing, and everywhere where nothing is relevant.
    """
    inside = index[shown].long()
    sums = torch.bincount(inside, weights=strong[shown].double(), minlength=count + 1)
    voxels = torch.bincount(inside, minlength=count + 1).double()
    return (sums / voxels)[1:] / (sums.sum() / voxels.sum())


def image_shares(relevance: Tensor, shown: Tensor) -> Tensor:
    """Share of each image (C,) in the relevance (C, I, J, K) of a scan's shown voxels; they add up to 1."""
    sums = (relevance.abs().double() * shown).sum(dim=(1, 2, 3))
    return sums / sums.sum()
