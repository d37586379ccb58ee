"""With what a result was made: versions and the commit of the program, which may lie within another project."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.runtime.provenance import PACKAGES, commit_of, provenance


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *settings, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_a_tracked_file_alone(tmp_path: Path) -> None:
    inside = tmp_path / ".venv" / "site-packages" / "module.py"
    inside.parent.mkdir(parents=True)
    inside.touch()
    assert commit_of(inside) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "own.py").touch()
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "add", ".")
    assert commit_of(tmp_path / "own.py") is None
    git(tmp_path, "commit", "-q", "-m", "first")
    assert commit_of(tmp_path / "own.py") == git(tmp_path, "rev-parse", "HEAD")
    assert commit_of(inside) is None


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version_tells_the_program_its_commit_and_the_libraries(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    first, second = capsys.readouterr().out.splitlines()
    commit = provenance()["git_commit"]
    assert first == f"regionwise {version('regionwise')}" + (f", commit {commit}" if commit else "")
    assert re.match(r"python 3\.\d+\.\d+, torch ", second)
    assert all(name in second for name in PACKAGES if name != "regionwise")


@pytest.mark.parametrize(
    ("word", "told"),
    [("swep", "did you mean sweep?"), ("Compare", "did you mean compare?"), ("nothing", "commands are demo, phantoms, ")],
)
def test_a_misspelt_command_gets_the_nearest(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err.startswith(f"regionwise: {word!r} is not a command; {told}")
