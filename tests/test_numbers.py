"""A number or an ordinal step as the target: split, module, run folder, refusals, and whole studies from table to report."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score
from torch import nn

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import SplitError, TooFewPatientsError, load_splits, make_splits, write_splits
from datamodules.cohort.target import Target
from datamodules.files.tables import read_rows
from experiments.__main__ import main
from experiments.analysis.baseline_models import ALPHAS, Design, fit_number
from experiments.analysis.comparison import read_comparison
from experiments.analysis.linear_readers import fit_number_reader, gram_matrices
from experiments.analysis.pooling import number_inputs
from experiments.controls.cases import case_of
from experiments.controls.measures import on_scale, worded
from experiments.controls.outcome import write_outcome
from experiments.controls.plan import ControlRun
from experiments.controls.rules import RULES, verdict
from experiments.controls.scores import as_json, compared_row, leaky_row, permuted_row
from experiments.externals.numeric_score import number_tables
from experiments.externals.score import Known
from experiments.statistics.numeric import Numbers, point_scores
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate
from experiments.study.run_folder import ResultsError, Rows, RunFolder, Scale, read_predictions, write_predictions
from experiments.study.runs import Run
from lightning_modules.metrics import evaluate_number
from lightning_modules.numbers import NumberModule
from regions.catalog import get_region

AGE = Target("age", "regression", units="years")
STEPS = Target(kind="ordinal", cuts=(2.0, 4.0))
TINY = ["--preset", "demo", "--trainer.max_epochs", "2", "--network.init_args.width", "2", "--network.init_args.stages", "2"]


def scans_of(values: list[float], target: Target) -> list[Scan]:
    images = {name: Path(name) for name in DEFAULT_IMAGES}
    return [
        Scan(f"sub-{number:03d}", "", images, value=value, days=None, label=target.label_of(value))
        for number, value in enumerate(values)
    ]


def test_parts_hold_all_quantiles_of_a_number() -> None:
    ages = np.random.default_rng(0).uniform(20, 70, 90).tolist()
    scans = scans_of(ages, AGE)
    splits = make_splits(scans, 3, 7, AGE)
    order = [scan.patient for scan in sorted(scans, key=lambda scan: scan.value)]
    for start in range(0, 84, 7):
        assert sorted(splits.part[patient] for patient in order[start : start + 7]) == list(range(7))
    assert max(Counter(splits.part.values()).values()) == 13
    assert splits == make_splits(scans[::-1], 3, 7, AGE)
    assert splits != make_splits(scans, 4, 7, AGE)


def test_parts_hold_all_steps_alike(tmp_path: Path) -> None:
    scans = scans_of([1.0] * 21 + [3.0] * 14 + [5.0] * 9, STEPS)
    splits = make_splits(scans, 0, 7, STEPS)
    for step, least in ((0, 3), (1, 2), (2, 1)):
        counts = Counter(splits.part[scan.patient] for scan in scans if scan.label == step)
        assert set(counts) == set(range(7))
        assert min(counts.values()) >= least
    write_splits(tmp_path / "splits.tsv", splits, scans, "h")
    assert load_splits(tmp_path / "splits.tsv", scans, STEPS) == splits


@pytest.mark.parametrize(
    ("values", "folds", "target", "kind", "message"),
    [
        ([30.0] * 40, 7, AGE, SplitError, "all 40 patients have age 30: there is nothing to tell apart; give another"),
        ([1.0] * 40, 7, STEPS, SplitError, "all 40 patients have EDSS below 2: there is nothing to tell apart"),
        ([float(v) for v in range(20)], 7, AGE, TooFewPatientsError, "20 patients cannot fill 7 folds, each needs 3; --folds"),
        ([1.0, 2.0], 7, AGE, TooFewPatientsError, "2 patients cannot fill 7 folds, each needs 3; at least 9 are needed"),
        ([1.0] * 30 + [3.0] * 8 + [5.0] * 2, 7, STEPS, TooFewPatientsError, "2 with EDSS 4 or above; use fewer label.cuts"),
        ([1.0] * 30 + [5.0] * 8, 7, STEPS, TooFewPatientsError, "0 with EDSS 2 to below 4; use fewer label.cuts"),
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_split_is_one_line(
    values: list[float], folds: int, target: Target, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        make_splits(scans_of(values, target), 0, folds, target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def rows_of(y: Any, p: Any) -> Rows:
    text = np.array([f"sub-{number}" for number in range(len(y))])
    return Rows(np.array(["internal_test"] * len(y)), text, text, text, np.array(y), np.array(p))


def test_predictions_of_a_number_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "predictions.tsv"
    write_predictions(path, rows_of([30.1, 1 / 3], [29.0, -0.1]))
    rows = read_predictions(path, Scale(0, 30.0))
    assert rows.y.tolist() == [30.1, 1 / 3]
    assert rows.p.tolist() == [29.0, -0.1]
    with pytest.raises(ResultsError, match="invalid literal"):
        read_predictions(path)
    write_predictions(path, rows_of([0, 2], [0.3, 1.9]))
    assert read_predictions(path, Scale(2, 1.0)).y.dtype == np.int64
    with pytest.raises(ResultsError, match="y must be a step from 0 to 1 and p a number"):
        read_predictions(path, Scale(1, 1.0))
    with pytest.raises(ResultsError, match="y must be 0 or 1"):
        read_predictions(path)
    write_predictions(path, rows_of([0.5, 2.0], [0.3, float("nan")]))
    with pytest.raises(ResultsError, match="y must be a number and p a number"):
        read_predictions(path, Scale(0, 1.0))


class Fixed(nn.Module):
    """Gives a latent value for each scan, the first voxel of its image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        z = image[:, 0, 0, 0, 0] * self.scale
        return torch.stack([-z / 2, z / 2], dim=1)


def batch_of(z: list[float], score: list[float]) -> dict[str, torch.Tensor]:
    image = torch.tensor(z).view(-1, 1, 1, 1, 1)
    label = torch.zeros(len(z), dtype=torch.long)
    return {"image": image, "score": torch.tensor(score), "label": label, "index": torch.arange(len(z))}


def test_a_value_is_the_training_mean_plus_its_spread_times_the_latent_value() -> None:
    module = NumberModule(Fixed())
    module.start_from([30.0, 40.0, 50.0])
    spread = float(np.std([30, 40, 50]))
    batch = batch_of([0.0, 1.0, -2.0], [40.0, 40.0, 20.0])
    predicted = module.predict_step(batch, 0)["number"]
    assert predicted.tolist() == pytest.approx([40, 40 + spread, 40 - 2 * spread])
    errors = np.array([0, 1, -2 + 20 / spread])
    smooth = np.where(np.abs(errors) < 1, errors**2 / 2, np.abs(errors) - 0.5)
    assert module._objective_loss(module(batch["image"]), batch).item() == pytest.approx(smooth.mean(), rel=1e-5)
    again = NumberModule(Fixed())
    again.load_state_dict(module.state_dict())
    assert again.predict_step(batch, 0)["number"].tolist() == predicted.tolist()


def test_a_step_is_the_sum_of_the_probabilities_of_the_cuts() -> None:
    module = NumberModule(Fixed(), steps=3)
    module.start_from([0, 0, 1, 1, 1, 2, 3, 3])
    offsets = module.ordinal.offsets().detach()
    assert offsets[1] == 0
    assert (offsets.diff() > 0).all()
    batch = batch_of([0.0, 3.0], [1.0, 3.0])
    predicted = module.predict_step(batch, 0)["number"]
    expected = [torch.sigmoid(z - offsets.double()).sum().item() for z in (0.0, 3.0)]
    assert predicted.tolist() == pytest.approx(expected)
    reached = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    logits = torch.tensor([[0.0], [3.0]]) - offsets
    loss = nn.functional.binary_cross_entropy_with_logits(logits, reached)
    assert module._objective_loss(module(batch["image"]), batch).item() == pytest.approx(float(loss), rel=1e-5)
    again = NumberModule(Fixed(), steps=3)
    again.load_state_dict(module.state_dict())
    assert again.predict_step(batch, 0)["number"].tolist() == predicted.tolist()


def test_a_part_s_scores_are_those_of_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    y, p = np.round(rng.uniform(0, 3, 40)), rng.uniform(0, 3, 40)
    scores = evaluate_number(torch.from_numpy(p), torch.from_numpy(y), float(y.mean()), steps=3)
    assert scores["mae"] == pytest.approx(mean_absolute_error(y, p))
    assert scores["r2"] == pytest.approx(r2_score(y, p))
    assert scores["spearman"] == pytest.approx(spearmanr(y, p).statistic)
    assert scores["kappa"] == pytest.approx(
        cohen_kappa_score(y.astype(int), np.floor(p + 0.5).astype(int), weights="quadratic")
    )
    assert evaluate_number(torch.full((4,), 2.0), torch.arange(4.0), 1.5)["spearman"] is None
    assert set(evaluate_number(torch.tensor([float("nan")]), torch.ones(1), 0.0).values()) == {None}


def test_a_baseline_is_scikit_learn_s_ridge_with_the_penalty_of_the_tuning_part() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 3)) * (1, 10, 0.1) + 5
    y = values @ (2, 0.1, 5) + rng.normal(size=60)
    train, tuning = np.arange(40), np.arange(40, 60)
    fit = fit_number(Design(("a", "b", "c"), values), y, train, tuning, 0)
    standard = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
    errors = {}
    for alpha in ALPHAS:
        model = Ridge(alpha=alpha).fit(standard[train], y[train])
        errors[alpha] = np.mean((model.predict(standard[tuning]) - y[tuning]) ** 2)
    assert fit.penalty == min(errors, key=lambda alpha: errors[alpha])
    assert fit.tuning_mse == pytest.approx(min(errors.values()))
    mean = fit_number(Design((), np.empty((60, 0))), y, train, tuning, 0)
    assert mean.p == pytest.approx(np.full(60, y[train].mean()))
    steps = fit_number(Design(("a", "b", "c"), values), np.clip(np.round(y), 0, 2), train, tuning, 2)
    assert steps.p.min() >= 0
    assert steps.p.max() <= 2


def test_a_linear_reader_of_all_components_is_the_ridge_on_the_features_themselves() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 200)).astype(np.float32)
    y, train, tuning = values[:, :20].sum(axis=1) + rng.normal(size=40), np.arange(28), np.arange(28, 40)
    gram = gram_matrices([(["x"], values)], [train], 40)["x"][0]
    fit = fit_number_reader(gram, y.astype(np.float64), train, tuning, 0)
    standard = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
    assert fit.components == len(train) - 1
    direct = Ridge(alpha=fit.penalty).fit(standard[train], y[train]).predict(standard)
    assert fit.p == pytest.approx(direct, abs=1e-3)
    assert fit.facts()["scale"] == {"steps": 0, "mean": pytest.approx(y[train].mean())}


def test_the_rules_of_the_controls_hold_on_the_scale_of_a_correlation() -> None:
    strong, none = Estimate(0.5, 0.3, 0.7), Estimate(0.05, -0.2, 0.3)
    assert on_scale(strong) == Estimate(0.75, 0.65, 0.85)
    image, permuted = on_scale(strong), on_scale(none)
    assert image is not None
    assert permuted is not None
    assert worded(verdict("image", image).text, AGE) == "predicts the age"
    assert verdict("permuted", permuted).flag == "ok"
    leak = worded(verdict("permuted", image).text, AGE)
    assert leak == "above chance: values dealt out by chance are predicted, something leaks"
    assert "0.5" not in worded(RULES["image"] + RULES["permuted"], AGE)
    assert worded(RULES["image"], Target()) == RULES["image"]


def test_a_control_of_a_number_is_compared_by_spearman_and_judged_about_the_value() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(40, 8, 140)
    fold = np.arange(140) % 7
    image = Numbers(np.arange(140), fold, y, y + rng.normal(0, 8, 140), np.full(140, 40.0))
    noise = replace(image, p=rng.normal(40, 8, 140))
    weights = draw_patient_weights(image, 300, rng)
    row = compared_row("mask_only", "global", noise, image, weights, AGE)
    assert (row.flag, row.verdict) == ("ok", "the mask alone does not show the age, does not explain what the image says")
    assert row.difference is not None
    gap = row.difference["spearman"].value
    assert gap == pytest.approx((point_scores(image)["spearman"] or 0) - (point_scores(noise)["spearman"] or 0))
    assert row.positives is None
    assert as_json(row)["estimates"]["mae"]["value"] == pytest.approx(mean_absolute_error(y, noise.p))
    permuted = permuted_row("global", [noise, noise], 200, rng, AGE)
    assert permuted.verdict == "at chance, as it must be"
    assert permuted.details["spearman_of_each"] == [pytest.approx(point_scores(noise)["spearman"])] * 2
    small = image.part(np.flatnonzero(fold == 0)[:8])
    few = compared_row("mask_only", "global", small, small, draw_patient_weights(small, 100, rng), AGE)
    assert few.verdict == "nothing is judged with fewer than 10 patients"


@pytest.mark.parametrize("steps", [0, 3])
def test_a_leaky_split_of_a_number_is_told_by_ranks_and_has_no_error_in_its_unit(steps: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 140).astype(float) if steps else rng.normal(40, 8, 140)
    ranks = rankdata(y + rng.normal(0, y.std(), 140)) / 140
    leaky = Numbers(np.arange(140), np.zeros(140, dtype=int), y, ranks, np.full(140, y.mean()), steps=steps)
    row = leaky_row("global", leaky, replace(leaky, p=rng.permutation(ranks)), draw_patient_weights(leaky, 200, rng), 7, AGE)
    content = as_json(row)
    wanted = {"spearman", *(f"auc_{step}" for step in range(1, steps + 1))}
    assert set(content["estimates"]) == set(content["difference"]) == set(content["details"]["honest"]) == wanted
    assert row.verdict.startswith("a split by scan instead of by patient inflates Spearman's correlation by 0.")
    write_outcome(tmp_path, {"metric": "spearman", "controls": [content]})
    (cells,) = read_rows(tmp_path / "controls.tsv")
    assert cells["mae"] == cells["rmse"] == cells["r2"] == ""
    assert cells["spearman"]


def test_frozen_numbers_are_averaged_and_compared_with_their_own_training_means() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(40, 8, 30)
    raw = np.stack([y + rng.normal(size=30), y + 2 * rng.normal(size=30)], axis=1)
    known = Known(np.arange(30), np.full(30, "1"), np.full(30, "A"), y)
    entry = {"models": [{"scale": {"steps": 0, "mean": 38.0}}, {"scale": {"steps": 0, "mean": 42.0}}]}
    tables = number_tables(entry, raw, known)
    assert point_scores(tables.ensemble)["mae"] == pytest.approx(mean_absolute_error(y, raw.mean(axis=1)))
    assert set(tables.ensemble.mean) == {40.0}
    assert [set(single.mean) for single in tables.singles] == [{38.0}, {42.0}]


@pytest.fixture(scope="module", params=["age", "edss"])
def whole_study(
    request: pytest.FixtureRequest, phantom_cohort: Path, external_cohort: Path, store_folder: Path, tmp_path_factory: Any
) -> tuple[Path, Target]:
    """A study of age or of ordinal EDSS with two inputs and three folds: trained, compared, reported, with an external test."""
    studies = tmp_path_factory.mktemp("numbers")
    target = AGE if request.param == "age" else Target(kind="ordinal", cuts=(2.5,))
    words = ["--label.column", "age", "--label.kind", "regression", "--label.units", "years"]
    words = words if target is AGE else ["--label.kind", "ordinal", "--label.cuts", "[2.5]"]
    places = [
        "--cohort",
        str(phantom_cohort),
        "--store",
        str(store_folder),
        "--studies",
        str(studies),
        "--study",
        request.param,
    ]
    settings = [*TINY, *places, *words, "--folds", "3", "--tracking.mode", "disabled"]
    for name in ("global", "brainstem"):
        for fold in range(3):
            assert main(["fold", *settings, "--roi", name, "--fold", str(fold), "--quiet"]) == 0
    assert main(["check", *settings]) == 0
    assert main(["baselines", *settings]) == 0
    only = ["--study", request.param, "--studies", str(studies)]
    inputs = ["--inputs", "global,brainstem"]
    assert main(["compare", *only, *inputs, "--draws", "200", "--tracking.mode", "disabled"]) == 0
    external = ["--cohort", str(external_cohort), "--store", str(store_folder), "--draws", "100"]
    assert main(["external", *only, *inputs, *external]) == 0
    assert main(["report", *only]) == 0
    return studies / request.param, target


@pytest.mark.slow
def test_a_study_of_a_number_goes_from_table_to_report(whole_study: tuple[Path, Target]) -> None:
    folder, target = whole_study
    facts = RunFolder(folder / "global/fold-0/seed-0").facts()
    rows = read_rows(folder / "cohort.tsv")
    parts = {row["patient"]: int(row["part"]) for row in read_rows(folder / "splits.tsv")}
    numbers = [float(row["label"] if target.steps else row["age"]) for row in rows]
    train = [value for row, value in zip(rows, numbers, strict=True) if parts[row["patient"]] == 2]
    assert facts["scale"] == {"steps": target.steps, "mean": pytest.approx(np.mean(train))}
    assert "threshold" not in facts
    metrics = json.loads((folder / "global/fold-0/seed-0/metrics.json").read_text())
    assert set(metrics["internal_test"]) == {"scans", "mae", "rmse", "r2", "spearman", *(["kappa"] if target.steps else [])}
    history = (folder / "global/fold-0/seed-0/history.tsv").read_text().split("\n")[0].split("\t")
    assert {"tuning/loss", "tuning/mae", "train/loss"} <= set(history)
    assert "tuning/auroc" not in history


@pytest.mark.slow
def test_what_a_comparison_of_numbers_says(whole_study: tuple[Path, Target]) -> None:
    folder, target = whole_study
    comparison = read_comparison(folder)
    assert comparison.target["kind"] == target.kind
    runs = {name: [Run(name, fold, 0) for fold in range(3)] for name in ("global", "brainstem")}
    tables = number_inputs(folder, runs)
    for name, (table,) in tables.items():
        for metric, value in point_scores(table).items():
            assert comparison.estimates[name][metric].value == (None if value is None else pytest.approx(value))
    gap = comparison.paired[0]
    assert (gap.first, gap.metric) == ("brainstem", "mae")
    both = [comparison.estimates[name]["mae"].value or 0.0 for name in ("brainstem", "global")]
    assert gap.difference.value == pytest.approx(both[0] - both[1])
    assert next(iter(comparison.baselines)) == "mean"
    assert comparison.baselines["mean"]["r2"].value == pytest.approx(0)
    content = json.loads((folder / "comparison.json").read_text())
    assert {"paired_spearman", "paired_baselines_spearman"} <= set(content)
    assert "positives" not in content
    assert not [name for name in content if name.endswith("_auc")]
    assert not (folder / "robustness.json").exists()
    header = (folder / "comparison.tsv").read_text().split("\n")[0]
    assert "mae" in header
    assert "sensitivity" not in header


@pytest.mark.slow
def test_the_report_of_a_number_has_its_chapters_and_none_of_two_classes(whole_study: tuple[Path, Target]) -> None:
    folder, target = whole_study
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("Predicted against true", "Calibration line", "MAE", "Spearman", "stratified by value", "smooth L1 loss"):
        if words != "smooth L1 loss" or not target.steps:
            assert words in page, words
    text = page[page.index("<main") :]
    for words in ("sensitivity", "Net benefit", "ROC curve", "positive scan", "temperature", "balanced accuracy", "0 positive"):
        assert words not in text, words
    assert (folder / "figures" / "agreement.svg").is_file()


@pytest.mark.slow
def test_external_numbers_are_told_with_their_change(whole_study: tuple[Path, Target]) -> None:
    folder, target = whole_study
    results = json.loads((folder / "external/external/external.json").read_text())
    entry = results["inputs"][0]
    change = entry["change"]["mae"]
    assert change["value"] == pytest.approx(entry["single"]["mae"]["mean"] - entry["internal"]["mae"]["value"])
    rows = read_rows(folder / "external/external/predictions.tsv")
    assert "decision" not in rows[0]
    first = [float(rows[0][f"p_{fold}"]) for fold in range(3)]
    assert float(rows[0]["p"]) == pytest.approx(np.mean(first))
    frozen = json.loads((folder / "external/external/frozen.json").read_text())
    assert frozen["inputs"][0]["models"][0]["scale"]["steps"] == target.steps
    assert "threshold" not in frozen["inputs"][0]


@pytest.mark.slow
def test_predictions_of_another_value_than_the_cohort_s_are_refused(whole_study: tuple[Path, Target], tmp_path: Path) -> None:
    folder, target = whole_study
    copy = shutil.copytree(folder, tmp_path / folder.name)
    run = RunFolder(copy / "global/fold-0/seed-0")
    rows, threshold = run.result()
    assert np.isnan(threshold)
    y = rows.y.copy()
    y[0] = target.steps - y[0] if target.steps else y[0] + 1
    write_predictions(run.path / "predictions.tsv", replace(rows, y=y))
    run.write_complete(run.facts())
    with pytest.raises(ResultsError, match=f"has label {y[0]:g}, in the cohort {rows.y[0]:g}"):
        number_inputs(copy, {"global": [Run("global", 0, 0)]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label.column", "age", "--label.kind", "regression", "--model.class_weights", "[1,2]"], "goes with two classes"),
        (["--label.kind", "regression", "--model.label_noise", "0.2"], "model.label_noise 0.2 goes with two classes, not with"),
        (["--label.column", "site", "--label.kind", "regression"], "site is no number"),
        (["--label.column", "sdmt", "--label.kind", "regression"], "has a column 'sdmt'"),
        (["--label.kind", "ordinal", "--label.cuts", "[2,9.5]"], "0 with EDSS 9.5 or above"),
        (["--label.kind", "number"], "label.kind is number; give binary, ordinal or regression"),
        (
            ["--label.column", "age", "--label.kind", "regression", "--split.by", "site"],
            "--split.by site goes with two",
        ),
    ],
)
def test_a_mistake_about_a_number_is_one_line(
    phantom_cohort: Path, store_folder: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(tmp_path), "--study", "wrong"]
    assert main(["fold", *TINY, *places, *words, "--roi", "global", "--fold", "0"]) != 0
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1
    assert message in lines[0]


def test_permuted_values_move_with_their_patients(study: Any) -> None:
    cohort = study.cohort
    scans = tuple(
        Scan(s.patient, s.session, s.images, value=float(20 + n), days=s.days, label=0) for n, s in enumerate(cohort.scans)
    )
    numbers = replace(study, cohort=replace(cohort, scans=scans, rule=AGE))
    case = case_of(numbers, ControlRun("permuted", "global", 0, 0), get_region("global"), "template", 3.0, 0)
    assert case.scores is not None
    assert set(case.scores) <= {scan.value for scan in scans}
    assert case.scores != tuple(scan.value for scan in scans)
