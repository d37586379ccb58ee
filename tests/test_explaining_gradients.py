"""Gradients and SmoothGrad are those of captum, an independent program, on the plain form of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from small_networks import EDSS, SHAPE, close, made, plain_log_odds, scans, trained
from torch import Tensor, nn

from experiments.explaining import gradients
from experiments.explaining.gradients import gradient, log_odds, noise_scale, noisy_copies, smooth_gradient
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import ResidualCNN
from lightning_modules.numbers import NumberModule
from regions.errors import UserError


@pytest.mark.parametrize(
    "options",
    [{}, {"channels_last": False}, {"objective": "ordinal", "scale": EDSS}, {"objective": "regression", "scale": EDSS}],
)
def test_the_gradient_is_captums_saliency_whatever_the_objective(options: dict[str, Any]) -> None:
    module = made(**options)
    expected = Saliency(plain_log_odds(module)).attribute(scans().requires_grad_(), abs=False)
    assert close(gradient(module, scans()), expected)


def test_smoothgrad_is_captums_noise_tunnel_under_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    module, scan, draws = made(), scans()[:1], 11
    copies = noisy_copies(scan[0], draws, 0.15, torch.Generator().manual_seed(5))
    monkeypatch.setattr(torch, "normal", lambda mean, std: (copies - scan).reshape(std.shape))
    tunnel = NoiseTunnel(Saliency(plain_log_odds(module)))
    expected = tunnel.attribute(scan.clone().requires_grad_(), nt_type="smoothgrad", nt_samples=draws, stdevs=1.0, abs=False)
    assert close(smooth_gradient(module, scan, draws, 0.15, torch.Generator().manual_seed(5)), expected)


@pytest.mark.parametrize("steps", [0, 4])
def test_the_gradient_of_a_number_is_that_of_finite_differences(steps: int) -> None:
    torch.manual_seed(0)
    module = NumberModule(trained(ResidualCNN(width=4, stages=2)), steps).eval()
    module.start_from([0.0, 1.0, 2.0, 3.0, 4.0, 2.0])
    module, image = module.double(), scans()[:1].double()
    slope = gradient(module, image)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction *= image != 0  # where all is zero, max-pooling has a kink
    with torch.no_grad():
        numbers = [float(module.number(module.network(image + step * direction))) for step in (1e-6, -1e-6)]
    assert float((slope * direction).sum()) == pytest.approx((numbers[0] - numbers[1]) / 2e-6, rel=1e-5)


def test_noise_is_a_share_of_the_range_and_stays_inside_the_input() -> None:
    image = scans()
    scale = noise_scale(image, 0.2)
    inside = image[0, 1][(image[0] != 0).any(dim=0)]
    assert float(scale[0, 1]) == pytest.approx(0.2 * float(inside.max() - inside.min()))
    copies = noisy_copies(image[0], 400, 0.2, torch.Generator().manual_seed(0))
    assert not copies[:, :, :2].any()
    assert not copies[:, :, :, :, 10:].any()
    spread = (copies - image[0]).std(dim=0)[1, 4, 5, 6]
    assert float(spread) == pytest.approx(float(scale[0, 1]), rel=0.15)


def test_an_input_without_voxels_has_no_noise_and_a_finite_map() -> None:
    empty = torch.zeros(1, 2, 8, 8, 8)
    assert not noisy_copies(empty[0], 2, 0.15, torch.Generator()).any()
    assert torch.isfinite(smooth_gradient(made(), empty, 2)).all()


def test_the_same_seed_gives_the_same_map_and_without_noise_it_is_the_gradient() -> None:
    module, image = made(), scans()
    first, second, other = (smooth_gradient(module, image, 3, 0.15, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    assert close(smooth_gradient(module, image, 9, 0.0), gradient(module, image))


def test_how_many_copies_pass_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module, image = made(), scans()[:1]
    together = smooth_gradient(module, image, 7, 0.15, torch.Generator().manual_seed(0))
    monkeypatch.setattr(gradients, "VOXELS_AT_ONCE", 2 * image[0, 0].numel())
    assert close(smooth_gradient(module, image, 7, 0.15, torch.Generator().manual_seed(0)), together)
    monkeypatch.setattr(gradients, "VOXELS_AT_ONCE", 1)
    assert close(smooth_gradient(module, image, 7, 0.15, torch.Generator().manual_seed(0)), together)


def test_a_scan_has_the_same_map_beside_others_as_alone() -> None:
    module, image = made(), scans()
    together = smooth_gradient(module, image, 4, 0.15, torch.Generator().manual_seed(0))
    alone = smooth_gradient(module, image[:1], 4, 0.15, torch.Generator().manual_seed(0))
    assert close(together[:1], alone)


def test_covariates_are_part_of_what_is_explained() -> None:
    torch.manual_seed(0)
    module = StratificationModule(trained(ResidualCNN(width=4, stages=2, hidden=(6,), covariates="age"))).eval()
    values = torch.randn(3, module.network.covariates, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = module(scans(), values)
    assert torch.allclose(log_odds(module, scans(), values), expected[:, 1] - expected[:, 0])
    given = smooth_gradient(module, scans(), 2, 0.1, torch.Generator().manual_seed(0), values)
    without = smooth_gradient(module, scans(), 2, 0.1, torch.Generator().manual_seed(0))
    assert not torch.allclose(given, without)


def test_the_module_is_left_as_it_was() -> None:
    module = made().train()
    frozen = next(module.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    smooth_gradient(module, scans(), 2)
    assert module.training
    assert module.network.training
    assert not frozen.requires_grad
    assert sum(weight.requires_grad for weight in module.parameters()) == len(list(module.parameters())) - 1
    assert all(weight.grad is None for weight in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("draws", "sigma"), [(0, 0.1), (5, -0.1), (5, float("nan"))])
def test_draws_and_noise_that_mean_nothing_are_refused(draws: int, sigma: float) -> None:
    with pytest.raises(UserError, match="1 or more draws and a sigma of 0 or more"):
        smooth_gradient(made(), scans(), draws, sigma)


def test_a_linear_network_has_its_weights_as_map() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(int(np.prod(SHAPE[1:])), 2)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(image.flatten(1))

    module = StratificationModule(Linear())
    weight = module.network.head.weight  # type: ignore[union-attr]
    expected = (weight[1] - weight[0]).detach().view(SHAPE[1:]).expand(SHAPE)  # type: ignore[index]
    assert close(smooth_gradient(module, scans(), 5, 0.3), expected)
