"""Subgroups, robustness and the table of scans, on a study that was never trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import Made, write_study
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from datamodules.cohort.target import Target
from datamodules.files.sealed import read_sealed
from experiments.analysis.baseline_files import BASELINES, SOMETIMES
from experiments.analysis.compare import compared
from experiments.analysis.pooling import Pooled, pool_inputs
from experiments.analysis.robustness import label_threshold, relabelled, robustness_subsets, worst_errors, write_robustness
from experiments.analysis.subgroups import subgroup_levels, write_subgroups
from experiments.reporting.failure_chapter import _facts
from experiments.statistics.constant import LEAST_PATIENTS
from experiments.statistics.predictions import Predictions
from experiments.study.record import Mask, StudyRecord, write_record
from experiments.study.run_folder import ResultsError
from experiments.study.runs import Run
from experiments.study.scan_table import read_scans, rows_in

INPUTS = ["global", "ventricles"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "made"
    write_study(folder, Made(inputs=INPUTS, patients=63, scans=80))
    return folder


@pytest.fixture(scope="module")
def tables(study: Path) -> dict[str, list[Pooled]]:
    return compared(study, INPUTS, [0], draws=100)[0]


@pytest.fixture(scope="module")
def groups(study: Path, tables: dict[str, list[Pooled]]) -> dict:
    write_subgroups(study, tables, 200)
    return json.loads((study / "subgroups.json").read_text())


@pytest.fixture(scope="module")
def robust(study: Path, tables: dict[str, list[Pooled]]) -> dict:
    write_robustness(study, tables, 200)
    return json.loads((study / "robustness.json").read_text())


def test_the_levels_of_a_variable_hold_every_scan_once(groups: dict) -> None:
    variables = {one["variable"] for one in groups["groups"]}
    assert variables == {"sex", "field_strength", "site", "age", "days"}
    assert groups["absent"] == ["scanner", "lesion_ml"]
    for variable in variables:
        own = [one for one in groups["groups"] if one["variable"] == variable]
        assert sum(one["scans"] for one in own) == 80
        assert 2 <= len(own) <= 3


def test_a_subgroups_score_is_that_of_its_rows(study: Path, tables: dict[str, list[Pooled]], groups: dict) -> None:
    test, scans = tables["ventricles"][0].test, read_scans(study)
    male = scans.text("sex")[rows_in(scans, test)] == "M"
    found = next(one for one in groups["groups"] if (one["variable"], one["level"]) == ("sex", "M"))
    assert (found["scans"], found["events"]) == (male.sum(), test.y[male].sum())
    value = found["inputs"]["ventricles"]["balanced_accuracy"]
    assert value["value"] == pytest.approx(balanced_accuracy_score(test.y[male], test.decision[male]))
    assert value["low"] < value["value"] < value["high"]


def test_few_patients_have_no_interval_and_one_class_no_score(tables: dict[str, list[Pooled]], study: Path) -> None:
    from experiments.analysis.subgroups import part
    from experiments.statistics.significance import draw_patient_weights

    test = tables["global"][0].test
    weights = draw_patient_weights(test, 50, np.random.default_rng(0))
    few = np.isin(
        test.patient, [*np.unique(test.patient[test.y == 1])[: LEAST_PATIENTS - 1], *np.unique(test.patient[test.y == 0])]
    )
    found = part(tables, few, weights)
    assert found["note"] == "fewer than 5 patients of a class, no interval"
    assert found["inputs"]["global"]["balanced_accuracy"]["low"] is None
    assert found["inputs"]["global"]["balanced_accuracy"]["value"] is not None
    assert part(tables, test.y == 0, weights)["inputs"] == {}


def test_unknown_values_are_a_level_of_their_own(study: Path) -> None:
    scans = read_scans(study)
    sex = scans.columns["sex"].copy()
    sex[:4] = ""
    age = scans.columns["age"].copy()
    age[4:7] = "n/a"
    changed = type(scans)(**{**vars(scans), "columns": {**scans.columns, "sex": sex, "age": age}})
    place = np.arange(80)
    levels = {
        (variable, level): int(rows.sum()) for variable, level, rows in subgroup_levels(changed, np.full(80, np.nan), place)
    }
    assert levels["sex", "unknown"] == 4
    assert levels["age", "unknown"] == 3


def test_another_edss_threshold_scores_the_same_predictions(study: Path, tables: dict[str, list[Pooled]], robust: dict) -> None:
    test, scans = tables["global"][0].test, read_scans(study)
    y = (scans.value[rows_in(scans, test)] >= 2.0).astype(int)
    found = next(one for one in robust["edss"] if one["threshold"] == 2.0)
    assert found["events"] == y.sum()
    assert found["inputs"]["global"]["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(y, test.decision))
    pairs = [(np.sum(y[test.fold == k]) * np.sum(1 - y[test.fold == k]), k) for k in range(7)]
    areas = [roc_auc_score(y[test.fold == k], test.p[test.fold == k]) for count, k in pairs if count]
    wanted = np.average(areas, weights=[count for count, _ in pairs if count])
    assert found["inputs"]["global"]["auc"]["value"] == pytest.approx(wanted)
    assert [one["threshold"] for one in robust["edss"]] == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]
    assert relabelled(tables, scans.value[rows_in(scans, test)], 6.5, 50)["note"] == "one class only, no score"


def test_subsets_leave_out_what_they_say(study: Path, robust: dict) -> None:
    scans = read_scans(study)
    subsets = dict(robustness_subsets(scans, np.arange(80), label_threshold(study, scans)))
    assert list(subsets) == [
        "all scans",
        "one scan a patient, the first",
        "assessed within 30 days",
        "without EDSS 2.5 and 3",
    ]
    single = subsets["one scan a patient, the first"]
    assert (single.sum(), set(scans.session[single])) == (63, {"ses-1"})
    assert not np.isin(scans.value[subsets["without EDSS 2.5 and 3"]], (2.5, 3.0)).any()
    assert [one["name"] for one in robust["subsets"]] == list(subsets)


@pytest.mark.parametrize(("threshold", "name"), [(1.0, "without EDSS 1"), (1.5, "without EDSS 1 and 1.5")])
def test_a_subset_names_steps_of_the_scale_alone(study: Path, threshold: float, name: str) -> None:
    scans = read_scans(study)
    low = replace(scans, value=np.where(np.arange(80) % 2, 1.0, scans.value))
    assert list(dict(robustness_subsets(low, np.arange(80), threshold)))[-1] == name


def test_the_threshold_is_that_of_the_study_record(study: Path, tmp_path: Path) -> None:
    scans = read_scans(study)
    assert label_threshold(tmp_path, scans) == 3.0
    high = replace(scans, label=(scans.value >= 4.0).astype(np.int64))
    assert label_threshold(tmp_path, high) == 4.0
    record = StudyRecord(
        Path("cohort"), Path("store"), Target(threshold=3.5), "refuse", 7, 0, "split", "cohort", Mask(), {"global": ()}
    )
    write_record(tmp_path, record)
    assert label_threshold(tmp_path, high) == 3.5


def test_a_lower_edss_stays_the_positive_class_at_every_threshold(study: Path, tables: dict[str, list[Pooled]]) -> None:
    scans = read_scans(study)
    above = relabelled(tables, scans.value[rows_in(scans, tables["global"][0].test)], 2.0, 100)
    turned = {
        name: [replace(t, test=replace(t.test, y=1 - t.test.y, p=1 - t.test.p, decision=1 - t.test.decision)) for t in seeds]
        for name, seeds in tables.items()
    }
    below = relabelled(turned, scans.value[rows_in(scans, tables["global"][0].test)], 2.0, 100, below=True)
    assert below["events"] == above["scans"] - above["events"]
    for metric in ("auc", "balanced_accuracy"):
        assert below["inputs"]["global"][metric]["value"] == pytest.approx(above["inputs"]["global"][metric]["value"])


def test_the_worst_errors_are_the_most_confident_wrong_decisions() -> None:
    pred = Predictions(
        np.array(["a", "b", "c", "d"]), np.zeros(4, dtype=int), np.array([1, 0, 0, 1]), np.array([0.3, 0.9, 0.2, 0.01]),
        np.array([0, 1, 0, 0]),
    )  # fmt: skip
    found = worst_errors([Pooled(pred, {}, {0: 0.4})], np.array([3.0, 2.0, 1.0, 6.0]))
    assert [(one["patient"], one["value"]) for one in found] == [("d", 6.0), ("b", 2.0), ("a", 3.0)]


@pytest.mark.parametrize("column", ["y", "p", "threshold", "fold"])
def test_a_target_of_any_name_leaves_the_facts_of_an_error_as_they_are(column: str) -> None:
    pred = Predictions(np.array(["a", "b"]), np.full(2, 6), np.array([1, 0]), np.array([0.3, 0.2]), np.zeros(2, dtype=int))
    (error,) = worst_errors([Pooled(pred, {}, {6: 0.4})], np.array([7.0, 2.0]))
    told = _facts(error, {}, b"k" * 32, Target(column=column, threshold=5.0))
    assert told[1:] == ["missed", "7", None, None, "0.30", "0.40", 6]


def test_a_baseline_has_no_worst_errors(study: Path, tmp_path: Path) -> None:
    tables = pool_inputs(study, {"global": [Run("global", fold, 0) for fold in range(7)]})
    copied = Path(shutil.copytree(study, tmp_path / "copy"))
    write_robustness(copied, {**tables, **dict.fromkeys((*BASELINES, *SOMETIMES), tables["global"])}, 100)
    assert list(read_sealed(copied / "robustness.json", "again")["worst_errors"]) == ["global"]


def test_a_prediction_outside_the_table_is_named(study: Path) -> None:
    pred = Predictions(
        np.array(["sub-x", "sub-000"]), np.zeros(2, dtype=int), np.array([0, 1]), np.full(2, 0.5), np.ones(2, dtype=int)
    )
    with pytest.raises(ResultsError, match=r"scan sub-x  was predicted and is not in the study's cohort\.tsv"):
        rows_in(read_scans(study), pred)


def test_columns_are_found_by_their_other_names(study: Path) -> None:
    scans = read_scans(study)
    columns = {"Gender": np.array(["Female", "m", "?"]), "AGE": np.array(["31,5", "40 years", ""])}
    table = type(scans)(scans.patient[:3], scans.session[:3], scans.value[:3], scans.days[:3], scans.label[:3], columns)
    assert table.text("sex").tolist() == ["F", "M", ""]
    np.testing.assert_array_equal(table.number("age"), [31.5, 40.0, np.nan])
    assert not table.has("site")
