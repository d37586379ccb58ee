"""Every command: its options are written once, its help, the Makefile and docs/commands.md follow; mistakes are one line."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from experiments.__main__ import WORDS, main
from experiments.study.arguments import CommandOptions, StudyChoice, descriptions, option_of, own_options, read, split
from experiments.study.early import SIGNATURES, check_early
from experiments.study.parser import NETWORKS, build_parser, settings_help
from experiments.study.runs import PlanError
from lightning_modules.errors import ModelError
from regions.errors import UserError

ROOT = Path(__file__).parents[1]
DOCS = runpy.run_path(str(ROOT / "docs" / "commands.py"))
OPTIONS: dict[str, type[CommandOptions]] = {word: DOCS["options_of"](word) for word in WORDS}

Call = Callable[..., tuple[int, str, str]]

NONSENSE_VALUES = {
    "demo": ["--jobs", "many", "--trainer.max_epochs", "many"],
    "phantoms": ["--out", "x", "--patients", "many"],
    "adopt": ["--dataset", "adni", "--from", "x", "--out", "y"],
    "prepare": ["--bids", "x", "--brain", "by_hand"],
    "check": ["--label.threshold", "11"],
    "core": ["--out", "x", "--share", "0.5"],
    "fold": ["--roi", "global", "--fold", "9"],
    "sweep": ["--inputs", "gobal"],
    "baselines": ["--workers", "many"],
    "compare": ["--draws", "many"],
    "controls": ["--draws", "many"],
    "explain": ["--study", "x", "--copies", "many"],
    "external": ["--study", "x", "--cohort", "y", "--broken", "keep"],
    "bundle": ["--study", "a/b", "--input", "global"],
    "predict": ["--study", "x", "--scans", "y", "--out", "z", "--level", "0.99"],
    "site": ["--bundle", "x", "--cohort", "y", "--out", "z", "--least", "few"],
    "report": ["--study", "a/b"],
    "work": ["--follow", "me"],
    "sync": ["--study", "a/b"],
    "dashboard": ["--study", "a/b"],
    "leet": ["--study", "a/b"],
    "submit": ["--dry_run", "--mem", "much"],
    "status": ["--study", "a/b"],
    "cancel": ["--study", "a/b"],
    "plan": ["--format", "json"],
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def is_plain(status: int, out: str, err: str) -> bool:
    return status == 2 and err.startswith("regionwise: ") and len(err.splitlines()) in (1, 2) and "Traceback" not in out + err


@pytest.mark.parametrize("word", WORDS)
def test_an_option_that_does_not_exist_is_one_line_and_status_two(word: str, call: Call) -> None:
    needed = ["--roi", "global", "--fold", "0"] if word == "fold" else []
    needed += ["--dry_run"] if word == "submit" else []
    status, out, err = call(word, *needed, "--nonsense", "x")
    assert is_plain(status, out, err), (status, out, err)
    assert "nonsense" in err


@pytest.mark.parametrize("word", WORDS)
def test_a_value_that_is_not_allowed_is_one_line_and_status_two(word: str, call: Call) -> None:
    status, out, err = call(word, *NONSENSE_VALUES[word])
    assert is_plain(status, out, err), (status, out, err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep --jobs 0", "JOBS=0 is not a number from 1"),
        ("sweep --gpus first", "GPUS=first is not a list of numbers; write for example GPUS=0,1"),
        ("demo --per_device x", "PER_DEVICE=x is not a number from 1"),
        ("fold --roi global --fold 1 --folds 0", "--folds 0 is not a whole number above 0; the default is 7"),
    ],
)
def test_numbers_of_workers_and_folds_are_looked_at_before_anything_is_made(words: str, said: str, call: Call) -> None:
    assert call(*words.split()) == (2, "", f"regionwise: {said}\n")
    assert list(Path().iterdir()) == []


def test_the_folder_that_one_stands_in_is_a_path_and_an_empty_text_is_none(call: Call) -> None:
    (Path() / "studies" / "mine").mkdir(parents=True)
    for words in (["predict", "--scans", ".", "--out", "said"], ["external", "--cohort", ".", "--study", "mine", "--verify"]):
        assert "missing" not in call(*words)[2]
    for words, name in (
        (["predict", "--scans", "", "--out", "said"], "scans"),
        (["external", "--study", "mine", "--cohort="], "cohort"),
        (["report", "--study", "mine", "--out", ""], "out"),
        (["fold", "--roi", "global", "--fold", "0", "--stage="], "stage"),
    ):
        assert call(*words) == (2, "", f"regionwise: --{name} is empty; give a path\n")
    for words, name in ((["predict", "--out", "said"], "scans"), (["external", "--study", "mine"], "cohort")):
        assert call(*words)[2].startswith(f"regionwise: --{name} is missing; ")


def test_a_network_s_setting_that_cannot_be_is_one_line_too(call: Call, phantom_cohort: Path, store_folder: Path) -> None:
    words = ["fold", "--roi", "global", "--fold", "0", "--cohort", str(phantom_cohort), "--store", str(store_folder)]
    status, out, err = call(*words, "--network.init_args.dropout", "2")
    assert is_plain(status, out, err), (status, out, err)
    assert err == "regionwise: ResidualCNN cannot be made: dropout must lie in [0, 1), got 2.0\n"


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), RuntimeError("odd")])
def test_an_error_that_nobody_expected_keeps_its_traceback(
    error: Exception, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("experiments.commands.status.main", broken)
    with pytest.raises(type(error), match="odd"):
        call("status")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("cohort x has no scan"), 2, "cohort x has no scan"),
        (FileNotFoundError(2, "No such file or directory", "x.tsv"), 2, "x.tsv: No such file or directory"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it stopped"),
    ],
)
def test_what_is_said_and_the_status(
    error: BaseException, status: int, message: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("experiments.commands.status.main", broken)
    assert call("status") == (status, "", f"regionwise: {message}\n")


def test_a_training_that_diverged_ends_with_one_and_one_of_other_settings_with_two() -> None:
    assert importlib.import_module("lightning_modules.errors").TrainingError.status == 1
    assert importlib.import_module("experiments.training.run").FoldError.status == 2


def error_classes() -> list[tuple[str, str]]:
    pairs = []
    for package in ("regions", "datamodules", "lightning_modules", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Error")]
            pairs += [(".".join(path.relative_to(ROOT).with_suffix("").parts), name) for name in names]
    return pairs


@pytest.mark.parametrize(("module", "name"), error_classes())
def test_every_error_class_carries_a_status(module: str, name: str) -> None:
    assert issubclass(getattr(importlib.import_module(module), name), (UserError, ModelError))


MISTAKES = {
    "fold --roi global --fold 0 --cohort nowhere": "cohort nowhere does not exist; give a BIDS folder or a table",
    "check --cohort nowhere": "cohort nowhere does not exist",
    "sweep --config none.yaml": "--config none.yaml: there is no such file; give a YAML file with settings",
    "plan --regions none.yaml": "none.yaml: No such file or directory",
    "submit --preset none": "PRESET=none does not exist; presets are ",
    "baselines --nonsense 3": "--nonsense is not a setting; regionwise fold --help lists them",
    "controls --label.treshold 3": "--label.treshold is not a setting; did you mean --label.threshold?",
    "check --label.threshold 11": "label.threshold is 11.0; an EDSS threshold lies in (0, 10]",
    "sweep --trainer.max_epocs 3": "--trainer.max_epocs is not a setting; did you mean --trainer.max_epochs?",
    "sweep --data.batchsize=2": "--data.batchsize is not a setting; did you mean --data.batch_size?",
    "demo --model.nonsense 2": "--model.nonsense is not a setting; regionwise fold --help lists them",
    "sweep --folds many": "folds is many; give a whole number",
}


def test_a_wrong_option_or_path_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from experiments.__main__ import main
for line in {list(MISTAKES)!r}:
    assert main(line.split()) == 2, line
    assert "torch" not in sys.modules, line
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for message, told in zip(done.stderr.splitlines(), MISTAKES.values(), strict=True):
        assert message.startswith(f"regionwise: {told}"), message


def test_the_early_look_knows_every_setting_and_every_commands_own_options() -> None:
    settings = [option for action in build_parser()._actions for option in action.option_strings]
    names = [name for name in settings if name.startswith(tuple(f"--{group}." for group in SIGNATURES)) and "help" not in name]
    assert len(names) > 30
    check_early((), [*names, "--data.transforms+=torchio.RandomMotion", "--data.transforms.degrees", "3"])
    for word, options in OPTIONS.items():
        own = {item.name for item in fields(options)} | {"takes_settings"}
        assert own_options(word) == (own if options.takes_settings else None)


def test_help_of_the_settings_lists_no_layers_of_torch() -> None:
    text = settings_help()
    assert "torch.nn.Linear" not in text
    assert all(name in text for name in NETWORKS)
    assert len(text.splitlines()) < 500


def test_help_of_the_trainer_says_nothing_that_is_refused() -> None:
    text = " ".join(settings_help().split())
    assert "epochs of a training at most, 1 or more" in text
    assert "steps of the optimiser at most; -1: no limit but that of the epochs" in text
    assert "infinite" not in text


@pytest.mark.parametrize("word", WORDS)
def test_every_option_says_what_it_means(word: str) -> None:
    texts = descriptions(OPTIONS[word])
    assert all(texts[item.name].endswith(".") for item in fields(OPTIONS[word])), texts


@pytest.mark.parametrize("word", ["status", "compare", "external", "prepare", "fold"])
def test_help_lists_the_options_and_what_each_means(word: str, call: Call) -> None:
    status, out, err = call(word, "--help")
    assert (status, err) == (0, "")
    for item in fields(OPTIONS[word]):
        assert f"--{option_of(item)}" in out
        assert descriptions(OPTIONS[word])[item.name] in out
    assert ("--trainer.max_epochs" in out) == OPTIONS[word].takes_settings


def test_the_page_of_commands_says_what_the_classes_say() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == DOCS["page"](), "run: python docs/commands.py"


def test_each_variable_of_make_is_an_option_of_its_command_or_a_setting() -> None:
    settings = {option.removeprefix("--") for action in build_parser()._actions for option in action.option_strings}
    settings |= {"preset", "channels"}
    words = DOCS["variables"]()
    assert set(words) == set(WORDS) - {"work"}
    for word, pairs in words.items():
        known = {option_of(item) for item in fields(OPTIONS[word])} | (settings if OPTIONS[word].takes_settings else set())
        assert set(pairs.values()) <= known, word


def test_every_variable_of_the_makefile_s_recipes_is_in_the_page() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    listed = {name for pairs in DOCS["variables"]().values() for name in pairs}
    assert {"FOLD", "ROI", "COHORT", "STUDY", "PRESET", "SEED", "SEEDS", "INPUTS", "GPUS", "JOBS", "DRY", "STAGE"} <= listed
    for name in listed:
        assert f",{name})" in text or f"$({name})" in text
        assert f"| {name} | `--" in page


def test_a_line_is_split_into_options_and_settings() -> None:
    options, settings_args = split(OPTIONS["sweep"], ["--gpus", "0,1", "--trainer.max_epochs", "5", "--restart", "--seed=3"])
    assert (vars(options)["gpus"], vars(options)["restart"]) == ("0,1", True)
    assert settings_args == ["--trainer.max_epochs", "5", "--seed=3"]


def test_types_and_defaults_come_from_the_fields() -> None:
    choice = read(StudyChoice, ["--studies", "elsewhere"])
    assert choice == StudyChoice(studies=Path("elsewhere"))
    compare = vars(read(OPTIONS["compare"], ["--tracking.mode", "online", "--seed", "3", "--partial"]))
    assert (compare["mode"], compare["seed"], compare["partial"], compare["folds"]) == ("online", 3, True, 0)
    with pytest.raises(PlanError, match="--seed is x; give a whole number"):
        read(OPTIONS["compare"], ["--seed", "x"])
    with pytest.raises(PlanError, match=r"--see is not an option; did you mean --seed\?"):
        read(OPTIONS["compare"], ["--see", "1"])
