"""Features that are collected while a network runs are those that a second pass would give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_modules.errors import ModelError
from lightning_modules.head_inputs import head_input, head_inputs
from lightning_modules.networks import ResidualCNN


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8 * 8 * 8, 6), nn.Linear(6, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(torch.relu(self.first(image[:, 0].flatten(1))))
        return logits


class Attending(nn.Module):
    """Its linear layers are used twice, without being called, and in another order than they stand in."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.token = nn.Linear(8, 2), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.token(self.token(image[:, 0, 0]))
        logits: torch.Tensor = self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))
        return logits


class Uncalled(Foreign):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(image[:, 0].flatten(1), self.first.weight)


@pytest.mark.parametrize(
    "network", [ResidualCNN(width=4), ResidualCNN(width=4, pooling="max+mean", hidden=(5,)), Foreign(), Attending()]
)
def test_features_are_those_of_a_pass_of_their_own(network: nn.Module) -> None:
    images = torch.randn(3, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    network.eval()
    with torch.no_grad(), head_inputs(network) as entered:
        for batch in (images[:2], images[2:]):
            network(batch)
        features = torch.cat(entered)
        expected = head_input(network, images)
    assert torch.allclose(features, expected, atol=1e-6)
    before = len(entered)
    network(images)
    assert len(entered) == before


def test_covariates_are_no_features() -> None:
    network = ResidualCNN(width=4, covariates="age,sex").eval()
    with torch.no_grad(), head_inputs(network) as entered:
        network(torch.zeros(2, 2, 8, 8, 8), torch.ones(2, network.covariates))
    assert entered[0].shape == (2, 32)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no nn\.Linear"), head_inputs(nn.Conv3d(2, 2, 1)):
        pass


def test_features_are_those_of_the_layer_that_is_called_last() -> None:
    network = Attending().eval()
    image = torch.randn(3, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.head(head_input(network, image)), network(image), rtol=0, atol=0)


def test_a_network_that_calls_no_linear_layer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Uncalled calls no nn\.Linear"):
        head_input(Uncalled(), torch.zeros(1, 2, 8, 8, 8))
