"""The comparison of a study that was never trained: families, seeds, baselines, what is said about them, and its file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, write_study
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from datamodules.files.sealed import write_sealed
from experiments.__main__ import main
from experiments.analysis.baseline_files import BASELINES, baseline_folder
from experiments.analysis.compare import compared
from experiments.analysis.comparison import StudyComparison, read_comparison, write_comparison
from experiments.analysis.pooling import pooled_predictions
from experiments.statistics.scores import METRICS, point_values
from experiments.study.grid import wanted_seeds
from experiments.study.run_folder import RunFolder
from experiments.study.runs import PlanError

INPUTS = ["global", "ventricles", "brainstem"]
MADE = Made(inputs=INPUTS, seeds=(0, 1, 2), baselines=("prevalence", "age_sex"), skill={"brainstem": 0.0, "global": 2.5})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "made"
    write_study(folder, MADE)
    return folder


@pytest.fixture(scope="module")
def found(study: Path) -> StudyComparison:
    return compared(study, INPUTS, [0, 1, 2], draws=300)[1]


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "made"))


def words(study: Path, *more: str) -> list[str]:
    own = ["--study", study.name, "--studies", str(study.parent), "--inputs", ",".join(INPUTS), "--draws", "200"]
    return ["compare", *own, "--tracking.mode", "disabled", *more]


def test_spaces_between_inputs_do_not_count(copied: Path) -> None:
    assert main(words(copied, "--inputs", "global, brainstem")) == 0
    assert list(read_comparison(copied).estimates) == ["global", "brainstem"]


def test_a_value_is_the_mean_over_seeds(study: Path, found: StudyComparison) -> None:
    values = []
    for seed in (0, 1, 2):
        y, decided = [], []
        for fold in range(7):
            own = RunFolder(study / "ventricles" / f"fold-{fold}" / f"seed-{seed}")
            lines = [line.split("\t") for line in (own.path / "predictions.tsv").read_text().splitlines()[1:]]
            tested = [(int(cells[4]), float(cells[5])) for cells in lines if cells[0] == "internal_test"]
            y += [label for label, _ in tested]
            decided += [int(p >= own.facts()["threshold"]) for _, p in tested]
        values.append(balanced_accuracy_score(y, decided))
    assert found.estimates["ventricles"]["balanced_accuracy"].value == pytest.approx(np.mean(values), abs=1e-12)
    report = found.details["seeds"]["balanced_accuracy"]
    assert report["values"]["ventricles"] == pytest.approx(values, abs=1e-12)
    assert report["spread"]["ventricles"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert set(report["spread"]) == set(INPUTS)


def test_each_family_is_adjusted_by_itself(found: StudyComparison) -> None:
    pairs = {name: [(one.first, one.second) for one in getattr(found, name)] for name in ("paired", "paired_auc", "paired_all")}
    assert pairs["paired"] == pairs["paired_auc"] == [("ventricles", "global"), ("brainstem", "global")]
    assert len(pairs["paired_all"]) == 3
    assert [(one.first, one.second) for one in found.paired_baselines] == [("prevalence", "global"), ("age_sex", "global")]
    assert {one.metric for one in found.paired_baselines_auc} == {"auc"}
    for family in (found.paired, found.paired_auc, found.paired_baselines):
        p = sorted(one.p for one in family if one.p is not None)
        assert min(one.p_holm for one in family if one.p_holm is not None) == pytest.approx(min(1, len(p) * p[0]))


def test_a_planted_difference_is_called_different(found: StudyComparison) -> None:
    assert {one.first: one.verdict for one in found.paired}["brainstem"] == "different"


def test_the_pooled_auc_stands_beside_the_one_within_folds(study: Path, found: StudyComparison) -> None:
    from experiments.study.runs import Run

    tables = [pooled_predictions(study, [Run("global", fold, seed) for fold in range(7)]) for seed in (0, 1, 2)]
    auc = found.details["auc"]["global"]
    assert auc["pooled_auc"] == pytest.approx(np.mean([roc_auc_score(one.y, one.p) for one in tables]))
    assert auc["auc"] == pytest.approx(np.mean([point_values(one)["auc"] for one in tables]))
    assert auc["gap"] == pytest.approx(auc["pooled_auc"] - auc["auc"])
    assert auc["cv_auc_low"] < auc["cv_auc"] < auc["cv_auc_high"]


def test_chance_is_judged_by_the_interval_with_longer_arms(found: StudyComparison) -> None:
    for name, metrics in (found.estimates | found.baselines).items():
        auc, own = metrics["auc"], found.details["chance"][name]
        assert own["auc_low"] == pytest.approx(auc.value - 2**0.5 * (auc.value - auc.low))
        assert own["auc_high"] == pytest.approx(auc.value + 2**0.5 * (auc.high - auc.value))
        assert (own["words"] == "above chance") == (own["auc_low"] > 0.5)
    assert found.details["chance"]["global"]["words"] == "above chance"
    assert found.details["chance"]["prevalence"]["words"] == "not distinguishable from chance"


def test_thresholds_show_their_spread_and_what_one_half_gives(study: Path, found: StudyComparison) -> None:
    own = found.details["thresholds"]["brainstem"]
    wanted = [RunFolder(study / "brainstem" / "fold-3" / f"seed-{seed}").facts()["threshold"] for seed in (0, 1, 2)]
    assert own["values"]["3"] == wanted
    assert own["lowest"] <= own["mean"] <= own["highest"]
    assert set(own["at_half"]) == {"balanced_accuracy", "sensitivity", "specificity"}


def test_calibration_utility_and_fold_values_are_there_for_all(found: StudyComparison) -> None:
    names = {*INPUTS, "prevalence", "age_sex"}
    assert set(found.details["calibration"]) == set(found.details["fold_values"]) == names
    one = found.details["calibration"]["global"]
    assert len(one["temperatures"]) == 7
    assert one["after"]["log_loss"]["value"] < one["before"]["log_loss"]["value"] + 0.05
    assert one["before"]["line"]["slope"]["value"] > 1
    assert sum(part["scans"] for part in one["before"]["reliability"]) == 3 * 56
    utility = found.details["utility"]
    assert len(utility["thresholds"]) == len(utility["treat_all"]) == len(utility["inputs"]["global"])
    assert [row["first"] for row in found.details["corrected_t"]] == ["ventricles", "brainstem"]
    assert found.details["corrected_t"][0]["df"] == 6


def test_the_file_reads_back_equal(found: StudyComparison, tmp_path: Path) -> None:
    write_comparison(tmp_path, found)
    again = read_comparison(tmp_path)
    assert again.estimates == found.estimates
    assert again.baselines == found.baselines
    assert (again.paired, again.paired_all, again.notes, again.seeds) == (
        found.paired,
        found.paired_all,
        found.notes,
        [0, 1, 2],
    )
    lines = [line.split("\t") for line in (tmp_path / "comparison.tsv").read_text().splitlines()]
    assert [(line[0], line[1]) for line in lines[1:]] == [
        *((name, "network") for name in INPUTS),
        ("prevalence", "baseline"),
        ("age_sex", "baseline"),
        *((name, "ensemble") for name in INPUTS),
        *((name, "stacked") for name in ("regions (stacked)", *(f"{name} + age_sex" for name in INPUTS))),
    ]
    facts = json.loads((tmp_path / "comparison.json").read_text())
    facts.pop("paired_all")
    write_sealed(tmp_path / "comparison.json", facts)
    with pytest.raises(PlanError, match="has no 'paired_all'; make it again with: make compare"):
        read_comparison(tmp_path)


def test_the_command_takes_all_complete_seeds_and_tells_of_the_others(copied: Path, capsys) -> None:
    (copied / "global" / "fold-2" / "seed-1" / "run.json").unlink()
    assert main(words(copied)) == 0
    out = capsys.readouterr().out
    assert "mean over seeds 0, 2" in out
    assert "seed 1 is left out: 20 of 21 runs are complete" in out
    assert "Kendall's W" in out
    assert "prevalence *" in out
    assert "no baseline age_sex_volumes, region_means: make baselines STUDY=made" in out
    assert json.loads((copied / "comparison.json").read_text())["seeds"] == [0, 2]
    assert (copied / "subgroups.json").is_file()
    assert (copied / "robustness.json").is_file()


def test_seeds_can_be_named(copied: Path, capsys) -> None:
    assert main(words(copied, "--seeds", "2")) == 0
    assert ", seed 2" in capsys.readouterr().out
    assert main(words(copied, "--seeds", "2,x")) == 2
    assert "SEEDS=2,x: 'x' is not a whole number from 0" in capsys.readouterr().err
    assert main(words(copied, "--seeds", "0,3")) == 2
    assert "21 of 42 runs of made are not complete" in capsys.readouterr().err


def test_without_a_complete_seed_the_fullest_is_asked_for(copied: Path) -> None:
    for seed in (0, 1, 2):
        (copied / "global" / "fold-0" / f"seed-{seed}" / "run.json").unlink()
    (copied / "global" / "fold-1" / "seed-0" / "run.json").unlink()
    assert wanted_seeds(copied, INPUTS, 7, "") == ([1], [])


@pytest.mark.parametrize("part", ["split", "cohort", "decision"])
def test_baselines_of_another_split_cohort_or_rule_are_left_out_by_name(copied: Path, part: str) -> None:
    own = RunFolder(baseline_folder(copied, "age_sex", 4))
    facts = own.facts()
    facts["fingerprint"][part] = "another"
    own.write_facts(facts)
    found = compared(copied, INPUTS, [0], draws=100)[1]
    assert list(found.baselines) == ["prevalence"]
    assert any(note.startswith("baseline age_sex was fitted on another split or cohort") for note in found.notes)
    assert set(BASELINES) >= set(found.baselines)


def test_without_global_nothing_is_tested_against_it(study: Path) -> None:
    found = compared(study, INPUTS[1:], [0], draws=100)[1]
    assert (found.paired, found.paired_baselines) == ([], [])
    assert len(found.paired_all) == 1
    assert set(found.estimates["brainstem"]) == set(METRICS)


@pytest.mark.long
def test_42_runs_of_382_scans_are_compared_and_reported_in_a_minute(tmp_path: Path) -> None:
    """10,000 draws, W&B included. Processor seconds, children's too: other work on the machine adds nothing to them."""
    write_reportable(tmp_path / "big", Made(patients=319, scans=382, baselines=tuple(BASELINES)))
    spent = {}
    for word in ("compare", "report"):
        started = sum(os.times()[:4])
        assert main([word, "--study", "big", "--studies", str(tmp_path)]) == 0
        spent[word] = sum(os.times()[:4]) - started
    assert spent["compare"] < 25
    assert sum(spent.values()) < 60
    assert (tmp_path / "big" / "report.html").stat().st_size > 100_000


def changed(folder: RunFolder, **facts: object) -> None:
    folder.write_facts(folder.facts() | facts)


def flattened(folder: RunFolder, p: float) -> None:
    """Give all scans of a run one probability."""
    path = folder.path / "predictions.tsv"
    head, *rows = (line.split("\t") for line in path.read_text().splitlines())
    path.write_text("\n".join("\t".join(cells) for cells in (head, *([*row[:5], repr(p)] for row in rows))) + "\n")
    folder.write_complete(folder.facts())


def test_what_is_left_out_is_told_with_the_family_it_makes_smaller(copied: Path) -> None:
    notes = compared(copied, INPUTS[:2], [0, 1, 2], draws=100)[1].notes
    assert "brainstem has complete runs and is left out: Holm adjusts for 1 of 2 comparisons with global" in notes
    alone = compared(copied, INPUTS[1:], [0], draws=100)[1].notes
    assert "global has complete runs and is left out" in alone
    assert wanted_seeds(copied, INPUTS, 7, "1") == (
        [1],
        [f"seed {seed} is left out: it is complete, and SEEDS=1" for seed in (0, 2)],
    )
    assert wanted_seeds(copied, INPUTS, 7, "2,1,0")[1] == []


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        ({"git_commit": "f" * 40}, "the 63 runs were made with several commits: unknown (62), ffffffffff (1)"),
        ({"versions": {"torch": "2.14.0"}}, "the 63 runs were made with several versions of torch: unknown (62), 2.14.0 (1)"),
        ({"threads": 4}, "the 63 runs were made with several numbers of threads: unknown (62), 4 (1)"),
        ({"device": "cuda"}, "the 63 runs were made with several devices: unknown (62), cuda (1)"),
        ({"processor": "X"}, "the 63 runs were made with several processors: unknown (62), X (1)"),
    ],
)
def test_runs_made_in_several_ways_are_told(copied: Path, found: StudyComparison, facts: dict, note: str) -> None:
    assert not any("were made with several" in note for note in found.notes)
    changed(RunFolder(copied / "ventricles" / "fold-2" / "seed-1"), **facts)
    notes = compared(copied, INPUTS, [0, 1, 2], draws=100)[1].notes
    assert [told for told in notes if "were made with several" in told] == [note]


def test_a_fold_of_one_probability_is_named_for_networks_and_baselines_but_prevalence(copied: Path) -> None:
    flattened(RunFolder(copied / "ventricles" / "fold-5" / "seed-1"), 0.3)
    flattened(RunFolder(baseline_folder(copied, "age_sex", 2)), 0.3)
    for fold in range(7):
        flattened(RunFolder(baseline_folder(copied, "prevalence", fold)), 0.3)
    found = compared(copied, INPUTS, [0, 1, 2], draws=100)[1]
    told = [note for note in found.notes if "one probability" in note or "one decision" in note]
    assert [note.rstrip("0123456789 scan") for note in told] == [
        "fold 5 of ventricles, seed 1, gave one probability to all it",
        "fold 2 of age_sex gave one probability to all it",
    ]
    assert {pair.first: pair.verdict for pair in found.paired_baselines}["prevalence"] == "no decision to compare (baseline)"
    assert found.details["chance"]["prevalence"]["words"] == "no ranking to judge"


def test_an_input_without_decisions_is_compared_with_nothing(copied: Path) -> None:
    for fold in range(7):
        flattened(RunFolder(copied / "ventricles" / f"fold-{fold}" / "seed-1"), 0.3)
    found = compared(copied, INPUTS, [0, 1, 2], draws=100)[1]
    words = {pair.first: pair.verdict for pair in found.paired}
    assert words["ventricles"] == "no decision to compare"
    assert found.details["chance"]["ventricles"]["words"] == "no ranking to judge"
    assert "ventricles, seed 1 gave all scans of each fold one decision: it is compared with nothing" in found.notes


def test_only_the_primary_family_has_bare_verdicts(found: StudyComparison) -> None:
    assert not any("(" in pair.verdict for pair in found.paired)
    for family, role in (
        (found.paired_auc, "secondary"),
        (found.paired_all, "exploratory"),
        (found.paired_baselines, "baseline"),
        (found.paired_baselines_auc, "baseline, secondary"),
    ):
        assert family
        assert all(pair.verdict.endswith(f" ({role})") for pair in family)
