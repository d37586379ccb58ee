"""The import table of the README: who may import whom, and who alone imports W&B."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "regions": {"regions"},
    "datamodules": {"datamodules", "regions"},
    "lightning_modules": {"lightning_modules"},
    "experiments": {"experiments", "datamodules", "regions", "lightning_modules"},
}
FILES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_import_only_what_the_table_allows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported(path) & set(ALLOWED) <= ALLOWED[package]


def test_every_package_has_files() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ALLOWED)


def test_only_tracking_files_import_wandb() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in FILES if {"wandb", "wandb_workspaces"} & imported(path)}
    assert users <= {"experiments/tracking/wandb_runs.py", "experiments/commands/dashboard.py"}


@pytest.mark.parametrize("word", ["pickle", "dill", "cloudpickle", "joblib"])
def test_nothing_imports_a_pickler(word: str) -> None:
    assert [path for path in FILES if word in imported(path)] == []


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_load_refuses_pickles(path: Path) -> None:
    for call in calls(path):
        name = ast.unparse(call.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False"


def test_the_architecture_page_says_what_the_files_say() -> None:
    script = ROOT / "docs" / "architecture.py"
    made = runpy.run_path(str(script))["page"]()
    written = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert written == made, "run: python docs/architecture.py"
    assert all(f"- `{path.name}`: " in written for path in FILES if path.name != "__init__.py")
    assert "`: \n" not in written
