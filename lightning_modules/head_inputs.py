"""What entered the head of a network while it was run: its pooled features, without a second pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lightning_modules.errors import ModelError
from lightning_modules.networks import ResidualCNN


@contextmanager
def head_inputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what enters the head, one (B, F) tensor on the CPU for each call of the network, in order.

    The same features as ``lightning_modules.networks.head_input``: without the covariates that the head is given beside them.

    Raises:
        ModelError: if the network has no ``nn.Linear``.
    """
    entered: list[Tensor] = []
    head = network.head if isinstance(network, ResidualCNN) else _last_linear(network)
    covariates = network.covariates if isinstance(network, ResidualCNN) else 0

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features = inputs[0].detach().flatten(1).float().cpu()
        entered.append(features[:, : features.shape[1] - covariates])

    hook = head.register_forward_pre_hook(keep)
    try:
        yield entered
    finally:
        hook.remove()


def _last_linear(network: nn.Module) -> nn.Module:
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ModelError(f"{type(network).__name__} has no nn.Linear, so the features that enter its head are not known")
    return linear[-1]
