"""3D networks that turn a volume of several images into two class logits. Needs torch alone.

The residual network follows public code that is probably, not provably, the reference study's own (Coll et al., J Magn Reson
Imaging 2024;60(1):258-267), so it is called paper-like. Any other ``torch.nn.Module`` that maps (B, C, I, J, K) to (B, 2) can
be used instead, by import path.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_modules.covariates import SLOTS, covariate_names
from lightning_modules.cpu.fused_block import fused, handles_layout
from lightning_modules.cpu.normalisation import SharedBatchNorm3d, frozen_statistics
from lightning_modules.errors import ModelError

LARGEST_SIDE, LARGEST_COMPUTED = 256, 64
"""Sides up to which a foreign network is tried: by shapes alone, and by computing where shapes alone do not do."""
_KNOWN_SIDES: dict[object, int] = {}


class ResidualBlock(nn.Module):
    """A 3x3x3 and a parallel 1x1x1 convolution, summed; batch normalisation, leaky ReLU, and max-pooling by 2 if asked.

    ``fast`` switches between the layers as written here and the same function in fewer passes (``lightning_modules.cpu``).
    """

    def __init__(self, in_channels: int, out_channels: int, pool: bool) -> None:
        super().__init__()
        self.fast, self.pool = True, pool
        self.wide = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.point = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.norm = SharedBatchNorm3d(out_channels)
        self.activation = nn.LeakyReLU()
        self.max_pool = nn.MaxPool3d(2) if pool else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, I, J, K) to (B, out_channels, I, J, K), the sides halved where it pools."""
        if self.fast:
            return fused(image, self.wide, self.point, self.norm, self.pool)
        out: Tensor = self.max_pool(self.activation(self.norm(self.wide(image) + self.point(image))))
        return out


class ResidualCNN(nn.Module):
    """Paper-like residual 3D-CNN: stages of f, 2f, 4f, ... channels, max-pooling between them, global pooling, a head.

    Args:
        in_channels: Channels of the input, T1w and FLAIR by default.
        classes: Logits that come out.
        width: Channels f of the first stage.
        stages: Number of residual stages; the volume is halved between them.
        dropout: Probability of dropping a feature before the classifying head.
        hidden: Features of the head's hidden layers, with leaky ReLU, so that no scan's gradient is lost; without any the head
            is one linear layer.
        pooling: What the head is given of each channel: its largest value (``max``), or that and its mean (``max+mean``), which
            sees a signal that is spread over the input.
        checkpointing: Keep only what enters each stage, and compute the rest again on the way back: less memory, about a third
            more time, the same numbers.
        covariates: Columns of the cohort that the head is given beside the image, separated by commas, such as ``age,sex``.
    """

    def __init__(
        self,
        in_channels: int = 2,
        classes: int = 2,
        width: int = 8,
        stages: int = 4,
        dropout: float = 0.0,
        hidden: tuple[int, ...] = (),
        pooling: Literal["max", "max+mean"] = "max",
        checkpointing: bool = False,
        covariates: str = "",
    ) -> None:
        super().__init__()
        if min(width, stages, *hidden) < 1:
            raise ModelError(f"width, stages and hidden must be at least 1, got {width}, {stages} and {list(hidden)}")
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout must lie in [0, 1), got {dropout}")
        channels = [in_channels, *(width * 2**stage for stage in range(stages))]
        self.stages = nn.Sequential(
            *(ResidualBlock(i, o, pool=stage < stages - 1) for stage, (i, o) in enumerate(pairwise(channels)))
        )
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.covariates = SLOTS * len(covariate_names(covariates))
        features = [channels[-1] * len(pooling.split("+")) + self.covariates, *hidden]
        layers = [layer for i, o in pairwise(features) for layer in (nn.Linear(i, o), nn.LeakyReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(features[-1], classes))
        self.multiple_of = self.smallest_side = 2 ** (stages - 1)
        self.checkpointing = checkpointing

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Map (B, C, I, J, K), and standardised covariates (B, V), to logits (B, classes); raises as ``features`` does.

        Without covariates a scan is one of the training part's mean, so that what is left depends on the image alone.
        """
        features = self.dropout(self.features(image))
        if self.covariates:
            given = features.new_zeros(len(features), self.covariates) if covariates is None else covariates.to(features.dtype)
            features = torch.cat([features, given], dim=1)
        return self.head(features)

    def features(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to what the head is given (B, F): the largest value, and the mean, of each channel.

        Raises:
            ValueError: if I, J or K is not a multiple of ``multiple_of``; pooling would leave voxels out.
        """
        if any(side % self.multiple_of for side in image.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.multiple_of}, got {tuple(image.shape[2:])}")
        for stage in self.stages:
            image = recomputed(stage, image) if self.checkpointing and torch.is_grad_enabled() else stage(image)
        largest = torch.amax(image, dim=(2, 3, 4))
        return largest if self.pooling == "max" else torch.cat([largest, image.mean(dim=(2, 3, 4))], dim=1)

    def as_plain(self) -> ResidualCNN:
        """A copy, with the same weights, that calls its Conv3d, BatchNorm3d, LeakyReLU and MaxPool3d layers one after another.

        Its outputs are equal up to rounding. Hooks on its layers fire, as saliency maps, exporters and profilers need.
        """
        plain = copy.deepcopy(self)
        plain.checkpointing = False
        for block in plain.stages:
            assert isinstance(block, ResidualBlock)
            norm = nn.BatchNorm3d(block.norm.num_features).to(block.norm.weight)
            norm.load_state_dict(block.norm.state_dict())
            block.fast, block.norm = False, norm.train(block.norm.training)  # type: ignore[assignment]
        return plain

    def handles_layout(self, image: Tensor) -> bool:
        """Whether the first stage brings (B, C, I, J, K) into a layout of its own, so that channels-last would be lost work."""
        first: ResidualBlock = self.stages[0]  # type: ignore[assignment]
        return first.fast and handles_layout(image, first.wide, first.norm, first.pool)


def recomputed(stage: nn.Module, image: Tensor) -> Tensor:
    """A stage that is computed a second time for its gradient; running statistics follow the first time only."""

    def passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), frozen_statistics(stage)

    out: Tensor = checkpoint(stage, image, use_reentrant=False, preserve_rng_state=False, context_fn=passes)
    return out


def multiple_of(network: nn.Module) -> int:
    """The number that each side of the network's input must be a multiple of: its own ``multiple_of``, or 8."""
    return int(getattr(network, "multiple_of", 8))


def smallest_side(network: nn.Module, channels: int = 2, batch_size: int = 8) -> int:
    """The least side of a cube, a multiple of ``multiple_of``, with which the network trains.

    A network may state it as its attribute ``smallest_side``. Otherwise forward and backward passes of a copy are tried, with
    two scans, or with one where ``batch_size`` is 1 or 2: an epoch may then hold a batch of one scan. They run on the meta
    device, which knows shapes alone; a network that cannot be moved there is computed, up to a side of 64.

    Raises:
        ModelError: if it trains with no side up to 256.
    """
    if hasattr(network, "smallest_side"):
        return int(network.smallest_side)  # type: ignore[arg-type]
    scans = 1 if batch_size <= 2 else 2
    key = repr(network), tuple(weight.shape for weight in network.parameters()), multiple_of(network), channels, scans
    if key not in _KNOWN_SIDES:
        _KNOWN_SIDES[key] = _find_side(network, channels, scans)
    return _KNOWN_SIDES[key]


def _find_side(network: nn.Module, channels: int, scans: int) -> int:
    step, reason = multiple_of(network), ""
    for device, largest in (("meta", LARGEST_SIDE), ("cpu", LARGEST_COMPUTED)):
        trial = copy.deepcopy(network).to(device).train()
        for side in range(step, largest + 1, step):
            try:
                _try_training(trial, torch.zeros(scans, channels, side, side, side, device=device))
            except Exception as error:  # whatever a foreign network raises
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            else:
                return side
    raise ModelError(
        f"{type(network).__name__} trains with no cube of {channels} channels whose side is a multiple of {step} up to "
        f"{LARGEST_SIDE} voxels ({reason}); give --network a 3D network that maps (B, {channels}, I, J, K) to (B, 2)"
    )


def _try_training(network: nn.Module, image: Tensor) -> None:
    """One forward and backward pass; what the network raises comes through."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        logits = network(image)
        if logits.shape != (len(image), 2):
            raise ModelError(f"its output is {tuple(logits.shape)}, not {(len(image), 2)}")
        logits.float().sum().backward()
