"""Lightning's Trainer takes from a user what leaves the study's design alone; the rest is refused in one line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from rich.console import Console

from experiments.__main__ import main
from experiments.study.parser import build_parser
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.study.study import Study, StudyOptions
from experiments.study.trainer_options import CHOOSING, TRAINER_OPTIONS, SettingsError, refused_options
from experiments.training.assemble import assemble
from experiments.training.run import fold
from experiments.training.trainer import make_trainer

VALUES = {
    "logger": "false", "callbacks": "[]", "fast_dev_run": "true", "limit_val_batches": "1", "limit_test_batches": "0.5",
    "limit_predict_batches": "2", "overfit_batches": "1", "val_check_interval": "0.5", "check_val_every_n_epoch": "2",
    "num_sanity_val_steps": "2", "log_every_n_steps": "5", "enable_checkpointing": "false", "use_distributed_sampler": "false",
    "barebones": "true", "reload_dataloaders_every_n_epochs": "1", "default_root_dir": "elsewhere",
    "enable_autolog_hparams": "false", "model_registry": "somewhere", "plugins": "[]",
}  # fmt: skip
"""A value that is not Lightning's default for each option that cannot be set."""
ALLOWED = {
    "accelerator": "cpu", "strategy": "ddp", "devices": "2", "num_nodes": "2", "precision": "32-true", "max_epochs": "3",
    "min_epochs": "2", "max_steps": "10", "min_steps": "5", "max_time": "00:01:00:00", "limit_train_batches": "2",
    "accumulate_grad_batches": "2", "gradient_clip_val": "1.0", "gradient_clip_algorithm": "norm", "deterministic": "true",
    "benchmark": "true", "inference_mode": "false", "sync_batchnorm": "true", "detect_anomaly": "true", "profiler": "simple",
    "enable_progress_bar": "true", "enable_model_summary": "true",
}  # fmt: skip


def test_every_option_of_the_trainer_is_in_one_of_the_lists() -> None:
    assert set(VALUES) == set(refused_options())
    assert set(ALLOWED) == set(TRAINER_OPTIONS)
    assert {*VALUES, *ALLOWED} == set(inspect.signature(pl.Trainer).parameters)
    assert set(CHOOSING) <= set(VALUES)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("form", ["option", "option=", "config", "group"])
def test_options_that_change_the_design_are_refused_in_one_line(
    name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value = VALUES[name]
    (tmp_path / "mine.yaml").write_text(f"trainer:\n  {name}: {value}\n")
    words = {
        "option": [f"--trainer.{name}", value],
        "option=": [f"--trainer.{name}={value}"],
        "config": ["--config", "mine.yaml"],
        "group": ["--trainer", f"{{{name}: {value}}}"],
    }[form]
    assert main(["fold", "--fold", "0", "--roi", "global", "--preset", "demo", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith(f"regionwise: trainer.{name} cannot be set: ")
    assert ("predicted" in error) == (name in CHOOSING)
    assert all(allowed in error for allowed in TRAINER_OPTIONS)
    assert not list(tmp_path.glob("stud*"))


@pytest.mark.parametrize("name", ALLOWED)
def test_other_options_can_be_set(name: str) -> None:
    settings = parse_settings(["--preset", "demo", f"--trainer.{name}", ALLOWED[name]])
    assert str(settings.plain()["trainer"][name]).lower().endswith(ALLOWED[name]) or name in ("max_time", "profiler")


def test_a_recorded_config_is_read_again(tmp_path: Path) -> None:
    settings = parse_settings(["--preset", "demo", "--trainer.limit_train_batches", "1"])
    (tmp_path / "config.yaml").write_text(settings.yaml())
    assert set(yaml.safe_load(settings.yaml())["trainer"]) & set(VALUES)  # at their defaults, which changes nothing
    assert parse_settings(["--config", str(tmp_path / "config.yaml")]).hash() == settings.hash()


def test_help_lists_what_can_be_set_only() -> None:
    text = StringIO()
    build_parser(described=True).print_help(text)
    listed = [line for line in text.getvalue().split() if line.startswith("--trainer.")]
    names = {word.removeprefix("--trainer.").split(".")[0].rstrip(",+") for word in listed}
    assert names == set(TRAINER_OPTIONS)
    assert "<function" not in text.getvalue()


@pytest.mark.parametrize("first", ["rich.console", "pytorch_lightning"])
def test_one_is_one_batch_whatever_was_imported_before(first: str) -> None:
    """Python keeps one order of ``Union[int, float]`` for a process, that of the first module which writes it."""
    code = (
        f"import {first}\nfrom experiments.study.settings import parse_settings\n"
        "for text in ('1', '1.0', '3', '0.5'):\n"
        "    settings = parse_settings(['--preset', 'demo', '--trainer.limit_train_batches', text])\n"
        "    print(repr(settings.values.trainer.limit_train_batches), settings.plain()['trainer']['limit_train_batches'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 1", "1.0 1.0", "3 3", "0.5 0.5"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        *[
            ("limit_train_batches", text, "neither a whole number of batches")
            for text in ("0", "0.0", "-1", "1.5", "true", "x", "nan")
        ],
        *[("max_epochs", text, f"trainer.max_epochs is {text}; give 1 or more") for text in ("0", "-1")],
        ("max_epochs", "null", "trainer.max_epochs is None; give 1 or more"),
        ("accumulate_grad_batches", "0", "trainer.accumulate_grad_batches is 0; give 1 or more"),
    ],
)
def test_numbers_that_train_nothing_are_refused(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        parse_settings(["--preset", "demo", f"--trainer.{name}", value])
    assert "\n" not in str(caught.value)


@pytest.fixture
def train(study: Study, study_options: StudyOptions, tmp_path: Path) -> Callable[..., int]:
    """``train(*words)`` trains brainstem, fold 0, two epochs at most, and returns the status."""

    def run(*words: str) -> int:
        common = ["--preset", "demo", "--cohort", str(study_options.cohort), "--tracking.mode", "disabled"]
        settings = parse_settings([*common, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "2", *words])
        return fold(settings, replace(study, folder=tmp_path), Run("brainstem", 0, 0), Console(file=StringIO()), quiet=True)

    return run


@pytest.mark.parametrize(("text", "batches"), [("1", 1), ("2", 2), ("1.0", 3), ("0.34", 1)])
def test_the_limit_reaches_the_trainer(
    study: Study, study_options: StudyOptions, tmp_path: Path, text: str, batches: int
) -> None:
    common = ["--preset", "demo", "--cohort", str(study_options.cohort), "--tracking.mode", "disabled"]
    words = [*common, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", text]
    settings, run = parse_settings(words), Run("brainstem", 0, 0)
    parts = assemble(settings, replace(study, folder=tmp_path), run, RunFolder(tmp_path), Console(file=StringIO()), True)
    parts.trainer.fit(parts.module, datamodule=parts.data)
    parts.close(True, "")
    assert parts.trainer.num_training_batches == batches
    assert parts.trainer.global_step == batches
    assert parts.best.best_model_score is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trainer.max_steps", "1"], "no epoch was finished, so none could be chosen"),
        (["--trainer.max_time", "00:00:00:00"], "no epoch was finished, so none could be chosen"),
        (["--trainer.limit_train_batches", "0.01"], "Please increase the `limit_train_batches` argument"),
        (["--trainer.profiler", "swift"], "can only be one of"),
        (["--trainer.devices", "0"], "is not a valid input"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_lightning_refuses_ends_in_one_line(
    train: Callable[..., int], tmp_path: Path, words: list[str], told: str
) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        train(*words)
    assert "\n" not in str(caught.value)
    assert RunFolder(Run("brainstem", 0, 0).folder(tmp_path)).facts()["state"] == "failed"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"accelerator": "gpus"}, "invalid accelerator name: `accelerator='gpus'`"),
        ({"strategy": "dpp"}, "invalid strategy name: `strategy='dpp'`"),
        ({"devices": "two"}, "should be an int > 0"),
        ({"max_time": {"hour": 1}}, "'hour'"),
    ],
)
def test_an_option_that_lightning_does_not_know_is_a_mistake_in_one_line(options: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        make_trainer({"accelerator": "cpu", **options})
    assert "\n" not in str(caught.value)


def test_steps_that_end_within_a_later_epoch_keep_the_best_whole_one(train: Callable[..., int], tmp_path: Path) -> None:
    assert train("--trainer.max_steps", "5") == 0
    assert RunFolder(Run("brainstem", 0, 0).folder(tmp_path)).facts()["best_epoch"] == 0
