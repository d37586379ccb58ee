"""A planted network whose output does not depend on the scan fails, and terminal, report, controls and W&B name it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_experiments_tracking import summary

from datamodules.files.tables import read_rows
from experiments.__main__ import main
from experiments.study.run_folder import RunFolder

REASON = "the output does not depend on the scan"
DEAD = "brainstem/fold-1/seed-0"
INPUTS = ["--inputs", "brainstem,global"]


@pytest.fixture(scope="module")
def words(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    places = ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--study", "dying"]
    settings = ["--preset", "demo", "--folds", "3", "--network", "dying_network.DyingCNN", "--trainer.max_epochs", "2"]
    return [*settings, *places, "--studies", str(tmp_path_factory.mktemp("dead"))]


@pytest.fixture(scope="module")
def swept(words: list[str]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    command = [sys.executable, "-m", "experiments"]
    done = subprocess.run(
        [*command, "sweep", *words, *INPUTS, "--jobs", "1"], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"},
    )  # fmt: skip
    return Path(words[-1]) / "dying", done


def test_the_sweep_fails_it_and_trains_the_others(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    study, done = swept
    assert done.returncode == 1, done.stderr
    assert f"failed {DEAD}: {REASON}" in done.stdout
    states = {path.parent.relative_to(study): RunFolder(path.parent).facts() for path in study.glob("*/fold-*/seed-0/run.json")}
    assert len(states) == 6
    for name, facts in states.items():
        assert facts["state"] == ("failed" if str(name) == DEAD else "complete")
    assert not (study / DEAD / "predictions.tsv").exists()


def test_status_says_why(swept, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--study", "dying", "--studies", words[-1]]) == 0
    assert f"failed {DEAD}: {REASON}" in capsys.readouterr().out


def test_compare_and_report_name_it(swept, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    study = swept[0]
    compare = ["compare", "--study", "dying", "--studies", words[-1], *INPUTS, "--draws", "100", "--tracking.mode", "disabled"]
    assert main(compare) == 2
    assert f"1 of 6 runs of dying are not complete ({DEAD}: failed, {REASON}" in capsys.readouterr().err
    assert main([*compare, "--partial"]) == 0
    assert f"{DEAD} failed, {REASON}" in capsys.readouterr().out
    assert main(["report", "--study", "dying", "--studies", words[-1]]) == 0
    assert f"{DEAD} failed, {REASON}" in (study / "report.html").read_text(encoding="utf-8")


def test_w_and_b_holds_why(swept) -> None:
    study = swept[0]
    found = summary(study / DEAD)
    assert found["completed"] is False
    assert found["failure"].startswith(REASON)


def test_controls_name_it_and_score_none_of_it(
    swept, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    chosen = ["--controls", "image,mask_only", "--inputs", "brainstem,global", "--draws", "100"]
    assert main(["controls", *words, *chosen]) == 0
    rows = {(row["control"], row["input"]): row for row in read_rows(swept[0] / "controls.tsv")}
    for control in ("image", "mask_only"):
        assert REASON in rows[control, "brainstem"]["reason"]
        assert rows[control, "brainstem"]["auc"] == ""
    assert rows["image", "global"]["auc"]
    assert not rows["image", "global"]["reason"]
    assert REASON in capsys.readouterr().out
