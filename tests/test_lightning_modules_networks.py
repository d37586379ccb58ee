"""The paper-like network: its shortcuts change no value and no gradient, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks import ResidualBlock, ResidualCNN, multiple_of


def naive(block: ResidualBlock, image: Tensor) -> Tensor:
    """The block as the reference's code writes it: two convolutions, sum, BatchNorm, leaky ReLU, then max-pooling."""
    total = F.conv3d(image, block.wide.weight, padding=1) + F.conv3d(image, block.point.weight)
    norm = block.norm
    normal = F.batch_norm(total, norm.running_mean.clone(), norm.running_var.clone(), norm.weight, norm.bias, norm.training)  # type: ignore[union-attr]
    features = F.leaky_relu(normal)
    return F.max_pool3d(features, 2) if block.pool else features


def make_block(pool: bool) -> ResidualBlock:
    torch.manual_seed(0)
    block = ResidualBlock(2, 6, pool)
    with torch.no_grad():
        block.norm.weight.copy_(torch.tensor([1.0, -1.5, 0.3, -0.2, 2.0, -0.7]))
        block.norm.bias.copy_(torch.tensor([0.0, 0.5, -0.5, 0.2, -1.0, 0.1]))
        assert block.norm.running_mean is not None
        block.norm.running_mean.normal_()
    return block


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_a_block_equals_the_naive_form_in_values_and_gradients(pool: bool, train: bool) -> None:
    block = make_block(pool).train(train)
    image = torch.randn(3, 2, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    out, grads = [], []
    for form in (naive, ResidualBlock.forward):
        given = image.clone().requires_grad_()
        value = form(block, given)
        weights = torch.linspace(-1, 1, value.numel()).view(value.shape)
        gradient = torch.autograd.grad((value * weights).sum(), [given, *block.parameters()])
        out.append(value)
        grads.append(gradient)
    assert torch.allclose(out[0], out[1], atol=1e-5)
    for expected, found in zip(*grads, strict=True):
        assert torch.allclose(expected, found, atol=1e-5 * float(expected.abs().max()) + 1e-5)


def test_both_kernels_of_a_block_are_trained() -> None:
    block = make_block(pool=True)
    block(torch.randn(2, 2, 4, 4, 4)).square().sum().backward()
    assert block.wide.weight.grad is not None
    assert block.point.weight.grad is not None
    assert torch.allclose(block.wide.weight.grad[:, :, 1:2, 1:2, 1:2], block.point.weight.grad)


def test_width_and_stages_give_the_layers_they_name() -> None:
    network = ResidualCNN(in_channels=3, classes=4, width=5, stages=3)
    channels = [(block.wide.in_channels, block.wide.out_channels, block.pool) for block in network.stages]  # type: ignore[union-attr]
    assert channels == [(3, 5, True), (5, 10, True), (10, 20, False)]
    assert network.multiple_of == multiple_of(network) == 4
    assert network.eval()(torch.randn(2, 3, 4, 8, 12)).shape == (2, 4)
    assert [layer.out_features for layer in network.head if isinstance(layer, nn.Linear)] == [10, 5, 4]


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network, image = ResidualCNN(width=4, stages=2, dropout=0.5), torch.randn(2, 2, 4, 4, 4)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width and stages must be at least 1, got width=0, stages=4"),
        ({"stages": 0}, "width and stages must be at least 1, got width=8, stages=0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
    ],
)
def test_options_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualCNN(**options)


def test_sides_that_pooling_would_cut_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sides must be multiples of 8, got \(16, 12, 8\)"):
        ResidualCNN()(torch.zeros(1, 2, 16, 12, 8))


def test_a_network_without_a_multiple_gets_8() -> None:
    assert multiple_of(nn.Flatten()) == 8


def test_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    network, image = ResidualCNN(width=4, stages=3).eval(), torch.randn(2, 2, 8, 12, 16)
    plain = network(image)
    last = network.to(memory_format=torch.channels_last_3d)(image.contiguous(memory_format=torch.channels_last_3d))  # type: ignore[call-overload]
    assert torch.allclose(plain, last, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_gradients_in_bfloat16_are_those_of_float32_however_small_the_volume(side: int) -> None:
    torch.manual_seed(0)
    block, image = ResidualBlock(8, 16, pool=False), torch.randn(4, 8, 4, 3, side)
    found = []
    for enabled in (False, True, True, True):
        freed = [torch.full((size,), float("nan")) for size in (10, 100, 1000, 4000, 10_000, 100_000) for _ in range(6)]
        del freed  # memory that is handed out next is not zero
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = block(image).float()
        (out * torch.linspace(0, 1, out.numel()).view_as(out)).sum().backward()
        found.append(torch.cat([block.wide.weight.grad.flatten(), block.point.weight.grad.flatten()]))  # type: ignore[union-attr]
    exact, *rounded = found
    assert exact.isfinite().all()
    for one in rounded:
        assert torch.equal(one, rounded[0])
        assert (one - exact).norm() < 0.15 * exact.norm()  # a leaky ReLU bends where rounding may take a value
