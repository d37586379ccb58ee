"""Does a network's output depend on the scan? Looked at without labels, at the start of a training and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.errors import TrainingError

SMALLEST_SPREAD = 1e-5
"""Log odds of two scans that are closer cannot be told from float32 rounding."""
INITIALISATIONS = 10
"""Weights that are drawn, at most, until the output depends on the scan."""

Draw = Callable[[int], nn.Module]


class LivingNetwork(pl.Callback):
    """Start from weights with which the output depends on the scan; refuse to predict with weights with which it does not.

    A network whose units are all off for every scan has no gradient and stays as it is. Where the first weights are such, the
    next ones of the same stream are taken. No label is looked at: choosing weights by what they predict would bias a cohort
    without any effect. A network that starts at zero on purpose is the same in every initialisation, and keeps its first.

    Args:
        images: Gives the training scans, batches (B, C, I, J, K) on the network's device, nothing random in them.
        draw: Number of an initialisation, from 1 -> a network with its weights; None leaves the start as it is.
    """

    def __init__(self, images: Callable[[], Iterable[Tensor]], draw: Draw | None = None) -> None:
        self.images, self.draw, self.initialisation = images, draw, 0

    def state_dict(self) -> dict[str, Any]:
        """The initialisation that was taken."""
        return {"initialisation": self.initialisation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the initialisation that was taken."""
        self.initialisation = int(state_dict["initialisation"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the first initialisation whose output depends on the scan."""
        network: nn.Module = pl_module.network  # type: ignore[assignment]
        if trainer.global_step or self.draw is None or self._lives(trainer, network, starting=True):
            return
        first = {name: value.clone() for name, value in network.state_dict().items()}
        for number in range(1, INITIALISATIONS):
            network.load_state_dict(self.draw(number).state_dict())
            if self._lives(trainer, network, starting=True):
                self.initialisation = number
                return
        network.load_state_dict(first)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the trained network.

        Raises:
            TrainingError: if its output does not depend on the scan.
        """
        network: nn.Module = pl_module.network  # type: ignore[assignment]
        if not self._lives(trainer, network, starting=False):
            raise TrainingError(
                "the output does not depend on the scan: all training scans get one probability; "
                f"lower model.learning_rate ({pl_module.hparams['learning_rate']}), or choose another network or --seed"
            )

    def _lives(self, trainer: pl.Trainer, network: nn.Module, starting: bool) -> bool:
        with trainer.strategy.precision_plugin.forward_context():
            return depends_on_scan(network, self.images(), starting)


@torch.no_grad()
def depends_on_scan(network: nn.Module, images: Iterable[Tensor], starting: bool) -> bool:
    """Whether the log odds of two scans differ; it reads no further than to the first that does.

    Args:
        network: Maps (B, C, I, J, K) to two logits (B, 2). It is left in the mode in which it was, its statistics unchanged.
        images: Batches of scans.
        starting: Normalise by each batch, as training begins, not by the running statistics, which know no scan yet.
    """
    modes = {module: module.training for module in network.modules()}
    kept = {name: value.clone() for name, value in network.named_buffers()}
    network.eval()
    for module in network.modules():
        if starting and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    low, high = float("inf"), float("-inf")
    try:
        with torch.random.fork_rng({value.device for value in network.parameters() if value.is_cuda}):
            for image in images:
                logits = network.forward(image).double()
                odds = logits[:, 1] - logits[:, 0]
                low, high = min(low, float(odds.min())), max(high, float(odds.max()))
                if high - low > SMALLEST_SPREAD:
                    return True
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, value in network.named_buffers():
            value.copy_(kept[name])
    return False
