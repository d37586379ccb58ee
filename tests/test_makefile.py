"""The Makefile takes a Python that the project works with, or says there is none, and hands values on as they were typed."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from experiments.study.arguments import option_of

ROOT = Path(__file__).parents[1]
VARIABLES = runpy.run_path(str(ROOT / "docs" / "commands.py"))["variables"]()
TYPED = """-a b,c'd"e$f${HOME}`g`\\h;#(i)"""
NAMES = ("python3", "python3.11", "python3.12", "python3.13")


def install(tmp_path: Path, versions: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """``make -n install`` where the programs are of the given versions: the recipe's check alone decides."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NAMES:
        program = programs / name
        version = versions.get(name, "")
        number = tuple(map(int, version.split("."))) if version else ()
        answer = f"case $1 in --version) echo Python {version};; *) exit {int(not (3, 11) <= number < (3, 14))};; esac"
        program.write_text(f"#!/bin/sh\n{answer if version else 'exit 127'}\n")
        program.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    path = f"{programs}:{os.environ['PATH']}"
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    environment = {name: value for name, value in os.environ.items() if name not in outer} | {"PATH": path}
    return subprocess.run(
        ["make", *words, "install"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        ({"python3": "3.11.2"}, "python3"),
        ({"python3": "3.13.0", "python3.11": "3.11.2"}, "python3"),
        ({"python3": "3.14.0", "python3.12": "3.12.1", "python3.11": "3.11.2"}, "python3.12"),
        ({"python3": "3.9.1", "python3.11": "3.11.2"}, "python3.11"),
    ],
)
def test_the_first_python_that_suits_is_taken(versions: dict[str, str], taken: str, tmp_path: Path) -> None:
    assert f"\ntest -x .venv/bin/pip || {taken} -m venv" in install(tmp_path, versions, "-n").stdout


@pytest.mark.parametrize("version", ["3.14.0", "3.15.1", "3.10.9", ""])
def test_a_python_that_does_not_suit_is_named_in_one_line(version: str, tmp_path: Path) -> None:
    done = install(tmp_path, dict.fromkeys(NAMES, version))
    assert done.returncode == 2
    found = f"Python {version}" if version else "not there"
    said = f"Python 3.11, 3.12 or 3.13 is needed; python3 is {found}; give one: make PYTHON=python3.12\n"
    assert done.stdout == said
    assert not (tmp_path / ".venv").exists()


def test_package_makefile_and_readme_say_the_same() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert wanted == ">=3.11,<3.14"
    assert "not (3, 11) <= sys.version_info < (3, 14)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"Python 3\.11, 3\.12 or 3\.13 ", (ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., list[str]]:
    """``say(*words)`` calls make with a Python that says what it is given."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    (tmp_path / ".installed").touch()

    def call(*words: str) -> list[str]:
        outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
        environment = {name: value for name, value in os.environ.items() if name not in (*outer, *SET_BY_NOBODY)}
        done = subprocess.run(
            ["make", f"VENV={tmp_path}", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[2:]

    return call


SET_BY_NOBODY = {name for pairs in VARIABLES.values() for name in pairs} | {"ARGS"}


@pytest.mark.parametrize("word", VARIABLES)
def test_a_value_arrives_as_it_was_typed(word: str, say: Callable[..., list[str]]) -> None:
    given = say(word, *(f"{name}={TYPED}" for name in VARIABLES[word]), "ARGS=--rest 'two words' '$a'")
    options = {option for name, option in VARIABLES[word].items() if name != "DRY"}
    assert {f"--{option}={TYPED}" for option in options} == {text for text in given if text.endswith(TYPED)}
    assert given[0] == word
    assert [text for text in given if text in ("--rest", "two words", "$a")] == ["--rest", "two words", "$a"]


def test_what_was_not_given_is_left_to_the_command(say: Callable[..., list[str]]) -> None:
    assert {word: say(word) for word in VARIABLES} == {word: [word] for word in VARIABLES}


@pytest.mark.parametrize(
    ("value", "dry"), [("1", True), ("yes", True), ("0", False), ("no", False), ("false", False), ("", False)]
)
def test_a_switch_can_be_off(value: str, dry: bool, say: Callable[..., list[str]]) -> None:
    assert say("submit", f"DRY={value}") == (["submit", "--dry_run"] if dry else ["submit"])


def test_an_option_that_several_commands_have_is_a_variable_of_each() -> None:
    """What a command has an option for, and make does not hand on, would be left out without a word."""
    without_effect = {"regions", "preset"}  # of a finished study
    of_another_meaning = {"report": {"images"}, "phantoms": {"scans"}}
    named = {option for pairs in VARIABLES.values() for option in pairs.values()} - without_effect
    for word, pairs in VARIABLES.items():
        known = {option_of(item) for item in fields(import_module(f"experiments.commands.{word}").Options)}
        assert (known & named) - set(pairs.values()) == of_another_meaning.get(word, set()), word
