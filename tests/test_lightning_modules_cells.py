"""Folding a pooling cell's voxels into channels changes nothing but the speed."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules import cells
from lightning_modules.networks import ResidualBlock
from lightning_modules.normalisation import SharedBatchNorm3d


def usual(image: Tensor, kernel: Tensor, norm: torch.nn.Module) -> Tensor:
    return F.max_pool3d(norm(F.conv3d(image, kernel, padding=1)), 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 2, 4, 6, 8), (1, 3, 2, 2, 2), (3, 1, 8, 2, 4)])
def test_values_gradients_and_statistics_are_the_usual_ones(shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(5, shape[1], 3, 3, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for way in (usual, cells.conv_norm_pool):
        norm = SharedBatchNorm3d(5).double().train(training)
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, -2, 0.5, 3, -1]))
        out = way(image, kernel, norm)
        weights = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view(out.shape)
        gradients = torch.autograd.grad((out * weights).sum(), [image, kernel, norm.weight, norm.bias])
        found.append([out, *gradients, norm.running_mean, norm.running_var, norm.num_batches_tracked])
    for expected, own in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_a_block_that_folds_trains_as_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block, image = ResidualBlock(2, 8, pool=True).double(), torch.randn(2, 2, 8, 4, 12, dtype=torch.float64)
    found = []
    for folds in (False, True):
        monkeypatch.setattr(cells, "applies", lambda _, folds=folds: folds)
        out = block(image)
        found.append([out, *torch.autograd.grad(out.square().sum(), list(block.parameters()))])
    for expected, own in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_it_is_meant_for_gpus() -> None:
    assert not cells.applies(torch.zeros(1, 2, 4, 4, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_block_on_a_gpu_is_near_the_one_on_a_cpu(precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    block, image = ResidualBlock(2, 8, pool=True), torch.randn(2, 2, 16, 8, 24)
    expected = block(image)
    with torch.autocast("cuda", precision, enabled=precision is not None):
        found = block.cuda()(image.cuda()).cpu().float()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05 if precision else 5e-3)
