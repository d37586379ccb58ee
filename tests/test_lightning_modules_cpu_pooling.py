"""The CPU's way through a block: the values and gradients of plain convolution, BatchNorm3d and max-pooling, and no others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.classifier import StratificationModule
from lightning_modules.cpu import pooling
from lightning_modules.cpu.normalisation import SharedBatchNorm3d
from lightning_modules.cpu.pooling import NormPool, can_fold, conv_norm_pool, folded, folded_kernel
from lightning_modules.networks import ResidualCNN

SIDES = (8, 4, 6)
GAINS = (1.0, -1.5, 0.3, -0.2, 2.0, -0.7, 0.9, 1.1)


def norm_of(channels: int, kind: type[nn.BatchNorm3d] = SharedBatchNorm3d) -> nn.BatchNorm3d:
    """A normalisation with gains of both signs and statistics that are not those of a fresh one."""
    norm = kind(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(GAINS[:channels]))
        norm.bias.copy_(torch.linspace(-1, 1, channels))
        norm.running_mean.copy_(torch.linspace(0.5, -0.5, channels))  # type: ignore[union-attr]
        norm.running_var.copy_(torch.linspace(0.5, 2, channels))  # type: ignore[union-attr]
    return norm


def made(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """An image (3, inputs, 8, 4, 6) and a kernel."""
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(3, inputs, *SIDES, generator=generator) + 0.7
    return image, torch.randn(outputs, inputs, 3, 3, 3, generator=generator)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 4), (1, 3), (2, 8), (4, 6), (5, 7)])
@pytest.mark.parametrize("moves", [True, False], ids=["image with gradient", "image without"])
def test_values_gradients_and_statistics_are_those_of_batchnorm3d(inputs: int, outputs: int, moves: bool) -> None:
    image, kernel = made(inputs, outputs)
    found, gradients, buffers = [], [], []
    for kind in (nn.BatchNorm3d, SharedBatchNorm3d):
        norm, given, weight = norm_of(outputs, kind), image.clone().requires_grad_(moves), kernel.clone().requires_grad_()
        if isinstance(norm, SharedBatchNorm3d):
            value = conv_norm_pool(given, weight, norm)
        else:
            value = F.max_pool3d(norm(F.conv3d(given, weight, padding=1)), 2)
        wanted = [weight, norm.weight, norm.bias, *([given] if moves else [])]
        gradients.append(torch.autograd.grad((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum(), wanted))
        found.append(value)
        buffers.append(dict(norm.named_buffers()))
    assert torch.allclose(*found, atol=2e-5)
    for expected, got in zip(*gradients, strict=True):
        assert (expected - got).abs().max() < 2e-5 * expected.abs().max() + 1e-5
    for name, value in buffers[0].items():
        assert torch.allclose(value, buffers[1][name], atol=1e-5), name


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 4), (4, 6)])
def test_evaluation_takes_the_running_statistics(inputs: int, outputs: int) -> None:
    image, kernel = made(inputs, outputs)
    norm = norm_of(outputs).eval()
    with torch.no_grad():
        expected = F.max_pool3d(norm(F.conv3d(image, kernel, padding=1)), 2)
        assert torch.allclose(conv_norm_pool(image, kernel, norm), expected, atol=2e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [16, 1 << 18], ids=["many blocks", "one block"])
def test_gradcheck(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 4, 2, 4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    gain = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).requires_grad_()
    shift = torch.tensor([-1.0, 0.0, 3.0], dtype=torch.float64).requires_grad_()
    inners = (2 * 4 * 3, 4 * 3, 3)
    assert torch.autograd.gradcheck(lambda *all_: NormPool.apply(*all_, 1e-5, inners)[0], (volume, gain, shift))


def test_of_eight_equal_voxels_the_first_gets_the_gradient_as_in_max_pool3d() -> None:
    volume, gain, shift = torch.zeros(2, 2, 2, 2, 1), torch.ones(1), torch.zeros(1)
    volume[1] = torch.randn(2, 2, 2, 1, generator=torch.Generator().manual_seed(0))
    gradients = []
    for way in ("own", "torch"):
        given = volume.clone().requires_grad_()
        if way == "own":
            out = NormPool.apply(given, gain, shift, 1.0, (4, 2, 1))[0]
        else:
            image = given.permute(0, 4, 1, 2, 3)
            out = F.max_pool3d(F.batch_norm(image, None, None, gain, shift, training=True, eps=1.0), 2)
        gradients.append(torch.autograd.grad(out.sum(), given)[0])
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_folded_convolution_is_the_convolution() -> None:
    image, kernel = made(2, 3)
    small = F.conv3d(folded(image), folded_kernel(kernel), padding=(1, 0, 0))
    b, _, i, j, k = small.shape
    whole = small.view(b, 2, 2, 3, i, j, k).permute(0, 3, 4, 5, 1, 6, 2).reshape(b, 3, i, 2 * j, 2 * k)
    assert torch.allclose(whole, F.conv3d(image, kernel, padding=1), atol=1e-5)
    assert torch.equal(folded(image), folded(image.clone().requires_grad_()))


def test_only_narrow_convolutions_are_folded() -> None:
    assert [can_fold(*channels) for channels in ((2, 4), (2, 8), (4, 4), (1, 7))] == [True, False, False, True]


def test_large_means_cost_little_accuracy() -> None:
    volume = torch.randn(2, 4, 4, 4, 2, generator=torch.Generator().manual_seed(1)) + 50.0
    out, mean, variance, number = NormPool.apply(volume, torch.ones(2), torch.zeros(2), 1e-5, (32, 8, 2))
    assert number == 128
    assert mean == pytest.approx(volume.double().mean((0, 1, 2, 3)), rel=1e-6)
    assert variance == pytest.approx(volume.double().var((0, 1, 2, 3), correction=0), rel=2e-3)
    assert out.isfinite().all()


def losses(monkeypatch: pytest.MonkeyPatch, plain: bool, **options: object) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of six steps of a small network, and its state after them."""
    with monkeypatch.context() as patch:
        if plain:
            patch.setattr(pooling, "is_supported", lambda *_: False)
        torch.manual_seed(3)
        module = StratificationModule(ResidualCNN(width=4, stages=3, **options), learning_rate=0.003)  # type: ignore[arg-type]
        optimizer = torch.optim.Adam(module.parameters(), 0.003)
        generator, found = torch.Generator().manual_seed(1), []
        for _ in range(6):
            image, label = torch.randn(4, 2, 8, 12, 16, generator=generator), torch.tensor([0, 1, 0, 1])
            loss = F.cross_entropy(module(image + label[:, None, None, None, None]), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
    return found, module.state_dict()


def test_six_steps_both_ways_end_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain, first), (quick, second) = losses(monkeypatch, True), losses(monkeypatch, False)
    assert quick == pytest.approx(plain, abs=2e-4)
    for name, value in first.items():
        assert torch.allclose(value.double(), second[name].double(), atol=2e-3), name


@pytest.mark.parametrize("plain", [True, False])
def test_checkpointing_changes_no_bit_of_a_training(monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    without, first = losses(monkeypatch, plain, dropout=0.3)
    kept, second = losses(monkeypatch, plain, dropout=0.3, checkpointing=True)
    assert kept == without
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch
def test_a_compiled_network_gives_the_same_losses() -> None:
    found = []
    for compiled in (False, True):
        torch.manual_seed(3)
        module = StratificationModule(ResidualCNN(width=4, stages=2), compile=compiled)
        image, label = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1])
        loss = F.cross_entropy(module(image), label)
        loss.backward()
        found.append([float(loss.detach()), *(float(p.grad.norm()) for p in module.parameters() if p.grad is not None)])
        assert not any("_orig_mod" in name for name in module.state_dict())
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-5)
