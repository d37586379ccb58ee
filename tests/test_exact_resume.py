"""A run that is killed, wherever that happens, ends with the very files of an unbroken run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
import torch
from rich.console import Console

from experiments.controls import training as controls_training
from experiments.controls.cases import case_of
from experiments.controls.plan import ControlRun
from experiments.runtime.interruption import RESUME, Interrupted
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import Study, StudyOptions
from experiments.training import in_memory, progress
from experiments.training.run import fold
from regions.catalog import get_region

RUN = Run("brainstem", 1, 0)
OPTIONS = {
    "data.batch_size": "4",
    "data.augmentation": "{flip: 0.5, shift_mm: 6, noise: 0.1, gamma: 0.1, rotate_deg: 5, scale: 0.05}",
    "network.init_args.width": "4",
    "network.init_args.dropout": "0.3",
    "model.learning_rate": "0.01",
    "model.lr_decay": "0.9",
    "trainer.accelerator": "cpu",
    "trainer.accumulate_grad_batches": "2",
    "trainer.max_epochs": "7",
    "early_stopping.patience": "3",
    "tracking.mode": "disabled",
}
DRIVER = """
import os, signal, sys
from pathlib import Path

import torch

from experiments.__main__ import main
from experiments.training import progress

wanted, log = int(sys.argv[1]), Path(sys.argv[2])
events = []
replace, save, stop = Path.replace, torch.save, progress.stop_if_interrupted

def event(name):
    events.append(name)
    if len(events) == wanted:
        with log.open("a") as file:
            file.write(name + "\\n")
        os.kill(os.getpid(), signal.SIGKILL)

def replace_and_count(self, target):
    event(f"before {Path(target).name} is in place")
    result = replace(self, target)
    event(f"after {Path(target).name} is in place")
    return result

def save_and_count(content, file):
    file.write(b"half a checkpoint")
    file.flush()
    event("in the middle of writing a checkpoint")
    file.seek(0)
    file.truncate()
    save(content, file)

def batch_and_count():
    event("after a batch")
    stop()

Path.replace, torch.save, progress.stop_if_interrupted = replace_and_count, save_and_count, batch_and_count
status = main(["fold", *sys.argv[3:]])
log.with_suffix(".count").write_text(str(len(events)))
sys.exit(status)
"""


def words() -> list[str]:
    return [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def settings(study_options: StudyOptions) -> Settings:
    return parse_settings(["--preset", "demo", "--cohort", str(study_options.cohort), *words()])


def train(settings: Settings, study: Study, folder: Path) -> int:
    return fold(settings, replace(study, folder=folder), RUN, Console(file=StringIO()), quiet=True)


@pytest.fixture(scope="module")
def unbroken(settings: Settings, study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study in which the run was never interrupted."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert train(settings, study, folder) == 0
    return folder


def history(folder: RunFolder) -> list[list[str]]:
    """The learning curves without the times."""
    rows = [line.split("\t") for line in (folder.path / "history.tsv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if not name.startswith("throughput")]
    return [[row[i] for i in kept] for row in rows]


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = RunFolder(RUN.folder(one)), RunFolder(RUN.folder(other))
    for name in ("predictions.tsv", "metrics.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    assert history(first) == history(second)
    left, right = (torch.load(folder.best, weights_only=True) for folder in (first, second))
    assert left["epoch"] == right["epoch"]
    assert left["state_dict"].keys() == right["state_dict"].keys()
    assert all(torch.equal(value, right["state_dict"][name]) for name, value in left["state_dict"].items())
    facts = [folder.facts() for folder in (first, second)]
    for name in ("state", "threshold", "best_epoch", "epochs"):
        assert facts[0][name] == facts[1][name], name


def interrupt_at(monkeypatch: pytest.MonkeyPatch, moments: Iterator[int], where: ModuleType = progress) -> None:
    """Interrupt each attempt after as many batches as the next moment says."""
    left = next(moments)

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Interrupted("test")

    monkeypatch.setattr(where, "stop_if_interrupted", count)


def test_the_run_of_these_tests_has_something_to_lose(unbroken: Path) -> None:
    folder = RunFolder(RUN.folder(unbroken))
    rows = history(folder)
    assert 3 < len(rows) - 1 <= 7
    assert {"train/loss", "tuning/loss", "learning_rate"} <= set(rows[0])
    assert all(all(value for value in row) for row in rows)
    assert [row[0] for row in rows[1:]] == [str(epoch) for epoch in range(len(rows) - 1)]


# Six batches an epoch: 5 of training, then 1 of tuning.
@pytest.mark.parametrize(
    "moments", [[1, 9], [14, 8, 9], [24]], ids=["first batch", "again and again", "last batch of an epoch"]
)
def test_a_run_that_is_interrupted_and_goes_on_ends_like_an_unbroken_one(
    settings: Settings, study: Study, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: list[int]
) -> None:
    for moment in moments:
        interrupt_at(monkeypatch, iter([moment]))
        assert train(settings, study, tmp_path) == RESUME
        monkeypatch.undo()
    assert train(settings, study, tmp_path) == 0
    assert_equal_runs(unbroken, tmp_path)


@pytest.mark.parametrize("objective", ["ordinal", "regression"])
def test_an_objectives_own_weights_go_on_where_they_stood(
    study: Study, study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    more = ["--model.objective", objective, "--model.label_noise", "0.1", "--model.weight_decay", "0.1"]
    settings = parse_settings(["--preset", "demo", "--cohort", str(study_options.cohort), *words(), *more])
    assert train(settings, study, tmp_path / "whole") == 0
    for moment in (14, 8):
        interrupt_at(monkeypatch, iter([moment]))
        assert train(settings, study, tmp_path / "parts") == RESUME
        monkeypatch.undo()
    assert train(settings, study, tmp_path / "parts") == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")
    state = torch.load(RunFolder(RUN.folder(tmp_path / "parts")).best, weights_only=True)["state_dict"]
    assert [name for name in state if name.startswith("objective.")] == [
        {"ordinal": "objective.gaps", "regression": "objective.log_scale"}[objective]
    ]


def test_a_training_in_memory_that_keeps_its_last_epoch_ends_like_an_unbroken_one(
    settings: Settings, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(study, ControlRun("image", RUN.input, 0, RUN.fold), get_region(RUN.input), "template", 0.0, 0)
    whole, facts = controls_training.train(settings, case, RUN.fold, 0)
    last = tmp_path / "last.ckpt"
    for moment in (3, 14, 8):
        interrupt_at(monkeypatch, iter([moment]), in_memory)
        with pytest.raises(Interrupted):
            controls_training.train(settings, case, RUN.fold, 0, last)
        monkeypatch.undo()
        assert last.is_file() == (moment != 3)  # the first is stopped within the first epoch
    parts, resumed = controls_training.train(settings, case, RUN.fold, 0, last)
    assert parts.p.tolist() == whole.p.tolist()
    assert {**resumed, "seconds": 0} == {**facts, "seconds": 0}
    assert torch.load(last, weights_only=True)["callbacks"]["Stopwatch"]["seconds"][0] < resumed["seconds"]


def test_a_run_goes_on_from_a_folder_that_was_moved(
    settings: Settings, study: Study, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, iter([25]))
    assert train(settings, study, tmp_path / "here") == RESUME
    monkeypatch.undo()
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert train(settings, study, tmp_path / "there") == 0
    assert_equal_runs(unbroken, tmp_path / "there")


def test_a_run_that_was_killed_between_training_and_tables_ends_like_an_unbroken_one(
    settings: Settings, study: Study, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.training import fit

    def fail(*_: object) -> None:
        raise Interrupted("test")

    monkeypatch.setattr(fit, "predict", fail)
    assert train(settings, study, tmp_path) == RESUME
    monkeypatch.undo()
    assert train(settings, study, tmp_path) == 0
    assert_equal_runs(unbroken, tmp_path)


def attempt(options: StudyOptions, studies: Path, kill_at: int, more: list[str] | None = None) -> int:
    """Start the run as a process that kills itself at its n-th event; returns the process's status."""
    studies.parent.mkdir(exist_ok=True)
    driver = studies.parent / "driver.py"
    driver.write_text("if __name__ == '__main__':\n" + textwrap.indent(DRIVER, "    "))  # processes it spawns import it
    command = [sys.executable, str(driver), str(kill_at), str(studies.parent / "killed.txt"), "--quiet"]
    command += ["--preset", "demo", "--cohort", str(options.cohort), "--store", str(options.store), "--studies", str(studies)]
    command += ["--study", "s", "--roi", RUN.input, "--fold", str(RUN.fold), *words(), *(more or [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, env=environment, check=False, timeout=300).returncode


def kill_and_go_on(options: StudyOptions, studies: Path, moments: list[int]) -> list[str]:
    """Kill one attempt after the other, then let the run end; returns where it was killed."""
    for moment in moments:
        status = attempt(options, studies, moment)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    else:
        assert attempt(options, studies, 0) == 0
    log = studies.parent / "killed.txt"
    return log.read_text().splitlines() if log.is_file() else []


@pytest.mark.slow
def test_a_killed_process_goes_on_and_ends_like_an_unbroken_one(
    study: Study, study_options: StudyOptions, unbroken: Path, tmp_path: Path
) -> None:
    killed = kill_and_go_on(study_options, tmp_path / "studies", [14, 37])
    assert len(killed) == 2
    assert_equal_runs(unbroken, tmp_path / "studies" / "s")


TORCHIO = ["--data.transforms+=torchio.RandomBiasField", "--data.transforms.coefficients", "0.3"]
TORCHIO += ["--data.transforms+=torchio.RandomAffine", "--trainer.max_epochs", "3"]


@pytest.mark.slow
def test_an_interrupted_run_with_torchio_transforms_ends_like_an_unbroken_one(
    study: Study, study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_settings(["--preset", "demo", "--cohort", str(study_options.cohort), *words(), *TORCHIO])
    assert train(settings, study, tmp_path / "whole") == 0
    interrupt_at(monkeypatch, iter([9]))
    assert train(settings, study, tmp_path / "parts") == RESUME
    monkeypatch.undo()
    assert train(settings, study, tmp_path / "parts") == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.long
def test_a_killed_run_with_torchio_transforms_ends_like_an_unbroken_one(
    study: Study, study_options: StudyOptions, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole" / "studies", tmp_path / "killed" / "studies"
    assert attempt(study_options, whole, 0, TORCHIO) == 0
    assert attempt(study_options, killed, 40, TORCHIO) == -signal.SIGKILL
    assert RunFolder(RUN.folder(killed / "s")).last.is_file()
    assert attempt(study_options, killed, 0, TORCHIO) == 0
    assert_equal_runs(whole / "s", killed / "s")


@pytest.mark.long
def test_ten_kills_at_random_moments_change_nothing(
    study: Study, study_options: StudyOptions, unbroken: Path, tmp_path: Path
) -> None:
    assert attempt(study_options, tmp_path / "whole" / "studies", 0) == 0
    assert_equal_runs(unbroken, tmp_path / "whole" / "studies" / "s")
    events = int((tmp_path / "whole" / "killed.count").read_text())
    rng, killed, rounds = random.Random(5), [], 0
    while len(killed) < 10:
        rounds += 1
        studies = tmp_path / f"round-{rounds}" / "studies"
        killed += kill_and_go_on(study_options, studies, [rng.randrange(1, events) for _ in range(3)])
        assert_equal_runs(unbroken, studies / "s")
    print(json.dumps(killed, indent=1))
