"""The contenders of the benchmark make the same batches of the same scans, and their times are told apart correctly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from benchmarks import contenders, scans
from benchmarks.fitting import fit, module
from benchmarks.recipe import default_recipe
from benchmarks.scans import Bench, own_splits
from datamodules.batches.augmentation import Augmentation
from experiments.study.settings import parse_settings
from experiments.study.study import Study

TRAINING = 3


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    """MONAI's switch, which its contenders turn off for the whole process, is on again afterwards."""
    yield
    if "monai" in sys.modules:
        sys.modules["monai.data"].set_track_meta(True)


@pytest.fixture
def bench(study: Study) -> Bench:
    rows = list({scan.patient: row for row, scan in enumerate(study.cohort.scans)}.values())[: TRAINING + 2]
    chosen = tuple(study.cohort.scans[row] for row in rows)
    prepared = study.prepared.of_rows(rows)
    return Bench(chosen, prepared, own_splits(chosen, TRAINING))


def images(data: Any) -> list[torch.Tensor]:
    """The training images as the network gets them, in an order that depends on nothing but what they hold."""
    finish = data.finish if hasattr(data, "finish") else data.on_after_batch_transfer
    batches = [finish(batch, 0) for batch in data.train_dataloader()]
    return sorted((image for batch in batches for image in batch["image"]), key=lambda image: float(image.abs().double().sum()))


@pytest.mark.parametrize(
    ("peer", "name"),
    [("torchio", "ventricles"), ("monai-cache", "global"), ("monai-affine", "ventricles"), ("monai-persistent", "ventricles")],
)
def test_without_chance_a_peer_makes_the_same_images(
    bench: Bench, name: str, peer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pytest.importorskip("monai")
    monkeypatch.setattr(contenders, "AUGMENTATION", Augmentation(flip=0, shift_mm=0, noise=0))
    monkeypatch.setattr(contenders, "MULTIPLE", 1)  # so that no peer cuts into the brain at 6 mm
    monkeypatch.setattr(contenders, "SCRATCH", tmp_path)
    ours = images(contenders.CONTENDERS["regionwise"](bench, name, TRAINING, 0))
    theirs = images(contenders.CONTENDERS[peer](bench, name, TRAINING, 0))
    assert len(ours) == len(theirs) == TRAINING
    for own, other in zip(ours, theirs, strict=True):
        if peer != "torchio":
            assert own.shape == other.shape
            torch.testing.assert_close(own, other.float(), atol=0.01, rtol=0.002)
        values = [image[:, image.abs().sum(0) > 1e-6].flatten().sort().values for image in (own, other)]
        torch.testing.assert_close(values[0], values[1].float(), atol=0.01, rtol=0.002)


def test_the_peers_train_the_same_network() -> None:
    ours, plain = module(3), module(3, plain=True)
    plain.network.load_state_dict(ours.network.state_dict())
    image = torch.randn(2, 2, 16, 8, 24, generator=torch.Generator().manual_seed(0))
    found = []
    for one in (ours, plain):
        torch.manual_seed(0)
        logits = one(image)
        logits[:, 1].sum().backward()
        found.append([logits, *(value.grad for value in one.parameters())])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.eval()(image), plain.eval()(image), atol=1e-4, rtol=1e-3)


def test_scans_come_again_where_the_cohort_is_shorter(monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    monkeypatch.setattr(scans, "ensure_cohort", lambda *_: study.cohort.scans[:2])
    monkeypatch.setattr(scans, "open_store", lambda *_, **__: study.prepared.of_rows((0, 1)))
    opened = scans.open_bench(5)
    assert len(opened.training) == 5
    assert len(set(opened.patients)) == 7
    assert [scan.images for scan in opened.scans] == [study.cohort.scans[row % 2].images for row in range(7)]
    assert opened.prepared.keys == tuple(study.prepared.keys[row % 2] for row in range(7))


def test_an_epoch_is_the_sum_of_its_parts(bench: Bench) -> None:
    epochs = fit(contenders.CONTENDERS["regionwise"](bench, "brainstem", 2, 0), 2, 3)
    assert len(epochs) == 3
    for epoch in epochs:
        assert epoch.step > 0
        assert 0 < epoch.waiting + epoch.preparing + epoch.step <= epoch.wall


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_waiting_is_what_the_loader_takes() -> None:
    class Slow(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(SlowSet(), batch_size=1, num_workers=0)

    (epoch,) = fit(Slow(), 1, 1)
    assert 3 * PAUSE <= epoch.waiting <= epoch.wall


PAUSE = 0.02


class SlowSet(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> Any:
        import time

        time.sleep(PAUSE)
        return {"image": torch.zeros(2, 8, 8, 16), "label": row % 2}


def test_too_few_scans_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="no tuning and test part"):
        own_splits(bench.scans, len(bench.scans) - 1)


def test_the_recipe_is_that_of_the_preset() -> None:
    recipe, settings = default_recipe(), parse_settings(["--preset", "default"])
    network, model = settings.plain()["network"]["init_args"], settings.model_options()
    assert network | recipe["network"] == network
    assert {name: model[name] for name in recipe["model"]} == recipe["model"] | {
        "objective": "ordinal",
        "betas": model["betas"],
    }
    assert list(model["betas"]) == recipe["model"]["betas"]
    assert Augmentation(**recipe["augmentation"]) == settings.augmentation()
