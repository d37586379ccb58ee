"""Hidden files, which people's machines leave beside data, are passed over wherever a folder is listed."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from test_datamodules_bids import folder, put  # noqa: F401
from test_datamodules_intake_adopt import ljubljana, msleseg, muslim  # noqa: F401

from datamodules.cohort.bids import read_bids
from datamodules.cohort.target import Target
from datamodules.files.atomic import filled_folder, is_taken
from datamodules.files.listing import list_folder
from datamodules.intake.public import find_dataset
from datamodules.intake.raw import read_raw
from experiments.externals.freeze import label_files
from experiments.study.grid import inputs_of
from experiments.study.opening import set_aside
from experiments.study.parser import presets
from experiments.study.run_folder import RunFolder
from experiments.study.study import begun
from experiments.tracking.offline_runs import offline_run_folders

ROOT = Path(__file__).parents[1]
LITTER = (".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "~$table.xlsx", ".~lock.table.xlsx#")


def litter(root: Path) -> None:
    """An AppleDouble beside every file and folder, and in every folder what macOS, Windows and Office leave."""
    for path in (root, *sorted(root.rglob("*"))):
        if path != root:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 AppleDouble")
            path.with_name(f"~${path.name}").write_bytes(b"lock")
        if path.is_dir():
            for name in LITTER:
                (path / name).write_bytes(b"\0\0 binary")
            shutil.copytree(path, path / ".Trashes", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "~*"))


def test_every_listing_goes_through_one_function() -> None:
    """Exceptions: the function itself, and where everything or hidden files alone are wanted."""
    allowed = {
        "datamodules/files/listing.py": 1,
        "datamodules/files/atomic.py": 4,
        "datamodules/cohort/bids.py": 1,
        "datamodules/preparation/derivative.py": 1,
        "experiments/training/run.py": 1,
    }
    listings = {"glob", "rglob", "iterdir", "scandir", "listdir", "walk"}
    calls: dict[str, int] = {}
    for package in ("regions", "datamodules", "lightning_modules", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in listings:
                    name = str(path.relative_to(ROOT))
                    calls[name] = calls.get(name, 0) + 1
    assert calls == allowed


def test_what_is_hidden_and_what_is_not(tmp_path: Path) -> None:
    for name in (*LITTER, "._a.tsv", "__MACOSX/a.tsv", ".git/a.tsv", "sub/.cache/a.tsv", "sub/a.tsv", "a.tsv", "a~$.tsv"):
        put(tmp_path / name)
    assert list_folder(tmp_path, "**/*.tsv") == [tmp_path / "a.tsv", tmp_path / "a~$.tsv", tmp_path / "sub/a.tsv"]
    assert [path.name for path in list_folder(tmp_path)] == ["a.tsv", "a~$.tsv", "sub"]
    assert list_folder(tmp_path / ".git") == [tmp_path / ".git/a.tsv"]
    assert list_folder(tmp_path / "none") == []


def test_a_bids_cohort_reads_the_same(folder: Path) -> None:  # noqa: F811
    (folder / "derivatives/one/sub-01/ses-1/anat/sub-01_ses-1_space-MNI152NLin6Asym_desc-brain_mask.nii.gz").write_text("x")
    before, files = read_bids(folder, Target()), label_files(folder)
    litter(folder)
    assert read_bids(folder, Target()) == before
    assert label_files(folder) == files


def test_a_locked_hidden_folder_is_not_the_users_problem(folder: Path) -> None:  # noqa: F811
    hidden = folder / "sub-01/.Trashes"
    hidden.mkdir()
    hidden.chmod(0)
    try:
        assert len(read_bids(folder, Target())[0]) == 3
    finally:
        hidden.chmod(0o700)


@pytest.mark.parametrize("name", ["msleseg", "muslim", "ljubljana"])
def test_a_public_dataset_reads_the_same(name: str, request: pytest.FixtureRequest) -> None:
    source: Path = request.getfixturevalue(name)
    dataset = find_dataset(name)
    before = dataset.read(source)
    litter(source)
    assert dataset.read(source) == before


def test_a_raw_dataset_with_label_maps_reads_the_same(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        anat = tmp_path / "sub-1" / session / "anat"
        for kind in ("T1w", "FLAIR"):
            put(anat / f"sub-1_{session}_{kind}.nii.gz")
            put(anat / f"sub-1_{session}_{kind}.json", '{"MagneticFieldStrength": 3}')
        put(tmp_path / f"derivatives/other/sub-1/{session}/anat/sub-1_{session}_seg-synthseg_dseg.nii.gz")
    before = read_raw(tmp_path)
    assert [session.dialect for session in before.sessions] == ["synthseg", "synthseg"]
    litter(tmp_path)
    assert read_raw(tmp_path) == before


def test_a_study_folder_reads_the_same(tmp_path: Path) -> None:
    for run in ("global/fold-0/seed-0", "thalamus/fold-0/seed-0"):
        put(tmp_path / run / "run.json", '{"state": "complete"}')
        put(tmp_path / run / "wandb/offline-run-1-a/run-a.wandb")
    before = inputs_of(tmp_path), begun(tmp_path), offline_run_folders(tmp_path)
    assert before[0][-1] == "thalamus"
    assert (before[1], len(before[2])) == ({"global", "thalamus"}, 2)
    litter(tmp_path)
    assert (inputs_of(tmp_path), begun(tmp_path), offline_run_folders(tmp_path)) == before


def test_setting_a_run_aside_leaves_its_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "seed-0")
    put(run.path / "run.json", '{"state": "complete"}')
    put(run.path / ".lock", "")
    set_aside(run)
    assert [path.name for path in run.path.iterdir()] == [".lock"]
    (aside,) = tmp_path.glob("seed-0.aside-*")
    assert [path.name for path in aside.iterdir()] == ["run.json"]


def test_a_folder_with_hidden_files_alone_can_be_filled_and_keeps_them(tmp_path: Path) -> None:
    target = tmp_path / "cohort"
    put(target / ".DS_Store")
    put(target / ".git/config")
    assert not is_taken(target)
    with filled_folder(target) as partial:
        put(partial / "participants.tsv")
        put(partial / "sub-1/a.nii")
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        ".DS_Store",
        ".git/config",
        "participants.tsv",
        "sub-1/a.nii",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
    assert is_taken(target)


def test_presets_are_yaml_files_that_can_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("mine.yaml", "._mine.yaml", ".hidden.yaml"):
        put(tmp_path / name)
    monkeypatch.setattr("experiments.study.parser.PRESETS", tmp_path)
    assert presets() == ["mine"]
