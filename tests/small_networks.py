"""Small networks with statistics of their own, scans that are zero outside an input, and the same function in plain layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import ResidualCNN
from lightning_modules.objectives import ScoreScale

SHAPE = (3, 2, 8, 12, 16)
EDSS = ScoreScale(3.0, tuple(float(step) / 2 for step in range(21)))


def trained(network: nn.Module) -> nn.Module:
    """A network whose normalisation has running statistics of its own, as after a training."""
    torch.manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            nn.init.normal_(layer.weight, 1.0, 0.3)
    return network.eval()


def scans() -> Tensor:
    """Volumes that are exactly zero outside an input."""
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    image[:, :, :2] = 0
    image[0, :, :, :, 10:] = 0
    return image


def made(**options: Any) -> StratificationModule:
    torch.manual_seed(0)
    return StratificationModule(trained(ResidualCNN(width=4, stages=3, pooling="max+mean")), **options).eval()


def plain_log_odds(module: StratificationModule) -> Any:
    """The same function through ordinary layers."""
    plain = module.network.as_plain().eval()  # type: ignore[operator]
    return lambda image: plain(image)[:, 1] - plain(image)[:, 0]


def close(actual: Tensor, expected: Tensor) -> bool:
    return torch.allclose(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
