"""Gradient and SmoothGrad of a network's output with respect to its image. Needs no study.

References:
    Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks, arXiv 1312.6034, 2013 (the gradient).
    Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv 1706.03825, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lightning_modules.classifier import StratificationModule
from lightning_modules.numbers import NumberModule
from regions.errors import UserError

DRAWS = 25
SIGMA = 0.15
"""Noise as a share of the input's range; Smilkov et al. recommend 0.1 to 0.2."""
CHUNK, VOXELS_AT_ONCE = 8, 1 << 25
"""Noisy copies of a scan that pass the network together, and their voxels, at most: four copies of a whole brain at 1 mm."""


def log_odds(module: StratificationModule, image: Tensor, covariates: Tensor | None = None) -> Tensor:
    """What is explained, (B,): the log odds of the positive class; the predicted number where the module predicts one.

    Args:
        module: The network with its objective; of all objectives the log odds are the difference of its two logits.
        image: (B, C, I, J, K).
        covariates: (B, V), if the network takes them.
    """
    logits = module(image, covariates)
    if isinstance(module, NumberModule):
        return module.number(logits)
    difference: Tensor = logits[:, 1] - logits[:, 0]
    return difference


@contextmanager
def explaining(module: StratificationModule) -> Iterator[None]:
    """Inside, the module is in evaluation mode and its weights collect no gradient."""
    training, needed = module.training, [weight.requires_grad for weight in module.parameters()]
    module.eval().requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        module.train(training)
        for weight, was in zip(module.parameters(), needed, strict=True):
            weight.requires_grad_(was)


def gradient(module: StratificationModule, image: Tensor, covariates: Tensor | None = None) -> Tensor:
    """Gradient of each scan's log odds with respect to its image.

    Args:
        module: The network; its mode and its weights are as before afterwards.
        image: (B, C, I, J, K) float32, as batches hold it.
        covariates: (B, V), if the network takes them.

    Returns:
        (B, C, I, J, K) float32, per unit of intensity. Outside the input the image is zero and the gradient as it comes; of an
        image that a scan lacks it is 0.
    """
    with explaining(module):
        leaf = image.detach().clone().requires_grad_()
        return torch.autograd.grad(log_odds(module, leaf, covariates).sum(), leaf)[0] * present_images(image)


def present_images(image: Tensor) -> Tensor:
    """Which images a scan has, (B, C, 1, 1, 1) bool: one that it lacks is zero everywhere."""
    return (image != 0).flatten(2).any(dim=2)[..., None, None, None]


def shown_voxels(image: Tensor) -> Tensor:
    """Where a scan shows something, (B, 1, I, J, K) bool: the store keeps every voxel of the brain from being exactly zero."""
    return (image != 0).any(dim=1, keepdim=True)


def noise_scale(image: Tensor, sigma: float) -> Tensor:
    """SD of the noise, (B, C, 1, 1, 1): a share of the range that each image of each scan has in its shown voxels."""
    inside = shown_voxels(image)
    low = image.masked_fill(~inside, torch.inf).amin(dim=(2, 3, 4), keepdim=True)
    high = image.masked_fill(~inside, -torch.inf).amax(dim=(2, 3, 4), keepdim=True)
    return sigma * (high - low).clamp_min(0).nan_to_num(0.0)


def noisy_copies(image: Tensor, draws: int, sigma: float, generator: torch.Generator) -> Tensor:
    """(draws, C, I, J, K) copies of one scan (C, I, J, K), each with noise of its own in the shown voxels, none outside them.

    The noise is drawn copy by copy on the generator's device, so that it does not depend on how many are drawn at once.
    """
    scale = noise_scale(image[None], sigma)
    noise = [torch.randn(image.shape, generator=generator, device=generator.device) for _ in range(draws)]
    return image + torch.stack(noise).to(image) * scale * shown_voxels(image[None])


def smooth_gradient(
    module: StratificationModule,
    image: Tensor,
    draws: int = DRAWS,
    sigma: float = SIGMA,
    generator: torch.Generator | None = None,
    covariates: Tensor | None = None,
) -> Tensor:
    """SmoothGrad: the mean gradient over noisy copies of each scan.

    Args:
        module: The network; its mode and its weights are as before afterwards.
        image: (B, C, I, J, K) float32, exactly zero outside the input.
        draws: Noisy copies of a scan.
        sigma: SD of the noise as a share of the range of the scan's image in its shown voxels.
        generator: Where the noise comes from; one seeded with 0 by default.
        covariates: (B, V), if the network takes them.

    Returns:
        (B, C, I, J, K) float32.

    Raises:
        UserError: if there is no draw, or ``sigma`` is negative.
    """
    if draws < 1 or not sigma >= 0:
        raise UserError(f"SmoothGrad needs 1 or more draws and a sigma of 0 or more, not {draws} and {sigma:g}")
    generator = generator or torch.Generator().manual_seed(0)
    step = max(1, min(CHUNK, VOXELS_AT_ONCE // image[0, 0].numel()))
    maps = []
    for row, scan in enumerate(image):
        total, given = torch.zeros_like(scan), None if covariates is None else covariates[row : row + 1]
        for start in range(0, draws, step):
            copies = noisy_copies(scan, min(step, draws - start), sigma, generator)
            repeated = None if given is None else given.expand(len(copies), -1)
            total += gradient(module, copies, repeated).sum(dim=0)
        maps.append(total / draws)
    return torch.stack(maps)
