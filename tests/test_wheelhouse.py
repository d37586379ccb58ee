"""A wheelhouse installs without a network, and pip refuses a wheel that was changed on the way."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "containers" / "wheelhouse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put_wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """A wheel with one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "here = True\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


def install(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    words = ["install", "-q", "--isolated", "--no-index", "--require-hashes", "--find-links", str(folder)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(
        [*pip, "--target", str(target), "-r", str(folder / "requirements.txt")], capture_output=True, text=True, check=False
    )


def test_what_was_gathered_installs_and_a_changed_wheel_does_not(wheelhouse: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    put_wheel(folder, "second_one", "2.0+cpu")
    changed = put_wheel(folder, "First")
    text = wheelhouse.requirements(folder)
    assert [line.split(" ")[0] for line in text.splitlines()] == ["First==1.0", "second_one==2.0+cpu"]
    (folder / "requirements.txt").write_text(text)
    assert install(folder, tmp_path / "there").returncode == 0
    assert {path.name for path in (tmp_path / "there").glob("*.py")} == {"First.py", "second_one.py"}

    with zipfile.ZipFile(changed, "a") as wheel:
        wheel.writestr("more.py", "")
    refused = install(folder, tmp_path / "elsewhere")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not list((tmp_path / "elsewhere").glob("*.py"))


def test_what_is_no_wheel_is_refused(wheelhouse: ModuleType, tmp_path: Path) -> None:
    put_wheel(tmp_path, "first")
    (tmp_path / "second-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"second-1\.0\.tar\.gz is no wheel"):
        wheelhouse.requirements(tmp_path)
    (tmp_path / "second-1.0.tar.gz").unlink()
    put_wheel(tmp_path, "First", "2.0")
    with pytest.raises(ValueError, match="two wheels of"):
        wheelhouse.requirements(tmp_path)


def test_a_project_is_gathered_and_nothing_is_left_where_that_fails(wheelhouse: ModuleType, tmp_path: Path) -> None:
    """Its wheel stands for the project, so that nothing has to be built or fetched."""
    wheel = put_wheel(tmp_path, "project")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("project==1.0\n")
    out = tmp_path / "wheelhouse"
    with pytest.raises(subprocess.CalledProcessError):
        wheelhouse.gather(str(tmp_path / "missing.whl"), constraints, out, "--no-index")
    assert not out.exists()
    wheelhouse.gather(str(wheel), constraints, out, "--no-index")
    assert {path.name for path in out.iterdir()} == {wheel.name, "requirements.txt", "python-version"}
    assert (out / "python-version").read_text().strip() == ".".join(map(str, sys.version_info[:2]))


def test_images_see_the_wheelhouse_alone() -> None:
    """No cohort or study beside the definitions can be copied into an image."""
    folder = ROOT / "containers"
    assert (folder / "Dockerfile.dockerignore").read_text().split() == ["*", "!wheelhouse"]
    dockerfile = (folder / "Dockerfile").read_text()
    assert "COPY" not in dockerfile
    assert "ADD " not in dockerfile
    files = (folder / "Apptainer.def").read_text().partition("%files")[2].partition("%post")[0].split()
    assert files == ["wheelhouse", "/wheelhouse"]
