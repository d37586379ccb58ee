"""Several splits of the same patients: what is averaged, what is refused, and the rates of the test in simulated studies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, write_study
from scipy.stats import t as student
from simulated_levels import design, shift_for
from simulated_partitions import PARTITIONS, rates_of, simulate

from datamodules.cohort.splits import test_to_train as size_ratio
from datamodules.files.sealed import read_sealed, write_sealed
from experiments.__main__ import main
from experiments.analysis.partitions import corrected, partition_lines, write_partitions
from experiments.analysis.pooling import pooled_predictions
from experiments.analysis.sites import site_sentence
from experiments.statistics.scores import fold_summary
from experiments.study.run_folder import ResultsError
from experiments.study.runs import PlanError, grid

INPUTS = ("global", "ventricles")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three studies of the same scans with splits of their own; the first has what a report needs."""
    folder = tmp_path_factory.mktemp("partitions")
    first = write_reportable(folder / "a", Made(inputs=INPUTS, skill={"ventricles": 3.0}))
    for name, seed in (("b", 1), ("c", 2)):
        write_study(folder / name, Made(inputs=INPUTS, skill={"ventricles": 3.0}, split_seed=seed))
        for config in first.glob("*/fold-*/seed-*/config.yaml"):
            shutil.copy(config, folder / name / config.relative_to(first))
    return [first, folder / "b", folder / "c"]


def test_the_mean_is_over_all_folds_and_the_variance_is_that_of_bouckaert_and_frank(studies: list[Path]) -> None:
    content = write_partitions(studies, INPUTS, [0])
    values = []
    for folder in studies:
        of = [pooled_predictions(folder, [run for run in grid(INPUTS, [0]) if run.input == name]) for name in INPUTS]
        whole, region = (np.array(list(fold_summary(test)["auc"].values.values())) for test in of)
        values.append(region - whole)
    (pair,) = (pair for pair in content["paired"] if pair["metric"] == "auc")
    gaps = np.concatenate(values)
    error = np.sqrt((1 / 21 + 1 / 5) * gaps.var(ddof=1))
    assert pair["difference"]["value"] == pytest.approx(gaps.mean())
    assert pair["p"] == pytest.approx(2 * student.sf(abs(gaps.mean() / error), 6))
    assert pair["difference"]["high"] - gaps.mean() == pytest.approx(student.ppf(0.975, 6) * error)
    assert pair["difference"]["fold_sd"] == pytest.approx(np.std([part.mean() for part in values], ddof=1))
    assert content["split_seeds"] == [0, 1, 2]
    assert {row["input"] for row in content["inputs"]} == set(INPUTS)


def test_one_partition_gives_the_corrected_t_test_of_the_folds(studies: list[Path]) -> None:
    kept = read_sealed(studies[0] / "comparison.json", "again")["details"]["corrected_t"][0]
    (pair,) = (pair for pair in write_partitions(studies[:1], INPUTS, [0])["paired"] if pair["metric"] == kept["metric"])
    assert (pair["p"], pair["difference"]["low"]) == pytest.approx((kept["p"], kept["low"]))


def test_a_fold_without_a_class_leaves_the_interval_open() -> None:
    assert corrected([np.array([0.5, np.nan])], 0.2, "auc")["low"] is None
    assert corrected([np.zeros(3), np.zeros(3)], 0.2, "auc")["p"] is None


def test_the_ratio_of_test_and_training_parts() -> None:
    assert size_ratio(7, by_site=False) == pytest.approx(1 / 5)
    assert size_ratio(7, by_site=True) == pytest.approx(1 / 5)
    assert size_ratio(2, by_site=True) == pytest.approx(6 / 5)


def test_no_p_is_zero() -> None:
    pair = {"first": "ventricles", "metric": "auc", "difference": {"value": 0.1}, "p_holm": 2e-5, "verdict": "different"}
    said = partition_lines({"studies": ["a", "b"], "split_seeds": [0, 1], "inputs": [], "paired": [pair]})
    assert said[-1] == "  ventricles minus global: AUC +0.10 [not estimable], p (Holm) < 0.001: different"
    over = dict.fromkeys(("mean", "low", "high", "i2"), 0.9) | {"sites": 5, "q": 40.0, "p": 4e-8, "predicted_low": None}
    assert site_sentence("global", over).endswith("I2 90 % (Q 40.0, p < 0.001)")


def test_compare_prints_them_and_the_report_shows_them_until_the_runs_change(
    studies: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["--study", "a", "--studies", str(studies[0].parent)]
    words = ["compare", *study, "--inputs", ",".join(INPUTS), "--draws", "200", "--tracking.mode", "disabled"]
    assert main([*words, "--partitions", "b,c"]) == 0
    said = capsys.readouterr().out
    assert "mean over 3 partitions of the patients (split seeds 0, 1, 2), corrected resampled t test:" in said
    assert "ventricles minus global: AUC +0." in said
    assert main(["report", *study]) == 0
    assert "Several partitions of the patients" in (studies[0] / "report.html").read_text()
    path = studies[0] / "partitions.json"
    content = read_sealed(path, "again")
    content["predictions"]["global/fold-0/seed-0"] = "of a run that was trained again"
    write_sealed(path, content)
    assert main(["report", *study]) == 0
    page = (studies[0] / "report.html").read_text()
    assert "The means over partitions are of other runs than this report." in page
    assert "Several partitions of the patients" not in page


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ("nothing", "nothing"),
        ("a", "a has the split of another one named; make it with a --split_seed of its own"),
        ("fewer", "fewer tested other scans than a"),
        ("sites", "sites is split by site, of which there is only one split"),
        ("another", "another was trained with another data than a"),
    ],
)
def test_what_is_no_partition_of_the_same_is_refused(
    studies: list[Path], others: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if others == "fewer" and not (studies[0].parent / others).exists():
        write_study(studies[0].parent / others, Made(patients=35, scans=40, inputs=INPUTS, split_seed=3))
        for config in studies[0].glob("*/fold-*/seed-*/config.yaml"):
            shutil.copy(config, studies[0].parent / others / config.relative_to(studies[0]))
    if others == "sites":
        write_study(studies[0].parent / others, Made(patients=60, scans=60, inputs=INPUTS, by_site=True))
    if others == "another":
        shutil.copytree(studies[1], studies[0].parent / others)
        for config in (studies[0].parent / others).glob("*/fold-*/seed-*/config.yaml"):
            config.write_text(config.read_text().replace("batch_size: 4", "batch_size: 8"))
    words = ["compare", "--study", "a", "--studies", str(studies[0].parent), "--inputs", ",".join(INPUTS)]
    assert main([*words, "--draws", "100", "--tracking.mode", "disabled", "--partitions", others]) != 0
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) <= 2


def test_errors_of_the_library_are_the_same(studies: list[Path]) -> None:
    with pytest.raises(PlanError, match="has the split of another one"):
        write_partitions([studies[0], studies[0]], INPUTS, [0])
    with pytest.raises(ResultsError, match="are not complete"):
        write_partitions(studies, INPUTS, [0, 1])


def rates(studies: int, patients: int, size: int, auc: float) -> list[tuple[float, float, float, float]]:
    plan, rng = design(patients, 0.3), np.random.default_rng(0)
    made = simulate(plan, shift_for(plan, auc, size), size, 0.7, studies, rng)
    found = [rates_of(made, partitions, rng) for partitions in PARTITIONS]
    return [(of.resampled, of.resampled_auc, of.covered, of.covered_auc) for of in found]


def test_equal_inputs_are_called_different_in_at_most_five_percent() -> None:
    for accuracy, area, covered, covered_auc in rates(200, 84, 2, 0.5):
        assert accuracy <= 0.05 + 2.6 * 0.0154
        assert area <= 0.05 + 2.6 * 0.0154
        assert min(covered, covered_auc) >= 0.95 - 2.6 * 0.0154


SETTINGS = [(84, 2, 0.5), (84, 8, 0.5), (84, 8, 0.65), (320, 2, 0.5), (320, 8, 0.75)]


@pytest.mark.long
@pytest.mark.parametrize(("patients", "size", "auc"), SETTINGS)
def test_the_rates_of_the_table_hold_in_a_thousand_studies(patients: int, size: int, auc: float) -> None:
    for accuracy, area, covered, covered_auc in rates(1000, patients, size, auc):
        assert max(accuracy, area) <= 0.05 + 2.6 * 0.0069
        assert min(covered, covered_auc) >= 0.95 - 2.6 * 0.0069
