"""The paper-like network: its shortcuts change no value and no gradient, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules import networks
from lightning_modules.errors import ModelError
from lightning_modules.networks import ResidualBlock, ResidualCNN, multiple_of, smallest_side


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
    for expected, actual in zip(*grads, strict=True):
        assert torch.allclose(expected, actual, atol=1e-5 * float(expected.abs().max()) + 1e-5)


def test_both_kernels_of_a_block_are_trained() -> None:
    block = make_block(pool=True)
    block(torch.randn(2, 2, 4, 4, 4)).square().sum().backward()
    assert block.wide.weight.grad is not None
    assert block.point.weight.grad is not None
    assert torch.allclose(block.wide.weight.grad[:, :, 1:2, 1:2, 1:2], block.point.weight.grad)


def test_width_and_stages_give_the_layers_they_name() -> None:
    network = ResidualCNN(in_channels=3, classes=4, width=5, stages=3, hidden=(10, 5))
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
        ({"width": 0}, r"width, stages and hidden must be at least 1, got 0, 4 and \[\]"),
        ({"stages": 0}, r"width, stages and hidden must be at least 1, got 8, 0 and \[\]"),
        ({"hidden": (16, 0)}, r"width, stages and hidden must be at least 1, got 8, 4 and \[16, 0\]"),
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
    gradients = []
    for enabled in (False, True, True, True):
        freed = [torch.full((size,), float("nan")) for size in (10, 100, 1000, 4000, 10_000, 100_000) for _ in range(6)]
        del freed  # memory that is handed out next is not zero
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = block(image).float()
        (out * torch.linspace(0, 1, out.numel()).view_as(out)).sum().backward()
        gradients.append(torch.cat([block.wide.weight.grad.flatten(), block.point.weight.grad.flatten()]))  # type: ignore[union-attr]
    exact, *rounded = gradients
    assert exact.isfinite().all()
    for gradient in rounded:
        assert torch.equal(gradient, rounded[0])
        assert (gradient - exact).norm() < 0.15 * exact.norm()  # a leaky ReLU bends where rounding may take a value


PINNED_SHAPES = {
    "stages.0": [(4, 2, 3, 3, 3), (4, 2, 1, 1, 1), (4,), (4,), (4,), (4,), ()],
    "stages.1": [(8, 4, 3, 3, 3), (8, 4, 1, 1, 1), (8,), (8,), (8,), (8,), ()],
    "stages.2": [(16, 8, 3, 3, 3), (16, 8, 1, 1, 1), (16,), (16,), (16,), (16,), ()],
}
BLOCK_KEYS = ["wide.weight", "point.weight", *(f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var"))]
PINNED_GRADIENTS = [
    0.7366789, 0.2264387, 0.0353465, 0.0074937, 0.8355699, 0.1461341, 0.0428540, 0.0132960, 0.7256523,
    0.1476929, 0.0514640, 0.0255830, 0.3021097, 0.0379548, 0.0766622, 0.0786608, 0.1240556, 0.1948207,
]  # fmt: skip
"""Norms of the gradients of the first step below, as version 0.1.0 computed them."""


def test_keys_shapes_and_initial_weights_are_those_of_trained_runs() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(width=4, stages=3, hidden=(8, 4))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {
        f"{stage}.{key}": shape
        for stage, sizes in PINNED_SHAPES.items()
        for key, shape in zip([*BLOCK_KEYS, "norm.num_batches_tracked"], sizes, strict=True)
    }
    expected |= {"head.0.weight": (8, 16), "head.0.bias": (8,), "head.2.weight": (4, 8), "head.2.bias": (4,)}
    expected |= {"head.4.weight": (2, 4), "head.4.bias": (2,)}
    assert list(shapes.items()) == list(expected.items())
    weights = b"".join(value.detach().contiguous().numpy().tobytes() for value in network.parameters())
    assert hashlib.sha256(weights).hexdigest()[:16] == "68df08336cbe24e7"


def test_a_training_step_gives_the_numbers_of_trained_runs() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(width=4, stages=3, hidden=(8, 4))
    network.head[1], network.head[3] = nn.ReLU(), nn.ReLU()  # as the head of version 0.1.0 was
    image = torch.randn(4, 2, 8, 12, 16, generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(network(image), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0.6943190693855286, rel=1e-6)
    norms = [parameter.grad.norm().item() for parameter in network.parameters() if parameter.grad is not None]
    assert norms == pytest.approx(PINNED_GRADIENTS, rel=1e-4, abs=1e-6)
    variance = network.stages[1].norm.running_var  # type: ignore[union-attr]
    assert variance[:2].tolist() == pytest.approx([0.9226837, 0.9309615], rel=1e-6)  # type: ignore[index]


def trained(**options: Any) -> ResidualCNN:
    """A network whose running statistics and gains are not those of a fresh one."""
    torch.manual_seed(0)
    network = ResidualCNN(**options)
    for block in network.stages:
        nn.init.uniform_(block.norm.weight, -1, 2)  # type: ignore[union-attr, arg-type]
    network(torch.randn(3, 2, 16, 16, 8))
    return network


@pytest.mark.parametrize("shape", [(1, 8, 8, 8), (2, 16, 24, 8), (3, 40, 16, 32)])
@pytest.mark.parametrize("options", [{}, {"width": 4}, {"checkpointing": True}], ids=["default", "narrow", "checkpointing"])
def test_the_plain_form_gives_equal_outputs(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    network = trained(**options).eval()
    image = torch.randn(shape[0], 2, *shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(network.as_plain()(image), network(image), atol=1e-5, rtol=1e-4)


def test_the_plain_form_has_ordinary_layers_and_the_weights_of_the_network() -> None:
    network = trained(width=4)
    state = torch.random.get_rng_state()
    plain = network.as_plain()
    assert torch.equal(torch.random.get_rng_state(), state)
    kinds = {type(layer) for layer in plain.modules() if not list(layer.children())}
    assert kinds == {nn.Conv3d, nn.BatchNorm3d, nn.LeakyReLU, nn.MaxPool3d, nn.Identity, nn.Dropout, nn.Linear}
    assert list(plain.state_dict()) == list(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name
    plain.stages[0].wide.weight.data.zero_()  # type: ignore[union-attr, operator]
    assert network.stages[0].wide.weight.any()  # type: ignore[union-attr, operator]
    assert network.training
    assert plain.training
    assert not network.eval().as_plain().stages[0].norm.training  # type: ignore[union-attr]


def test_hooks_on_every_layer_of_the_plain_form_fire() -> None:
    plain = trained(width=4).as_plain()
    shapes: dict[str, tuple[Any, Any]] = {}
    gradients: dict[str, tuple[Any, Any]] = {}

    def watch(name: str, layer: nn.Module) -> None:
        layer.register_forward_hook(lambda _, given, out: shapes.update({name: (given[0].shape, out.shape)}))
        layer.register_full_backward_hook(lambda _, given, out: gradients.update({name: (given[0], out[0].shape)}))

    layers = {name: layer for name, layer in plain.named_modules() if isinstance(layer, nn.Conv3d | nn.BatchNorm3d)}
    for name, layer in layers.items():
        watch(name, layer)
    image = torch.randn(2, 2, 16, 24, 8, requires_grad=True)
    plain(image).square().sum().backward()
    assert set(shapes) == set(gradients) == set(layers)
    for stage, channels in enumerate((4, 8, 16, 32)):
        sides = tuple(side // 2**stage for side in (16, 24, 8))
        for kind in ("wide", "point"):
            entering, leaving = shapes[f"stages.{stage}.{kind}"]
            assert leaving == (2, channels, *sides)
            assert entering == (2, 2 if stage == 0 else channels // 2, *sides)
            gradient, of_output = gradients[f"stages.{stage}.{kind}"]
            assert gradient.shape == entering
            assert of_output == leaving
            assert gradient.any()


class Strided(nn.Module):
    """A foreign network that halves the volume, then normalises: it needs sides of twice its stride for one scan."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(2, 2, stride, stride)
        self.norm = nn.BatchNorm3d(2)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.convolution(image)).mean(dim=(2, 3, 4))


class Looking(nn.Module):
    """A network that reads a value on the host, which no tensor on the meta device has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2] < 24 or math.isnan(float(image.mean())):
            raise RuntimeError("too small")
        return self.layer(image.mean(dim=(2, 3, 4)))


def test_the_smallest_side_of_the_residual_network_is_its_stride() -> None:
    assert smallest_side(ResidualCNN()) == smallest_side(ResidualCNN(), batch_size=1) == 8
    assert smallest_side(ResidualCNN(stages=2)) == 2


@pytest.mark.parametrize(("stride", "batch_size", "side"), [(16, 8, 16), (24, 3, 24), (16, 2, 32), (24, 1, 48)])
def test_the_smallest_side_is_the_least_with_which_a_network_trains(stride: int, batch_size: int, side: int) -> None:
    network = Strided(stride)
    state, before = torch.random.get_rng_state(), {name: value.clone() for name, value in network.state_dict().items()}
    assert smallest_side(network, batch_size=batch_size) == side
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.convolution.weight.grad is None


def test_a_network_that_looks_at_values_is_computed() -> None:
    assert smallest_side(Looking()) == 24


def test_a_side_is_tried_once_for_equal_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smallest_side(Strided(32)) == 32
    monkeypatch.setattr(networks, "_find_side", lambda *_: pytest.fail("tried again"))
    assert smallest_side(Strided(32)) == 32


def test_a_network_that_takes_no_side_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"^Conv3d trains with no cube of 2 channels whose side is a multiple of 8") as caught:
        smallest_side(nn.Conv3d(1, 2, 3))
    assert "to have 1 channels, but got 2 channels" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"its output is \(2, 3\), not \(2, 2\)"):
        smallest_side(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3)))
