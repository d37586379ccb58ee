"""Recorded passes train as the network itself does; on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import ResidualCNN

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


def made(cuda_graphs: bool, dropout: float = 0.0, device: str = "cuda") -> StratificationModule:
    torch.manual_seed(0)
    return StratificationModule(ResidualCNN(width=4, dropout=dropout), optimizer="adamw", cuda_graphs=cuda_graphs).to(device)


def train(module: StratificationModule, steps: int, accumulate: int = 1) -> list[float]:
    generator, losses = torch.Generator().manual_seed(1), []
    optimizer = module.configure_optimizers()["optimizer"]
    for step in range(steps):
        size = 4 - step % 2
        image = torch.randn(size, 2, 16, 24, 16, generator=generator).cuda()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(module(image), torch.arange(size, device="cuda") % 2)
        loss.backward()
        if step % accumulate == accumulate - 1:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss))
    return losses


@needs_cuda
@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_is_the_same_both_ways(accumulate: int) -> None:
    plain, recorded = made(False), made(True)
    assert train(recorded, 9, accumulate) == pytest.approx(train(plain, 9, accumulate), abs=0.02)
    assert len(recorded._recorder._recordings) == 2
    assert None not in recorded._recorder._recordings.values()
    assert not plain._recorder._recordings
    for (name, one), (_, other) in zip(plain.state_dict().items(), recorded.state_dict().items(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0.02, msg=lambda text, name=name: f"{name}: {text}")


@needs_cuda
def test_evaluation_is_the_same_also_after_a_move_to_the_host_and_back() -> None:
    plain, recorded = made(False).eval(), made(True).eval()
    image = torch.randn(3, 2, 16, 16, 16, device="cuda")
    with torch.no_grad():
        expected = plain(image)
        torch.testing.assert_close(recorded(image), expected)
        taken = torch.empty(1 << 20, device="cuda")
        recorded.cpu().to("cuda")
        torch.testing.assert_close(recorded(image), expected)
        torch.testing.assert_close(recorded(image.flip(0)), expected.flip(0))
    assert taken.is_cuda


@needs_cuda
def test_each_replay_drops_other_features() -> None:
    recorded = made(True, dropout=0.5)
    image = torch.randn(4, 2, 16, 16, 16, device="cuda")
    assert not torch.equal(recorded(image), recorded(image))


@needs_cuda
def test_recording_leaves_statistics_and_randomness_alone() -> None:
    recorded, image = made(True, dropout=0.5), torch.randn(4, 2, 16, 16, 16, device="cuda")
    before = torch.cuda.get_rng_state()
    recorded(image)
    norm = recorded.network.stages[0].norm  # type: ignore[union-attr, index]
    assert int(norm.num_batches_tracked) == 1
    first = torch.cuda.get_rng_state()
    torch.cuda.set_rng_state(before)
    recorded(image)
    assert torch.equal(torch.cuda.get_rng_state(), first)


@needs_cuda
def test_what_cannot_be_recorded_is_computed_all_the_same_and_said() -> None:
    class Looking(torch.nn.Module):
        recordable = True

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            mean = image.mean((2, 3, 4))
            return self.layer(mean * float(mean.abs().max()))

    module = StratificationModule(Looking(), cuda_graphs=True).cuda()
    image = torch.randn(2, 2, 4, 4, 4, device="cuda")
    with pytest.warns(UserWarning, match=r"^batches of 2x2x4x4x4 are trained without a CUDA graph"):
        logits = module(image)
    torch.testing.assert_close(logits, module.network(image))  # type: ignore[operator]
    logits.sum().backward()
    assert module.network.layer.weight.grad is not None  # type: ignore[union-attr]


def test_a_cpu_records_nothing() -> None:
    module = made(True, device="cpu")
    module(torch.randn(2, 2, 16, 16, 16))
    assert not module._recorder._recordings
