"""What the demo says of the truth that was planted in its cohort, and that the cohort is the one it speaks of."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from made_study import Made, write_study

from datamodules.phantoms.presets import PRESETS
from datamodules.phantoms.write import write_phantom_cohort
from experiments.__main__ import main
from experiments.analysis.comparison import StudyComparison, read_comparison
from experiments.commands.demo import explanation
from experiments.statistics.paired import Comparison
from experiments.statistics.significance import Estimate
from experiments.study.demo_cohort import DEMO, PLANTED, require_demo_cohort
from experiments.study.recorded import DEMO_COHORT
from regions.catalog import REGIONS

INPUTS = tuple(REGIONS)


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05, value, 0.1, 7)


def comparison(accuracy: dict[str, float], different: set[str], above: set[str]) -> StudyComparison:
    estimates = {name: {"balanced_accuracy": estimate(accuracy.get(name, 0.5))} for name in INPUTS}
    paired = [
        Comparison(
            name, "global", "balanced_accuracy", estimate(accuracy.get(name, 0.5) - accuracy["global"]), 0.01, 0.01, 0.01,
            "different" if name in different else "not distinguishable",
        )
        for name in INPUTS[1:]
    ]  # fmt: skip
    chance = {name: {"words": "above chance" if name in above else "not distinguishable from chance"} for name in INPUTS}
    made = StudyComparison("demo", 0, 7, 100, 160, 140, 46, estimates, paired, {}, [])
    return replace(made, details={"chance": chance | {"age_sex": {"words": "above chance"}}})


OTHERS = set(INPUTS) - {"global", PLANTED}


def test_the_demo_s_cohort_differs_in_the_planted_region_alone() -> None:
    preset = PRESETS[DEMO.preset]
    assert set(preset.shape_effects) | set(preset.intensity_effects) == {PLANTED}
    assert PLANTED in REGIONS


@pytest.mark.parametrize("better", [set(), {PLANTED}], ids=["as good as global", "better than global"])
def test_a_truth_that_was_found_is_named(better: set[str]) -> None:
    lines = explanation(comparison({"global": 0.85, PLANTED: 0.91}, OTHERS | better, {"global", PLANTED}), PLANTED)
    assert "AUC above chance in global, brainstem;" in lines[1]
    assert "ventricles (-0.35)" in lines[1]
    assert lines[2].startswith("so the truth was found: of the regions the brainstem alone")
    assert "(0.91 against 0.85)" in lines[2]


@pytest.mark.parametrize(
    ("different", "above", "pointed"),
    [
        (OTHERS, {"global"}, "none"),
        (OTHERS - {"ventricles"}, {"global", PLANTED, "ventricles"}, "ventricles, brainstem"),
        (OTHERS | {PLANTED}, {"global", PLANTED}, "none"),
        (set(), {"ventricles"}, "ventricles"),
    ],
    ids=["planted at chance", "another one too", "planted is worse than global", "a wrong one"],
)
def test_a_truth_that_was_not_found_is_not_claimed(different: set[str], above: set[str], pointed: str) -> None:
    lines = explanation(comparison({"global": 0.85, PLANTED: 0.6}, different, above), PLANTED)
    assert lines[2] == f"so the truth was not found: the statistics point to {pointed}; more patients are needed"


@pytest.mark.parametrize("options", [None, {"preset": "coll_like", "patients": 84}, asdict(DEMO) | {"seed": 1}])
def test_another_cohort_in_the_demo_s_place_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: dict[str, object] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cohorts" / "demo").mkdir(parents=True)
    if options is not None:
        content = json.dumps({"GeneratedBy": [{"Options": options}]})
        (tmp_path / "cohorts" / "demo" / "dataset_description.json").write_text(content)
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert "cohorts/demo is not the demo's cohort of this version" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "studies").exists()


def test_the_demo_s_own_cohort_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_demo_cohort(DEMO_COHORT)
    write_phantom_cohort(DEMO_COHORT, replace(DEMO, patients=4, scans=4, spacing_mm=8.0))
    description = DEMO_COHORT / "dataset_description.json"
    content = json.loads(description.read_text())
    assert content["GeneratedBy"][0]["Options"].keys() == asdict(DEMO).keys()
    content["GeneratedBy"][0]["Options"] = asdict(DEMO)
    description.write_text(json.dumps(content))
    require_demo_cohort(DEMO_COHORT)


@pytest.mark.parametrize("inputs", [["global", "brainstem"], ["global", "ventricles"]])
def test_some_of_the_inputs_are_compared_alone(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    write_study(tmp_path / "studies" / "demo", Made(inputs=inputs))
    monkeypatch.setattr("experiments.commands.demo.sweep.run", lambda *words: 0)
    monkeypatch.setattr("experiments.commands.demo.baselines.run", lambda *words: 0)
    monkeypatch.setattr("experiments.commands.demo.report.write", lambda *words: None)
    assert main(["demo", "--inputs", ",".join(inputs)]) == 0
    assert list(read_comparison(tmp_path / "studies" / "demo").estimates) == inputs
    assert ("planted: " in capsys.readouterr().out) == ("brainstem" in inputs)
