"""What a user reads of a mistake: the option, its value and what is allowed, and none of Python's types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.__main__ import main
from experiments.study.mistakes import either, readable, unknown
from experiments.study.parser import build_parser, option_names
from experiments.study.settings import parse_settings
from lightning_modules.errors import ModelError
from regions.errors import UserError

PYTHON = re.compile(r"<class|typing|Parser key|Expected|NoneType|NestedArg|Union|unrecognized|invalid|Traceback|subtypes")

SETTINGS = {
    "--model.optimizer sgd": "model.optimizer is sgd; give adam or adamw",
    "--model.learning_rate fast": "model.learning_rate is fast; give a number",
    "--trainer.max_epochs 1.5": "trainer.max_epochs is 1.5; give a whole number",
    "--trainer.deterministic maybe": "trainer.deterministic is maybe; give true, false or warn",
    "--label.undated maybe": "label.undated is maybe; give exclude or keep",
    "--split.by hospital": "split.by is hospital; give patient or site",
    "--threads 0": "threads is 0; give a whole number above 0",
    "--threads two": "threads is two; give a whole number above 0",
    "--model.betas 0.9": "model.betas is 0.9; give a list such as [1, 2]",
    "--network.width x": "network.width is x; give a whole number",
    "--network.pooling median": "network.pooling is median; give max or max+mean",
    "--network.init_args.widht 3": "network.widht is not an argument of ResidualCNN; did you mean network.width?",
    "--network Nothing": "network is Nothing; give the import path of a class, such as lightning_modules.networks.ResidualCNN",
    "--data.augmentation hello": "data.augmentation is hello; give its parts: data.augmentation.flip, ",
    "--data.augmentation.flipp 1": "--data.augmentation.flipp is not a setting; did you mean --data.augmentation.flip?",
    "--tracking.tags 3": "--tracking.tags is not a setting; regionwise fold --help lists them",
    "--foldz 3": "--foldz is not a setting; did you mean --fold?",
    "--fold=": "fold is empty; give a whole number",
    "--fold null": "fold is null; give a whole number",
    "--broken=": "broken is empty; give refuse or exclude",
    "--threads null": "threads is null; give a whole number above 0",
    "--threads [1,2]": "threads is a list; give a whole number above 0",
    "--network null": "network is null; give the import path of a class, such as lightning_modules.networks.ResidualCNN",
    "--data.transforms [1]": "data.transforms holds 1; give the import path of a class, such as torchio.RandomBiasField",
    "--seed -1": "seed is -1; give a number from 0 on",
    "--split_seed -1": "split_seed is -1; give a number from 0 on",
    "--folds 2": "folds is 2; give 3 or more",
    "--workers 0": "workers is 0; give 1 or more",
    "--voxel_mm -1": "voxel_mm is -1.0; give a number from 0 on",
    "--voxel_mm 1e400": "voxel_mm is inf; give a number from 0 on",
    "--voxel_mm .nan": "voxel_mm is nan; give a number from 0 on",
    "--data.batch_size 0": "data.batch_size is 0; give 1 or more",
    "--data.dilate_mm -1": "data.dilate_mm is -1.0; give a number from 0 on",
    "--early_stopping.patience 0": "early_stopping.patience is 0; give 1 or more epochs",
    "--model.learning_rate -1": "model.learning_rate is -1.0; give a number above 0",
    "--model.betas [1,2]": "model.betas is [1.0, 2.0]; give two numbers from 0 to below 1",
    "--model.class_weights [0,1]": "model.class_weights is [0.0, 1.0]; give two numbers above 0",
    "--trainer.max_steps 0": "trainer.max_steps is 0; give 1 or more, or -1 for as many as the epochs have",
    "--trainer.gradient_clip_val .nan": "trainer.gradient_clip_val is nan; give a number from 0 on, or null for no limit",
    "--trainer.max_epochs": "--trainer.max_epochs has no value; give one behind it",
}


@pytest.mark.parametrize("words", SETTINGS)
def test_a_setting_that_cannot_be_is_named_with_its_value_and_what_can(words: str) -> None:
    with pytest.raises((UserError, ModelError)) as error:
        parse_settings(["--preset", "demo", *words.split()])
    assert str(error.value).startswith(SETTINGS[words])


def settings() -> list[str]:
    return [name for name in option_names(build_parser()) if name not in ("config", "print_config")]


def test_no_setting_answers_in_python() -> None:
    """A value that is no number, word, path or list of any of them: refused in a user's words, or a text like another."""
    told = {}
    for name in settings():
        try:
            parse_settings(["--preset", "demo", f"--{name}", "{?"])
        except UserError as error:
            told[name] = str(error)
        except FileNotFoundError as error:
            told[name] = str(error).replace("{?", name)
    assert len(told) > 40
    assert {name: words for name, words in told.items() if PYTHON.search(words) or "\n" in words} == {}


def test_a_file_of_settings_is_read_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    for text, words in (
        ("model: {optimizer: 3}", "model.optimizer is 3; give adam or adamw"),
        ("labl: {undated: keep}", "labl.undated is not a setting; did you mean label.undated?"),
        ("label: [1\n", f"--config {path}: not YAML in line 2: "),
    ):
        path.write_text(text)
        assert main(["plan", "--config", str(path)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"regionwise: {words}")
        assert told.count("\n") == 1
    for text in ("", "- a", "just text"):
        path.write_text(text)
        assert main(["plan", "--config", str(path)]) == 2
        assert f"--config {path} holds no settings" in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe")
    assert main(["plan", "--config", str(path)]) == 2
    assert f"--config {path}: not YAML" in capsys.readouterr().err


GROUPS = (
    "network", "data", "data.augmentation", "early_stopping", "label", "model", "split", "tracking", "trainer",
    "network.init_args", "network.class_path",
)  # fmt: skip


@pytest.mark.parametrize("value", [3, None, "text", [1], True, {"nothing": 1}], ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_one_value_in_the_place_of_several_settings_is_refused(group: str, value: Any, tmp_path: Path) -> None:
    content = value
    for part in reversed(group.split(".")):
        content = {part: content}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as error:
        parse_settings(["--preset", "demo", "--config", str(path)])
    assert not PYTHON.search(str(error.value))
    assert str(error.value).startswith(group.partition(".")[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "--foldz", "3"], "--foldz is not an option; did you mean --folds?"),
        (["compare", "--watch"], "--watch is not an option; regionwise compare --help lists them"),
        (["compare", "--draws"], "--draws has no value; give one behind it"),
        (["prepare", "--spacing", "big"], "--spacing is big; give a number"),
        (["prepare", "--spacing", ""], "--spacing is empty; give a number"),
        (["sweep", "--gpuss", "0"], "--gpuss is not a setting; did you mean --gpus?"),
        (["report", "extra"], "extra stands behind no option; write --name value"),
        (["plan", "--format", "csv"], "--format is csv; give tsv or commands"),
    ],
)
def test_an_option_of_a_word_too(words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"regionwise: {said}\n"


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "a", "c"], "a, b or c")])
def test_words_to_choose_from(words: list[str], text: str) -> None:
    assert either(words) == text


def test_what_no_rule_knows_stays_as_it_is() -> None:
    message = "Parser key \"x\":\n  something else\n  - of two lines\n  Given value type: <class 'str'>"
    assert readable(message) == "x: something else of two lines"


def test_a_network_whose_package_is_missing_is_named_with_it() -> None:
    message = (
        "Parser key \"network\":\n  Errors:\n    - Problem with given class_path 'zoo.resnet':\n"
        "        from hub import load (No module named 'hub').\n        Original traceback:\n  Given value: zoo.resnet"
    )
    assert readable(message) == "network is zoo.resnet, which needs hub; that is not installed here"


@pytest.mark.parametrize("command", [["fold", "--roi", "brainstem", "--fold", "0"], ["sweep"], ["submit", "--dry_run"]])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network.width", "0"], "ResidualCNN cannot be made: width, stages and hidden must be"),
        (["--network", "torch.nn.Linear", "--network.in_features", "-3", "--network.out_features", "2"],
         "Linear cannot be made: Trying to create tensor with negative dimension -3"),
    ],
)  # fmt: skip
def test_a_network_that_refuses_its_arguments_is_told_before_a_scan_is_read(
    command: list[str], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cohort.tsv").write_text("nothing that could be read")
    assert main([*command, "--preset", "demo", "--cohort", str(tmp_path / "cohort.tsv"), *words]) == 2
    assert capsys.readouterr().err.startswith(f"regionwise: {said}")


def test_suggestions_stay_within_a_group_that_there_is() -> None:
    names: Any = ["label.kind", "label.cuts", "model.kinds", "folds"]
    assert unknown("--label.kinds", names).endswith("did you mean --label.kind?")
    assert unknown("--lable.kind", names).endswith("did you mean --label.kind?")
    assert unknown("--LABEL.KIND", names).endswith("did you mean --label.kind?")
    assert unknown("--label.folds", names).endswith("regionwise fold --help lists them")


@pytest.mark.parametrize("option", ["--config", "--regions"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"mine: [1\n", "not YAML in line 2: "),
        (b"a: 1\n\tb: 2\n", "not YAML in line 2: "),
        (b"\xff\xfe\x00", "not YAML: it is not a text file in UTF-8"),
        (b"a: \x01\n", "not YAML: "),
    ],
)
def test_a_file_that_is_no_yaml_is_told_alike_wherever_it_is_given(
    tmp_path: Path, option: str, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert main(["sweep", option, str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path}: {words}" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("word", ["fold", "sweep", "submit", "plan"])
def test_a_word_before_the_first_option_is_told(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word, "3", "--roi", "brainstem"]) == 2
    assert capsys.readouterr().err == "regionwise: 3 stands behind no option; write --name value\n"


def test_a_file_of_regions_that_is_no_yaml_is_told_beside_sets_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "regions.yaml"
    path.write_text("mine: [1\n")
    assert main(["plan", "--studies", str(tmp_path), "--channels", "t1w flair", "--regions", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"regionwise: {path}: not YAML in line 2: ")
