"""The layers of pyproject.toml, the list of imports inside functions, who alone imports W&B, and that nothing unpickles."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("regions", "datamodules", "lightning_modules", "experiments")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LAYOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=root, capture_output=True, text=True, env={"PYTHONPATH": str(root)})


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.nii.gz"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_the_tree_holds_its_contracts() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert "BROKEN" not in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("regions/grid.py", "import datamodules.files.tables", "experiments stand on data and networks"),
        ("lightning_modules/metrics.py", "import regions.grid", "networks know nothing of regions"),
        ("datamodules/files/tables.py", "def late():\n    import datamodules.store.store", "the floors of datamodules"),
        ("experiments/statistics/scores.py", "import experiments.study.runs", "the floors of experiments"),
        ("experiments/commands/fold.py", "import experiments.commands.sweep", "no command imports another"),
        ("regions/grid.py", "import regions.catalog\nimport regions.atlas", "no circle between siblings"),
    ],
)
def test_each_contract_can_break(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / file
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{before}\n{line}\n", encoding="utf-8")
        result = lint(copy)
    finally:
        path.write_text(before, encoding="utf-8")
    assert result.returncode == 1
    assert any(contract in row and "BROKEN" in row for row in result.stdout.splitlines()), result.stdout


def test_every_folder_of_code_is_in_a_contract() -> None:
    contracts = LAYOUT["tool"]["importlinter"]["contracts"]
    layered = {name: str(entry["layers"]) for entry in contracts for name in entry.get("containers", ())}
    for package, layers in layered.items():
        rooms = {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert {room for room in rooms if not re.search(rf"\b{room}\b", layers)} <= {"__init__"}, package
    assert set(layered) == {"experiments", "datamodules"}


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


def test_imports_inside_functions_are_those_that_are_listed_with_what_they_save() -> None:
    listed = runpy.run_path(str(ROOT / "docs" / "local_imports.py"))
    assert listed["in_the_code"]() == {(file, module) for file, module, _ in listed["in_the_list"]()}
    assert all(float(seconds) >= listed["LEAST_SECONDS"] for _, _, seconds in listed["in_the_list"]())


def test_every_package_has_files() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_only_tracking_files_import_wandb() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in FILES if {"wandb", "wandb_workspaces"} & imported(path)}
    assert users <= {f"experiments/tracking/{name}.py" for name in ("session", "wandb_runs", "workspace")}


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


def test_the_map_of_the_readme_follows_the_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    chart = readme.split("## Architecture")[1].split("\n## ")[0]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in FILES if path.name == "__init__.py"}
    listed = set(re.findall(r"`((?:regions|datamodules|lightning_modules|experiments)[a-z_/]*)/`", chart))
    assert listed == folders - {"regions/data", "experiments/study/presets"}
    for file in re.findall(r"`((?:regions|datamodules|lightning_modules|experiments)/[a-z_/]+\.py)`", chart):
        assert (ROOT / file).is_file(), file


def test_one_file_makes_consoles_since_they_print_texts_as_they_stand() -> None:
    makers = [
        path.relative_to(ROOT).as_posix() for path in FILES if re.search(r"(?<!plain_)\bConsole\(", path.read_text("utf-8"))
    ]
    assert makers == ["experiments/runtime/console.py"]
    assert not [path for path in FILES if "rich.markup" in path.read_text("utf-8")]
