"""The networks of others, as plain modules for ``--network``: what each maps, without its authors' data path or schedule.

References:
    SFCN: Peng et al. 2021, Med Image Anal 68:101871 (channels 32, 64, 128, 256, 256, 64).
    Conv5_FC3: Wen et al. 2020, Med Image Anal 63:101694, ClinicaDL's network of whole images (8 to 128 channels).
    DenseNet: Huang et al. 2017; ResNet: He et al. 2016; SE-ResNet: Hu et al. 2018; all as MONAI builds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from types import MappingProxyType

from torch import Tensor, nn


class SFCN(nn.Sequential):
    """Simple fully convolutional network: six convolutions, average pooling, one linear layer."""

    smallest_side = multiple_of = 32

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 256, 256, 64), dropout: float = 0.5) -> None:
        layers: list[nn.Module] = []
        for stage, (i, o) in enumerate(pairwise((2, *channels))):
            last = stage == len(channels) - 1
            layers += [nn.Conv3d(i, o, 1 if last else 3, padding=0 if last else 1), nn.BatchNorm3d(o)]
            layers += [nn.ReLU()] if last else [nn.MaxPool3d(2), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Dropout(dropout), nn.Flatten(), nn.Linear(channels[-1], 2))


class Conv5FC3(nn.Module):
    """Five convolutions of 8 to 128 channels, each pooled by 2, and three linear layers on all that is left.

    Args:
        shape: Sides of its input, which the first linear layer depends on.
        dropout: Before the first linear layer.
    """

    multiple_of = smallest_side = 32

    def __init__(self, shape: tuple[int, int, int], dropout: float = 0.5) -> None:
        super().__init__()
        channels = (2, 8, 16, 32, 64, 128)
        blocks = [[nn.Conv3d(i, o, 3, padding=1), nn.BatchNorm3d(o), nn.ReLU(), nn.MaxPool3d(2)] for i, o in pairwise(channels)]
        flat = channels[-1] * prod(side // 32 for side in shape)
        head = [nn.Dropout(dropout), nn.Linear(flat, 1300), nn.ReLU(), nn.Linear(1300, 50), nn.ReLU(), nn.Linear(50, 2)]
        self.layers = nn.Sequential(*(layer for block in blocks for layer in block), nn.Flatten(), *head)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 2, *shape) to logits (B, 2)."""
        logits: Tensor = self.layers(image)
        return logits


def densenet121() -> nn.Module:
    """MONAI's DenseNet121."""
    from monai.networks.nets import DenseNet121

    return DenseNet121(spatial_dims=3, in_channels=2, out_channels=2)


def resnet18() -> nn.Module:
    """MONAI's ResNet-18."""
    from monai.networks.nets import resnet18 as build

    return build(spatial_dims=3, n_input_channels=2, num_classes=2)


def seresnet50() -> nn.Module:
    """MONAI's SE-ResNet-50."""
    from monai.networks.nets import SEResNet50

    return SEResNet50(spatial_dims=3, in_channels=2, num_classes=2)


FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        name: f"{__name__}.{maker}"
        for name, maker in (
            ("MONAI DenseNet121", "densenet121"),
            ("MONAI ResNet18", "resnet18"),
            ("MONAI SEResNet50", "seresnet50"),
            ("SFCN", "SFCN"),
            ("ClinicaDL Conv5_FC3", "Conv5FC3"),
        )
    }
)
"""Name -> import path, as ``--network`` takes it; ``Conv5FC3`` needs the shape of its box beside it."""
