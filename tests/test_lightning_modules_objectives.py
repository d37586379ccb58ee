"""What a training learns from: losses by hand, anchored probabilities, what reaches batches, controls and checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins.environments import LightningEnvironment
from rich.console import Console
from scipy.stats import logistic, spearmanr
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.cohort.target import EDSS_SCALE
from experiments.controls import training
from experiments.controls.cases import case_of
from experiments.controls.plan import ControlRun
from experiments.reporting.method_training import training_loss
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import Study, StudyOptions
from experiments.training.assemble import assemble
from experiments.training.run import fold
from experiments.training.trainer import make_module
from lightning_modules.classifier import StratificationModule, positive_probability
from lightning_modules.errors import ModelError
from lightning_modules.objectives import SMALLEST_GAP, Objective, Ordinal, Regression, ScoreScale, make_objective
from regions.catalog import get_region

EDSS = ScoreScale(3.0, EDSS_SCALE)
CUTS = (2.0, 3.0, 4.5)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "classification": {},
    "ordinal": {"objective": "ordinal", "cuts": CUTS},
    "regression": {"objective": "regression"},
    "noisy classification": {"label_noise": 0.2},
    "noisy ordinal": {"objective": "ordinal", "cuts": CUTS, "label_noise": 0.2},
    "noisy regression": {"objective": "regression", "label_noise": 0.2},
}


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def log_loss(p: float, target: float) -> float:
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def ordinal(gaps: tuple[float, ...] = (1.5, 0.7), noise: float = 0.0) -> Ordinal:
    objective = Ordinal(EDSS, noise, CUTS)
    assert objective.gaps is not None
    with torch.no_grad():
        objective.gaps.copy_(torch.tensor([math.log(math.expm1(gap)) for gap in gaps]))
    return objective


def regression(scale: float, noise: float = 0.0, threshold: float = 3.0) -> Regression:
    objective = Regression(replace(EDSS, threshold=threshold), noise)
    with torch.no_grad():
        objective.log_scale.fill_(math.log(scale))
    return objective


def loss_of(objective: Objective, z: float, score: float) -> float:
    return objective(torch.tensor([z]), torch.tensor([score])).item()


# ---- the losses


@pytest.mark.parametrize("z", [-2.0, 0.0, 0.3])
@pytest.mark.parametrize("score", [0.0, 2.0, 2.5, 3.0, 4.0, 6.5])
def test_the_ordinal_loss_is_the_mean_log_loss_of_the_cuts(z: float, score: float) -> None:
    offsets = (-1.5, 0.0, 0.7)
    by_hand = sum(log_loss(sigmoid(z - b), float(score >= cut)) for b, cut in zip(offsets, CUTS, strict=True)) / 3
    assert loss_of(ordinal(), z, score) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("threshold", [1.0, 3.0, 4.0])
@pytest.mark.parametrize("z", [-3.0, 0.0, 1.2])
def test_regression_is_the_logistic_density_and_its_tail_is_the_labels_probability(z: float, threshold: float) -> None:
    objective, scale = regression(0.8, threshold=threshold), 0.8
    boundary = {1.0: 0.5, 3.0: 2.75, 4.0: 3.75}[threshold]
    for score in EDSS_SCALE:
        by_scipy = -logistic.logpdf(score, loc=boundary + scale * z, scale=scale)
        assert loss_of(objective, z, score) == pytest.approx(by_scipy, abs=1e-4)
    assert logistic.sf(boundary, loc=boundary + scale * z, scale=scale) == pytest.approx(sigmoid(z), abs=1e-12)


@pytest.mark.parametrize(
    ("threshold", "score", "target"),
    [(3.0, 2.5, 0.1), (3.0, 3.0, 0.9), (3.0, 2.0, 0.0), (3.0, 3.5, 1.0), (1.0, 0.0, 0.1), (1.0, 0.5, 0.1), (10.0, 10.0, 0.9)],
)
def test_noise_softens_the_label_of_scores_beside_the_threshold(threshold: float, score: float, target: float) -> None:
    objective = make_objective("classification", replace(EDSS, threshold=threshold), 0.2, ())
    assert objective is not None
    assert loss_of(objective, 0.4, score) == pytest.approx(log_loss(sigmoid(0.4), target), abs=1e-6)


@pytest.mark.parametrize("score", [0.0, 1.0, 2.5, 4.5, 10.0])
def test_noise_is_the_expectation_over_the_neighbouring_steps(score: float) -> None:
    place = EDSS_SCALE.index(score)
    sides = [EDSS_SCALE[max(place - 1, 0)], EDSS_SCALE[min(place + 1, len(EDSS_SCALE) - 1)]]
    for sure, noisy in ((ordinal(), ordinal(noise=0.3)), (regression(0.6), regression(0.6, 0.3))):
        by_hand = 0.7 * loss_of(sure, 0.2, score) + sum(0.15 * loss_of(sure, 0.2, side) for side in sides)
        assert loss_of(noisy, 0.2, score) == pytest.approx(by_hand, abs=1e-5)


def test_cut_probabilities_fall_with_the_cut_and_that_of_the_threshold_is_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    cuts = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
    for spread in (0.1, 1.0, 5.0):
        objective = Ordinal(EDSS, 0.0, cuts)
        assert objective.gaps is not None
        objective.gaps.data = spread * torch.randn(5, generator=generator)
        p = torch.sigmoid(torch.tensor([-1.0, 0.0, 2.0])[:, None].double() - objective.offsets().detach().double())
        assert (p[:, 1:] < p[:, :-1]).all()
        assert torch.equal(p[:, 3], torch.sigmoid(torch.tensor([-1.0, 0.0, 2.0]).double()))


def test_offsets_start_from_the_training_parts_shares() -> None:
    objective = Ordinal(EDSS, 0.0, (2.0, 3.0, 4.0, 4.5))
    objective.start_from([1.0] * 4 + [2.5] * 3 + [3.0] * 2 + [6.0])  # reached by 6, 3, 1 and 1 of 10
    odds = [math.log((n + 0.5) / (10 - n + 0.5)) for n in (6, 3, 1)]
    expected = [odds[1] - odds[0], 0.0, odds[1] - odds[2], odds[1] - odds[2] + SMALLEST_GAP]
    assert objective.offsets().tolist() == pytest.approx(expected, abs=1e-5)


def test_the_error_starts_with_the_training_parts_spread() -> None:
    objective, scores = Regression(EDSS), [0.0, 2.0, 3.0, 6.5]
    objective.start_from(scores)
    assert logistic.std(scale=math.exp(objective.log_scale.item())) == pytest.approx(np.std(scores), abs=1e-5)
    objective.start_from([2.0, 2.0])
    assert math.isfinite(objective.log_scale.item())


@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("direction", ["at_least", "below"])
def test_what_is_learned_is_the_label_whichever_side_of_the_threshold_is_positive(
    options: dict[str, Any], direction: str, tmp_path: Path
) -> None:
    words = ["--cohort", str(tmp_path), "--preset", "demo", "--label.direction", direction]
    words += [
        word for name, value in options.items() for word in (f"--model.{name}", str(value).replace("(", "[").replace(")", "]"))
    ]
    settings = parse_settings(words)
    scores = torch.tensor([1.0, 2.0, 3.5, 6.0])
    label = torch.tensor([settings.label().label_of(score) for score in scores.tolist()])
    data: Any = SimpleNamespace(scores=scores.tolist(), partitions={"train": range(4)}, prevalence=0.5)
    module = make_module(settings, Linear(), data)
    logits = torch.zeros(4, 2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        module._objective_loss(logits, {"label": label, "score": scores}).backward()
        optimizer.step()
    assert (positive_probability(logits) > 0.5).long().tolist() == label.tolist()


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--label.direction", "below"], True),
        (["--label.direction", "below", "--model.objective", "classification"], False),
        (["--label.direction", "below", "--model.objective", "classification", "--model.label_noise", "0.1"], True),
        (["--label.direction", "at_least"], False),
    ],
)
def test_runs_that_learned_the_opposite_of_their_label_are_told_by_their_settings(words: list[str], changed: bool) -> None:
    settings = parse_settings(["--preset", "default", *words])
    assert ("rises_with" in settings.result_settings()["model"]) == changed


@pytest.mark.parametrize("objective", [ordinal(noise=0.2), regression(0.5, 0.2), Ordinal(EDSS, 0.2, (3.0,))])
def test_gradients_are_finite_far_out(objective: Objective) -> None:
    z = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    objective(z, torch.tensor([10.0, 0.0, 3.0, 0.5, 0.0])).sum().backward()
    for value in (z, *objective.parameters()):
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()


# ---- in the module


class Linear(nn.Module):
    """Two logits from the mean of each channel."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(channels, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image.mean(dim=(2, 3, 4)))


def batch_of(features: Tensor, score: Tensor) -> dict[str, Tensor]:
    image = features[:, :, None, None, None].expand(-1, -1, 2, 2, 2).contiguous()
    return {"image": image, "score": score, "label": (score >= 3).long(), "index": torch.arange(len(score))}


def made_batches(seed: int, sizes: tuple[int, ...] = (5, 3, 4)) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.tensor(EDSS_SCALE[:14])
    return [
        batch_of(torch.randn(n, 2, generator=generator), steps[torch.randint(14, (n,), generator=generator)]) for n in sizes
    ]


def fit(
    module: StratificationModule, train: list[dict[str, Tensor]], tune: list[dict[str, Tensor]], epochs: int = 1
) -> pl.Trainer:
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    trainer = pl.Trainer(
        plugins=LightningEnvironment(),
        accelerator="cpu",
        num_sanity_val_steps=0,
        max_epochs=epochs,
        **quiet,  # type: ignore[arg-type]
    )
    loaders = [DataLoader(part, batch_size=None) for part in (train, tune)]  # type: ignore[arg-type]
    trainer.fit(module, *loaders)
    return trainer


@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_the_training_loss_is_the_objectives_and_the_tuning_loss_the_labels(options: dict[str, Any]) -> None:
    module = StratificationModule(Linear(), learning_rate=1e-30, scale=EDSS, **options)
    metrics = fit(module, made_batches(0), made_batches(9)).callback_metrics
    with torch.no_grad():
        train, tune = (
            {name: torch.cat([batch[name] for batch in made_batches(seed)]) for name in ("image", "label", "score")}
            for seed in (0, 9)
        )
        logits = Linear()(train["image"])
        expected = F.cross_entropy(logits, train["label"])
        if module.objective is not None:
            expected = module.objective(logits[:, 1] - logits[:, 0], train["score"]).mean()
        label_loss = F.cross_entropy(Linear()(tune["image"]), tune["label"])
    assert float(metrics["train/loss"]) == pytest.approx(float(expected), abs=1e-6)
    assert float(metrics["tuning/loss"]) == pytest.approx(float(label_loss), abs=1e-6)


def test_class_weights_weigh_the_noisy_label_by_the_recorded_class() -> None:
    module = StratificationModule(Linear(), scale=EDSS, label_noise=0.2, class_weights=(1.0, 4.0))
    logits, score = torch.tensor([[0.1, 0.5], [0.3, -0.2]]), torch.tensor([3.0, 1.0])
    loss = module._objective_loss(logits, {"score": score, "label": torch.tensor([1, 0])})
    by_hand = (4 * log_loss(sigmoid(0.4), 0.9) + log_loss(sigmoid(-0.5), 0.0)) / 5
    assert float(loss) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("name", ["ordinal", "regression"])
def test_the_objectives_weights_learn_without_decay(name: str) -> None:
    options = {"optimizer": "adamw", "weight_decay": 0.3, "learning_rate": 0.1, **OBJECTIVES[name]}
    module = StratificationModule(Linear(), scale=EDSS, **options)
    assert module.objective is not None
    own = list(module.objective.parameters())
    network, objective = module.configure_optimizers()["optimizer"].param_groups
    assert (network["weight_decay"], objective["weight_decay"], objective["lr"]) == (0.3, 0.0, 0.1)
    assert [id(value) for value in objective["params"]] == [id(value) for value in own]
    before = [value.detach().clone() for value in own]
    fit(module, made_batches(0), made_batches(9))
    assert not any(torch.equal(value, old) for value, old in zip(own, before, strict=True))


def test_classification_has_no_weights_of_its_own() -> None:
    module = StratificationModule(Linear(), scale=EDSS)
    assert list(module.state_dict()) == list(StratificationModule(Linear()).state_dict())
    assert list(module.state_dict()) == ["threshold", "network.layer.weight", "network.layer.bias"]
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert [id(value) for value in group["params"]] == [id(value) for value in module.parameters()]


def rank_of_the_latent(options: dict[str, Any], seed: int) -> float:
    """Rank correlation of log odds and latent value on new scans, after training on 40 scans with 12 features."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(12, generator=generator) / math.sqrt(12)
    steps = torch.tensor(EDSS_SCALE)

    def scans(n: int) -> tuple[Tensor, Tensor]:
        features = torch.randn(n, 12, generator=generator)
        return features, features @ weights

    features, latent = scans(40)
    raw = 3.0 + 1.5 * (latent + 0.3 * torch.randn(40, generator=generator))
    score = steps[(raw[:, None] - steps).abs().argmin(1)]
    module = StratificationModule(Linear(12), scale=EDSS, learning_rate=0.02, betas=(0.9, 0.999), lr_decay=1.0, **options)
    train = [batch_of(features, score)]
    fit(module, train * 50, train, epochs=4)
    features, latent = scans(500)
    with torch.no_grad():
        logits = module(batch_of(features, latent)["image"])
    return float(spearmanr((logits[:, 1] - logits[:, 0]).numpy(), latent.numpy()).statistic)


def test_the_whole_score_teaches_the_latent_better_than_the_label() -> None:
    ranks = {
        name: np.mean([rank_of_the_latent(OBJECTIVES[name], seed) for seed in range(2)])
        for name in ("classification", "ordinal", "regression")
    }
    assert ranks["classification"] > 0.4
    assert ranks["ordinal"] > ranks["classification"] + 0.03
    assert ranks["regression"] > ranks["classification"] + 0.03


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.label_noise", "1"], "model.label_noise is 1.0; give a probability from 0 to below 1"),
        (["--model.label_noise", "-0.1"], "model.label_noise is -0.1; give"),
        (["--model.objective", "ordinal", "--model.class_weights", "[1,2]"], "model.class_weights [1.0, 2.0] goes with"),
        (["--model.objective", "regression", "--model.class_weights", "[1,2]"], "not regression; leave one out"),
        (["--model.objective", "ordinal", "--model.cuts", "[]"], "model.cuts is []; give scores in ascending order"),
        (["--model.objective", "ordinal", "--model.cuts", "[3]"], "model.cuts is [3]; give scores in ascending order"),
        (["--model.objective", "ordinal", "--model.cuts", "[4,3]"], "model.cuts is [4, 3]; give scores in ascending order"),
        (
            ["--model.objective", "ordinal", "--model.cuts", "[3,3,4]"],
            "model.cuts is [3, 3, 4]; give scores in ascending order",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_settings(["--preset", "demo", *words])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_objective_of_scores_without_a_scale_is_refused() -> None:
    with pytest.raises(ModelError, match="learns from scores; give their scale"):
        StratificationModule(Linear(), objective="ordinal")
    with pytest.raises(ModelError, match="learns from scores; give their scale"):
        StratificationModule(Linear(), label_noise=0.1)


def test_cuts_and_class_weights_that_are_not_used_stop_nothing() -> None:
    assert parse_settings(["--preset", "demo", "--label.threshold", "7"]).values.model.objective == "classification"
    words = ["--model.objective", "ordinal", "--model.cuts", "[3,7]", "--label.threshold", "7"]
    settings = parse_settings(["--preset", "demo", *words])
    assert tuple(settings.values.model.cuts) == (3.0, 7.0)


@pytest.mark.parametrize("threshold", [1.0, 3.0, 3.5, 7.0])
def test_the_label_s_threshold_is_a_cut_whether_it_is_named_or_not(threshold: float) -> None:
    scale = ScoreScale(threshold, EDSS_SCALE)
    named = Ordinal(scale, 0.0, sorted({2.0, 4.0, threshold}))
    unnamed = Ordinal(scale, 0.0, (2.0, 4.0))
    assert torch.equal(named.cuts, unnamed.cuts)
    assert unnamed.offsets()[unnamed.cuts.tolist().index(threshold)].item() == 0
    scores = torch.tensor([1.0, 3.5, 7.5])
    assert torch.equal(named(torch.zeros(3), scores), unnamed(torch.zeros(3), scores))
    assert parse_settings(["--preset", "demo", "--model.objective", "ordinal", "--label.threshold", str(threshold)])


# ---- together with the data


def settings_of(options: StudyOptions, *more: str) -> Settings:
    words = ["--cohort", str(options.cohort), "--tracking.mode", "disabled", "--trainer.accelerator", "cpu"]
    return parse_settings(["--preset", "demo", *words, *more])


WORDS = {
    "ordinal": ["--model.objective", "ordinal", "--model.label_noise", "0.1"],
    "regression": ["--model.objective", "regression"],
    "noisy classification": ["--model.label_noise", "0.3"],
}


def test_training_batches_hold_each_scans_score(study: Study, study_options: StudyOptions, tmp_path: Path) -> None:
    settings = settings_of(study_options)
    parts = assemble(settings, study, Run("brainstem", 0, 0), RunFolder(tmp_path), Console(file=StringIO()), True)
    parts.close(True, "")
    for batch in parts.data.train_dataloader():
        done = parts.data.finish(batch, 0)
        assert done["score"].dtype == torch.float32
        assert done["score"].tolist() == [study.cohort.scans[row].value for row in done["index"].tolist()]
        assert done["label"].tolist() == [int(score >= 3) for score in done["score"].tolist()]


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_a_run_of_every_objective_ends_with_probabilities_that_its_checkpoint_gives_again(
    study: Study, study_options: StudyOptions, tmp_path: Path, words: list[str]
) -> None:
    settings, run = settings_of(study_options, "--trainer.max_epochs", "2", *words), Run("brainstem", 0, 0)
    assert fold(settings, replace(study, folder=tmp_path), run, Console(file=StringIO()), quiet=True) == 0
    folder = RunFolder(run.folder(tmp_path))
    rows, _ = folder.result()
    module = make_module(settings, settings.instantiated().network)
    module.load_state_dict(torch.load(folder.best, weights_only=True)["state_dict"])
    parts = assemble(settings, study, run, RunFolder(tmp_path / "other"), Console(file=StringIO()), True)
    parts.close(True, "")
    module.eval()
    batches = [parts.data.finish(batch, None) for batch in parts.data.predict_dataloader()]
    with torch.no_grad():
        p = torch.cat([positive_probability(module(batch["image"])) for batch in batches])
    assert rows.p.tolist() == pytest.approx(p.tolist(), abs=1e-5)
    assert rows.y.tolist() == [label for batch in batches for label in batch["label"].tolist()]


def test_offsets_start_from_the_training_part_alone(study: Study, study_options: StudyOptions, tmp_path: Path) -> None:
    settings = settings_of(study_options, *WORDS["ordinal"])
    parts = assemble(settings, study, Run("brainstem", 0, 0), RunFolder(tmp_path), Console(file=StringIO()), True)
    parts.close(True, "")
    expected = Ordinal(EDSS, 0.0, settings.values.model.cuts)
    expected.start_from([study.cohort.scans[row].value for row in parts.data.partitions["train"]])
    assert torch.equal(parts.module.objective.offsets(), expected.offsets())  # type: ignore[union-attr, operator]


def test_permuted_labels_come_with_the_scores_of_the_same_scans(study: Study) -> None:
    region = get_region("brainstem")
    image, permuted = (
        case_of(study, ControlRun(name, "brainstem", 0, 0), region, "template", 3.0, 0) for name in ("image", "permuted")
    )
    assert image.scores == tuple(scan.value for scan in study.cohort.scans)
    assert permuted.scores is not None
    assert permuted.scores != image.scores
    assert permuted.labels == tuple(study.cohort.rule.label_of(score) for score in permuted.scores)
    for part in range(study.splits.folds):
        dealt: dict[str, set[float]] = {}
        rows = [row for row, scan in enumerate(study.cohort.scans) if study.splits.part[scan.patient] == part]
        for row in rows:
            dealt.setdefault(study.cohort.scans[row].patient, set()).add(permuted.scores[row])
        assert all(len(scores) == 1 for scores in dealt.values())
        assert set().union(*dealt.values()) <= {study.cohort.scans[row].value for row in rows}


@pytest.mark.parametrize(("control", "taken"), [("sex", None), ("image", Ordinal), ("permuted", Ordinal), ("leaky", Ordinal)])
def test_a_target_without_scores_is_classified_whatever_the_studys_objective(
    study: Study, study_options: StudyOptions, monkeypatch: pytest.MonkeyPatch, control: str, taken: type | None
) -> None:
    sexes = {patient: "FM"[number % 2] for number, patient in enumerate(study.cohort.patients)}
    scans = tuple(replace(scan, covariates={"sex": sexes[scan.patient]}) for scan in study.cohort.scans)
    sexed = replace(study, cohort=replace(study.cohort, scans=scans))
    case = case_of(sexed, ControlRun(control, "brainstem", 0, 0), get_region("brainstem"), "template", 3.0, 0)
    made: list[StratificationModule] = []

    def keep(*arguments: Any) -> StratificationModule:
        made.append(make_module(*arguments))
        return made[-1]

    monkeypatch.setattr(training, "make_module", keep)
    settings = settings_of(study_options, "--trainer.max_epochs", "1", *WORDS["ordinal"])
    rows, _ = training.train(settings, case, 0, 0)
    assert np.isfinite(rows.p).all()
    assert type(made[0].objective) is (taken or type(None))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({}, "cross-entropy"),
        ({"objective": "classification", "label_noise": 0.0}, "cross-entropy"),
        (
            {"objective": "ordinal", "cuts": [2.5, 3.0]},
            "the cross-entropy of cumulative logits (proportional odds) at the scores 2.5 and 3",
        ),
        ({"objective": "regression"}, "the negative log-likelihood of the score under a logistic error"),
        ({"label_noise": 0.2}, "cross-entropy, expected over a score that lies one step off with probability 0.2,"),
    ],
)
def test_the_report_says_what_was_minimised(model: dict[str, Any], words: str) -> None:
    assert training_loss(model) == words
