"""The Lightning module: its loss, its threshold, its epoch's numbers, and any network in it."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins.environments import LightningEnvironment
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.mri import BrainMRIDataModule
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.runtime.precision import best_precision
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.study.study import Study, StudyOptions, open_study
from experiments.study.trainer_options import SettingsError
from experiments.training.assemble import assemble
from experiments.training.run import fold
from lightning_modules.classifier import Batch, StratificationModule, positive_probability
from lightning_modules.decision import DECISIONS, choose_threshold
from lightning_modules.errors import TrainingError
from lightning_modules.metrics import evaluate
from lightning_modules.networks import ResidualCNN, multiple_of
from regions.catalog import REGIONS, get_region

SIZES = (5, 3, 4, 1)


class Linear(nn.Module):
    """Two logits from the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image.mean(dim=(2, 3, 4)))


def batches(seed: int, one_class: bool = False) -> list[Batch]:
    """Batches of unequal sizes; the second holds one class only."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, size in enumerate(SIZES):
        label = torch.zeros(size, dtype=torch.int64) if one_class or number == 1 else torch.arange(size) % 2
        image = torch.randn(size, 2, 2, 2, 2, generator=generator) + label[:, None, None, None, None]
        made.append({"image": image, "label": label, "index": torch.arange(size) + 10 * number})
    return made


def joined(parts: list[Batch], name: str) -> Tensor:
    return torch.cat([part[name] for part in parts])


def expected_loss(parts: list[Batch], weights: Tensor | None = None) -> float:
    """Cross-entropy of an untrained ``Linear`` over all scans at once."""
    with torch.no_grad():
        return F.cross_entropy(Linear()(joined(parts, "image")), joined(parts, "label"), weight=weights).item()


def trainer_of(**options: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    return pl.Trainer(plugins=LightningEnvironment(), accelerator="cpu", num_sanity_val_steps=0, **quiet | options)


def fit(module: StratificationModule, tune: list[Batch], epochs: int = 1, **options: Any) -> pl.Trainer:
    trainer = trainer_of(max_epochs=epochs, **options)
    train = DataLoader(batches(0), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, train, DataLoader(tune, batch_size=None))  # type: ignore[arg-type]
    return trainer


def still(**options: Any) -> StratificationModule:
    """A module whose weights move by nothing that float32 can see."""
    return StratificationModule(Linear(), learning_rate=1e-30, **options)


def test_class_weights_weigh_the_loss() -> None:
    tune = batches(7)
    weighted, plain = expected_loss(tune, torch.tensor([1.0, 4.0])), expected_loss(tune)
    assert abs(weighted - plain) > 1e-3
    found = fit(still(class_weights=(1.0, 4.0)), tune).callback_metrics["tuning/loss"]
    assert float(found) == pytest.approx(weighted, abs=1e-6)
    assert float(fit(still(), tune).callback_metrics["tuning/loss"]) == pytest.approx(plain, abs=1e-6)


def test_the_training_loss_is_the_mean_over_the_epochs_scans() -> None:
    trainer = fit(still(), batches(7), epochs=2)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(expected_loss(batches(0)), abs=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_can_be_clipped_in_every_precision_a_cpu_has(precision: str) -> None:
    module = StratificationModule(Linear(), optimizer="adamw", learning_rate=0.1)
    before = module.network.layer.weight.detach().clone()  # type: ignore[union-attr, operator]
    fit(module, batches(7), precision=precision, gradient_clip_val=0.5)
    assert not torch.equal(module.network.layer.weight, before)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [(True, (9, 0), "bf16-mixed"), (False, (7, 5), "16-mixed"), (False, (7, 0), "16-mixed"), (False, (6, 1), "32-true")],
)
def test_a_gpu_computes_in_what_it_is_made_for(
    bf16: bool, capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert best_precision("auto") == expected
    assert best_precision("cpu") == "32-true"


@pytest.mark.parametrize("decision", DECISIONS)
def test_metrics_and_threshold_are_those_of_the_whole_tuning_part(decision: Any) -> None:
    tune = batches(7)
    module = still(decision=decision, prevalence=0.3)
    trainer = fit(module, tune)
    with torch.no_grad():
        probability = positive_probability(Linear()(joined(tune, "image")))
    label = joined(tune, "label")
    threshold = choose_threshold(decision, label.numpy(), probability.numpy(), 0.3)
    assert float(module.threshold) == pytest.approx(threshold, abs=1e-6)  # type: ignore[arg-type]
    for name, value in evaluate(probability, label, threshold).items():
        assert float(trainer.callback_metrics[f"tuning/{name}"]) == pytest.approx(value, abs=1e-6)


def test_undefined_metrics_are_not_logged() -> None:
    module = still()
    trainer = fit(module, batches(7, one_class=True))
    assert "tuning/specificity" in trainer.callback_metrics
    assert not {"tuning/auroc", "tuning/sensitivity", "tuning/balanced_accuracy"} & set(trainer.callback_metrics)
    assert float(module.threshold) == 0.5  # type: ignore[arg-type]


def test_a_tuning_pass_that_was_cut_short_leaves_nothing_behind() -> None:
    tune, module = batches(7), still()
    module.validation_step(batches(3)[0], 0)
    trainer = fit(module, tune)
    assert float(trainer.callback_metrics["tuning/loss"]) == pytest.approx(expected_loss(tune), abs=1e-6)


def test_the_threshold_travels_with_the_weights(tmp_path: Path) -> None:
    module = StratificationModule(Linear(), learning_rate=0.1)
    fit(module, batches(7), epochs=2).save_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    state = torch.load(tmp_path / "some.ckpt", weights_only=True)["state_dict"]
    other = StratificationModule(Linear())
    assert float(other.threshold) == 0.5  # type: ignore[arg-type]
    other.load_state_dict(state)
    assert float(other.threshold) == float(module.threshold) != 0.5  # type: ignore[arg-type]
    assert torch.equal(other.network.layer.weight, module.network.layer.weight)  # type: ignore[union-attr]


def test_predictions_name_scan_label_and_probability() -> None:
    module = still()
    for batch in batches(7):
        out = module.predict_step(batch, 0)
        assert torch.equal(out["index"], batch["index"])
        assert torch.equal(out["label"], batch["label"])
        expected = torch.softmax(Linear()(batch["image"]).double(), dim=1)[:, 1].detach()
        assert out["probability"].dtype == torch.float64
        assert torch.allclose(out["probability"], expected, atol=1e-12)


class Rates(pl.Callback):
    """Takes down the learning rate of each training batch and counts the optimiser's steps."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.steps = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates.append([])

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.rates[-1].append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.steps += 1


def test_the_learning_rate_decays_once_per_epoch() -> None:
    rates = Rates()
    fit(StratificationModule(Linear(), learning_rate=0.1, lr_decay=0.5), batches(7), epochs=3, callbacks=[rates])
    assert rates.rates == [[pytest.approx(0.1 * 0.5**epoch)] * len(SIZES) for epoch in range(3)]


@pytest.mark.parametrize(("groups", "steps"), [(1, 4), (2, 2), (3, 2), (8, 1)])
def test_a_last_partial_group_of_accumulated_batches_is_stepped_too(groups: int, steps: int) -> None:
    rates = Rates()
    fit(StratificationModule(Linear()), batches(7), epochs=2, callbacks=[rates], accumulate_grad_batches=groups)
    assert rates.steps == 2 * steps


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_that_was_asked_for(name: Any, kind: type) -> None:
    module = StratificationModule(Linear(), optimizer=name, learning_rate=0.02, betas=(0.4, 0.9), weight_decay=0.3)
    optimizer = module.configure_optimizers()["optimizer"]
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (0.02, (0.4, 0.9), 0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "model.learning_rate is 0.0; give a number above 0"),
        ({"learning_rate": float("nan")}, "model.learning_rate is nan; give a number above 0"),
        ({"lr_decay": -0.9}, "model.lr_decay is -0.9; give a number above 0, such as 0.99"),
        ({"warmup_epochs": -1}, "model.warmup_epochs is -1; give 0 or more"),
        ({"betas": (0.9, 1.0)}, r"model.betas is \[0.9, 1.0\]; give two numbers from 0 to below 1"),
        ({"weight_decay": float("inf")}, "model.weight_decay is inf; give a number from 0 on"),
        ({"class_weights": (1.0, 0.0)}, r"model.class_weights is \[1.0, 0.0\]; give two numbers above 0"),
    ],
)
def test_options_that_cannot_train_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratificationModule(Linear(), **options)


# ---- together with the data


def words(options: StudyOptions, *more: str) -> list[str]:
    common = ["--cohort", str(options.cohort), "--tracking.mode", "disabled", "--trainer.accelerator", "cpu"]
    return ["--preset", "demo", *common, *more]


@pytest.mark.parametrize("width", [4, 8], ids=["demo", "coll_like"])
@pytest.mark.parametrize("name", list(REGIONS))
def test_a_batch_of_every_input_goes_through_the_network(study: Study, name: str, width: int) -> None:
    network = ResidualCNN(width=width, stages=4)
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    region = get_region(name)
    data = BrainMRIDataModule(study.prepared, patients, labels, study.splits, 0, region, multiple_of(network), 2)
    module = StratificationModule(network)
    batch = data.finish(next(iter(data.train_dataloader())), 0)
    logits = module(batch["image"])
    assert logits.shape == (2, 2)
    assert torch.isfinite(logits).all()
    F.cross_entropy(logits, batch["label"]).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def one_step(options: StudyOptions, study: Study, folder: Path, *more: str) -> StratificationModule:
    """Train one batch from a command line and return the module; its first parameter must have moved."""
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    settings, run = parse_settings(words(options, *limits, *more)), Run("brainstem", 0, 0)
    parts = assemble(settings, replace(study, folder=folder), run, RunFolder(folder), Console(file=StringIO()), True)
    before = next(parts.module.network.parameters()).detach().clone()  # type: ignore[union-attr]
    parts.trainer.fit(parts.module, datamodule=parts.data)
    parts.close(True, "")
    assert not torch.equal(before, next(parts.module.network.parameters()))  # type: ignore[union-attr]
    return parts.module


def test_a_run_decides_by_the_rule_of_its_study(study_options: StudyOptions, study: Study, tmp_path: Path) -> None:
    chosen = ("--label.decision", "prior")
    parts = study.splits.partitions(0, [scan.patient for scan in study.cohort.scans])
    prevalence = sum(study.cohort.scans[row].label for row in parts["train"]) / len(parts["train"])
    module = one_step(study_options, study, tmp_path / "prior", *chosen)
    assert float(module.threshold) == pytest.approx(prevalence, abs=1e-12)  # type: ignore[arg-type]
    plain, prior = (parse_settings(words(study_options, *more)) for more in ((), chosen))
    assert plain.label().decision == plain.result_settings()["label"]["decision"] == "midpoint"
    assert plain.hash() != prior.hash()


def test_the_rule_is_no_option_of_the_network(study_options: StudyOptions) -> None:
    with pytest.raises(SettingsError, match=r"decision"):
        parse_settings(words(study_options, "--model.decision", "prior"))


def test_any_module_trains_by_its_import_path(
    study: Study, study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_lab.py").write_text(
        "import torch\n\n\nclass Mine(torch.nn.Module):\n    def __init__(self, hidden: int = 3):\n        super().__init__()\n"
        "        self.a, self.b = torch.nn.Conv3d(2, hidden, 3), torch.nn.Linear(hidden, 2)\n\n"
        "    def forward(self, image):\n        return self.b(self.a(image).mean((2, 3, 4)))\n"
    )
    (tmp_path / "mine.yaml").write_text("network:\n  class_path: my_lab.Mine\n  init_args: {hidden: 5}\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = one_step(study_options, study, tmp_path / "study", "--config", str(tmp_path / "mine.yaml"))
    assert module.network.a.out_channels == 5  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")  # whatever MONAI's own imports warn about
def test_a_network_of_monai_trains(study: Study, study_options: StudyOptions, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    arguments = "{spatial_dims: 3, in_channels: 2, out_channels: 2, init_features: 8, growth_rate: 4, block_config: [2, 2]}"
    (tmp_path / "monai.yaml").write_text(f"network:\n  class_path: monai.networks.nets.DenseNet\n  init_args: {arguments}\n")
    module = one_step(study_options, study, tmp_path / "study", "--config", str(tmp_path / "monai.yaml"))
    assert type(module.network).__name__ == "DenseNet"


DENSENET = "monai.networks.nets.DenseNet121"
CHANNELS = ("--network.spatial_dims", "3", "--network.in_channels", "2", "--network.out_channels", "2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # whatever MONAI's own imports warn about
@pytest.mark.parametrize(
    "batch_size",
    [pytest.param(2, id="a last batch of one scan"), pytest.param(4, id="batches of several scans", marks=pytest.mark.long)],
)
def test_a_densenet_trains_on_every_input_at_3_mm(tmp_path: Path, batch_size: int) -> None:
    pytest.importorskip("monai")
    cohort = write_phantom_cohort(tmp_path / "cohort", PhantomOptions(patients=14, scans=14, spacing_mm=3.0, seed=3))
    options = StudyOptions(cohort=cohort, folder=tmp_path / "study", store=tmp_path / "store", folds=3)
    study, limits = open_study(options), ["--trainer.max_epochs", "1", "--data.batch_size", str(batch_size)]
    for name in REGIONS if batch_size == 4 else ["brainstem"]:
        settings = parse_settings([*words(options, *limits), "--network", DENSENET, *CHANNELS])
        assert fold(settings, study, Run(name, 0, 0), Console(file=StringIO()), quiet=True) == 0, name


@pytest.mark.filterwarnings("ignore")  # whatever MONAI's own imports warn about
def test_a_network_for_other_channels_ends_in_one_line_before_training(study_options: StudyOptions) -> None:
    pytest.importorskip("monai")
    small = ["--network.init_features", "8", "--network.growth_rate", "4", "--network.block_config", "[2, 2]"]
    given = ["--network", "monai.networks.nets.DenseNet", *CHANNELS, "--network.in_channels", "1", *small]
    told = r"network.in_channels is 1, and the study reads 2 images \(T1w and FLAIR\); give --network.in_channels 2$"
    with pytest.raises(SettingsError, match=told):
        parse_settings(words(study_options, *given))
    assert parse_settings(words(study_options, *given, "--images", "t1w")).images == ("t1w",)


@pytest.mark.parametrize("name", ["demo", "default", "coll_like"])
def test_every_preset_makes_its_network(name: str) -> None:
    settings = parse_settings(["--preset", name])
    assert multiple_of(settings.parser.instantiate(settings.values).network) == 8


def test_a_diverging_run_ends_with_a_plain_error(study: Study, study_options: StudyOptions, tmp_path: Path) -> None:
    settings = parse_settings(words(study_options, "--model.learning_rate", "1e30", "--trainer.max_epochs", "4"))
    run = Run("brainstem", 0, 0)
    with pytest.raises(TrainingError, match=r"no epoch gave a finite tuning/loss; lower model\.learning_rate \(1e\+30\)"):
        fold(settings, replace(study, folder=tmp_path), run, Console(file=StringIO()), quiet=True)
    facts = RunFolder(run.folder(tmp_path)).facts()
    assert facts["state"] == "failed"
    assert facts["error"].startswith("no epoch gave")


def test_a_run_that_diverges_late_keeps_its_best_epoch(
    study: Study, study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_settings(words(study_options, "--trainer.max_epochs", "5"))
    honest = StratificationModule._loss

    def diverge(self: StratificationModule, logits: Tensor, label: Tensor) -> Tensor:
        return honest(self, logits, label) * (math.nan if self.trainer.current_epoch == 2 else 1.0)

    monkeypatch.setattr(StratificationModule, "_loss", diverge)
    run = Run("brainstem", 0, 0)
    assert fold(settings, replace(study, folder=tmp_path), run, Console(file=StringIO()), quiet=True) == 0
    facts = RunFolder(run.folder(tmp_path)).facts()
    assert facts["epochs"] == 3
    assert facts["best_epoch"] in (0, 1)
