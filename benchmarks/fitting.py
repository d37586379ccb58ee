"""The training that every measurement of an epoch runs: the default preset's network and optimiser, float32, nothing logged."""

from __future__ import annotations

import logging
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmarks.clock import Epoch, EpochClock
from benchmarks.recipe import default_recipe
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import ResidualCNN


def quiet() -> None:
    """Keep the libraries' notices out of the way; their errors stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def module(width: int = 8, plain: bool = False, compile: bool = False) -> StratificationModule:
    """The default preset's network and optimiser, from the same random state each time.

    Args:
        width: Channels of the first stage.
        plain: The network as plain layers in PyTorch's own memory format, as a script has it.
        compile: As ``model.compile``.
    """
    recipe = default_recipe()
    pl.seed_everything(0, verbose=False)
    network = ResidualCNN(**(recipe["network"] | {"width": width}))
    return StratificationModule(
        script_form(network) if plain else network, channels_last=not plain, compile=compile, **recipe["model"]
    )


def script_form(network: ResidualCNN) -> ResidualCNN:
    """The network as ordinary layers, its activations in place, as a script or the reference's code has it."""
    plain = network.as_plain()
    for layer in plain.modules():
        if isinstance(layer, nn.LeakyReLU):
            layer.inplace = True
    return plain


def train_step(
    network: StratificationModule,
    optimizer: torch.optim.Optimizer,
    image: Tensor,
    label: Tensor,
    cast: AbstractContextManager[Any] | None = None,
) -> None:
    """A bare training step: forward and loss, in the precision of ``cast`` where one is given, backward, optimiser."""
    with cast or nullcontext():
        loss = torch.nn.functional.cross_entropy(network(image), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def fit(data: pl.LightningDataModule, width: int, epochs: int, batches: int | None = None, plain: bool = False) -> list[Epoch]:
    """Train a fresh network for some epochs, of some batches if given, and return their times."""
    clock, network = EpochClock(), module(width, plain)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, precision="32-true", max_epochs=epochs, limit_train_batches=batches, limit_val_batches=0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[clock], profiler=clock.spans,
    )  # fmt: skip
    trainer.fit(network, datamodule=data)
    return clock.epochs
