"""What a control experiment shows of a region instead of its image: the mask alone, or its shuffled voxels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Content = Literal["image", "mask", "shuffled"]


def control_content(image: Tensor, index: Tensor, content: Content, seed: int) -> Tensor:
    """Replace what a batch shows; to be applied after the region step.

    A voxel belongs to the mask where it is not exactly zero, as outside the region and outside the brain it is.

    Args:
        image: (B, C, I, J, K) float32, exactly zero outside the region.
        index: (B,) int, the scans' rows in the cohort.
        content: ``image``: the batch itself. ``mask``: 1 in the mask, 0 outside, the same in all channels. ``shuffled``: the
            mask's voxels change places, all channels alike, in an order that depends on the scan and the seed only: size and
            shape of the region and all its intensities are kept, where they lie is not.
        seed: Seed of the order, 0 or more.

    Returns:
        (B, C, I, J, K) float32.

    Raises:
        ValueError: if there is no such content.

    References:
        Welch et al., Vulnerabilities of radiomic signature development, Radiother Oncol 2019;130:2-9 (shuffled voxels).
    """
    if content == "image":
        return image
    mask = (image != 0).any(dim=1, keepdim=True)
    if content == "mask":
        return mask.to(image.dtype).expand_as(image).contiguous()
    if content != "shuffled":
        raise ValueError(f"content {content!r} does not exist; contents are image, mask, shuffled")
    out = torch.zeros_like(image)
    for target, volume, inside, row in zip(out, image, mask[:, 0], index.tolist(), strict=True):
        values = volume[:, inside]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
        order = torch.randperm(values.shape[1], generator=generator).to(values.device)
        target[:, inside] = values[:, order]
    return out
