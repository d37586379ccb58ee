"""What entered the head of a network while it was run: its pooled features, without a second pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lightning_modules.errors import ModelError
from lightning_modules.networks import ResidualCNN


@contextmanager
def head_inputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what enters the head, one (B, F) float32 tensor on the CPU for each call of the network, in order.

    The head is that of a ``ResidualCNN``, without the covariates that it is given beside the features; of another network the
    ``nn.Linear`` that is called last.

    Raises:
        ModelError: if the network has no ``nn.Linear``, or calls none.
    """
    heads: list[nn.Module] = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    covariates = 0
    if isinstance(network, ResidualCNN):
        heads, covariates = [network.head], network.covariates
    unknown = f"{type(network).__name__} %s no nn.Linear, so the features that enter its head are not known"
    if not heads:
        raise ModelError(unknown % "has")
    latest: list[Tensor] = []
    entered: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latest[:] = [inputs[0]]

    def collect(network: nn.Module, inputs: Any, output: Any) -> None:
        if not latest:
            raise ModelError(unknown % "calls")
        features = latest.pop().detach().flatten(1).float().cpu()
        entered.append(features[:, : features.shape[1] - covariates])

    hooks = [head.register_forward_pre_hook(keep) for head in heads] + [network.register_forward_hook(collect)]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


def head_input(network: nn.Module, image: Tensor) -> Tensor:
    """What enters the head of a network that is given an image (B, C, I, J, K); as ``head_inputs``.

    Raises:
        ModelError: as ``head_inputs``.
    """
    with head_inputs(network) as entered:
        network(image)
    return entered[-1]
