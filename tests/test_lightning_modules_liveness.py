"""A network whose output does not depend on the scan is never a result, and no label is looked at to say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.cohort.splits import make_splits
from datamodules.mri import BrainMRIDataModule
from experiments.study.study import Study
from experiments.training.assemble import seed_of
from lightning_modules.classifier import StratificationModule
from lightning_modules.errors import TrainingError
from lightning_modules.liveness import INITIALISATIONS, LivingNetwork, depends_on_scan
from lightning_modules.networks import ResidualCNN
from regions.catalog import REGIONS

SCANS = torch.randn(12, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1] * 6)


def images() -> Iterator[Tensor]:
    yield from SCANS.split(4)


def killed(network: nn.Module) -> nn.Module:
    """The network with a first hidden layer whose units are off for every scan."""
    head = nn.Sequential(nn.Linear(network.head[0].in_features, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.constant_(head[0].bias, -1e4)
    network.head = head
    return network


def training(network: nn.Module, living: LivingNetwork, epochs: int = 1) -> tuple[pl.Trainer, StratificationModule, Any]:
    module = StratificationModule(network)
    batches = [
        {"image": SCANS[at : at + 4], "label": LABELS[at : at + 4], "index": torch.arange(at, at + 4)} for at in (0, 4, 8)
    ]
    loader = DataLoader(batches, batch_size=None)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[living],
    )
    trainer.fit(module, loader, loader)
    return trainer, module, loader


@pytest.mark.parametrize("starting", [True, False])
@pytest.mark.parametrize("width", [1, 4, 8, 16])
@pytest.mark.parametrize("hidden", [(), (8, 4)])
def test_networks_of_ours_depend_on_the_scan_from_the_start(width: int, hidden: tuple[int, ...], starting: bool) -> None:
    torch.manual_seed(0)
    assert depends_on_scan(ResidualCNN(width=width, hidden=hidden), images(), starting)


@pytest.mark.parametrize("starting", [True, False])
def test_a_dead_head_is_seen_in_every_precision(starting: bool) -> None:
    network = killed(ResidualCNN(width=4))
    assert not depends_on_scan(network, images(), starting)
    with torch.autocast("cpu", torch.bfloat16):
        assert not depends_on_scan(network, images(), starting)


def test_random_layers_do_not_make_a_dead_network_look_alive() -> None:
    network = killed(ResidualCNN(width=4))
    network.head.append(nn.Dropout(0.5))
    assert not depends_on_scan(network.train(), images(), starting=True)


def test_equal_scans_say_nothing_until_another_comes() -> None:
    network, read = ResidualCNN(width=4), []

    def batches() -> Iterator[Tensor]:
        for number in (0, 0, 1, 2):
            read.append(number)
            yield SCANS[number : number + 1]

    assert depends_on_scan(network, batches(), starting=False)
    assert read == [0, 0, 1]


@pytest.mark.parametrize("starting", [True, False])
def test_looking_changes_neither_mode_nor_statistics_nor_random_state(starting: bool) -> None:
    network = ResidualCNN(width=4, dropout=0.5)
    network.stages[0].eval()  # type: ignore[operator]
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    depends_on_scan(network, images(), starting)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_dead_start_takes_the_next_living_initialisation_and_says_which() -> None:
    drawn: list[int] = []

    def draw(number: int) -> nn.Module:
        torch.manual_seed(number)
        drawn.append(number)
        network = killed(ResidualCNN(width=4))
        if number == 3:
            nn.init.zeros_(network.head[0].bias)
        return network

    living = LivingNetwork(images, draw)
    trainer, module, loader = training(draw(0), living)
    assert (drawn, living.initialisation) == ([0, 1, 2, 3], 3)
    again = LivingNetwork(images, draw)
    again.load_state_dict(living.state_dict())
    assert again.initialisation == 3
    p = torch.cat([batch["probability"] for batch in trainer.predict(module, loader)])
    assert np.ptp(p.numpy()) > 0


def test_a_living_start_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(width=4)
    living = LivingNetwork(images, lambda number: pytest.fail(f"initialisation {number} was drawn"))
    training(network, living)
    assert living.initialisation == 0


def test_a_network_that_starts_at_zero_keeps_its_first_weights_and_may_learn() -> None:
    drawn: list[int] = []

    def draw(number: int) -> nn.Module:
        drawn.append(number)
        network = ResidualCNN(width=4)
        nn.init.zeros_(network.head[0].weight)
        return network

    living = LivingNetwork(images, draw)
    trainer, module, loader = training(draw(0), living, epochs=2)
    assert drawn == list(range(INITIALISATIONS))
    assert living.initialisation == 0
    trainer.predict(module, loader)


def test_a_network_that_ends_dead_gives_no_prediction() -> None:
    living = LivingNetwork(images)
    trainer, module, loader = training(killed(ResidualCNN(width=4)), living)
    with pytest.raises(TrainingError, match="the output does not depend on the scan"):
        trainer.predict(module, loader)


@pytest.mark.long
@pytest.mark.parametrize("width", [4, 8, 16])
def test_no_head_of_ours_is_dead_at_the_start(study: Study, width: int) -> None:
    """100 seeds, 7 folds, on boxes of real regions; a head of three layers with ReLU was dead 24 times in 700 at width 4."""
    scans = study.cohort.scans
    batches = {}
    for name in ("brainstem", "subcortical_gray_matter", "ventricles"):
        parts = make_splits(scans, 0)
        for fold in range(7):
            data = BrainMRIDataModule(
                study.prepared, [scan.patient for scan in scans], [scan.label for scan in scans], parts, fold, REGIONS[name]
            )
            batches[name, fold] = next(data.training_images())
    names = sorted({name for name, _ in batches})
    dead = []
    for seed in range(100):
        for fold in range(7):
            images = batches[names[(seed + fold) % 3], fold]
            for hidden in ((), (2 * width, width)):
                seed_of(seed, fold)
                if not depends_on_scan(ResidualCNN(width=width, hidden=hidden), [images], starting=True):
                    dead.append((seed, fold, hidden))
    assert dead == []
