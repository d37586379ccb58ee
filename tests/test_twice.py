"""Every command twice, and the sweep with one worker and with two: the same bytes, but for the times.

All in fresh processes. The two studies lie at the same path one after the other, since some files hold paths; the key of the
pseudonyms, which is drawn, is given. What comes after a sweep reads its files alone, so it is not played on the second study.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.files.tables import read_rows

TIMES = {
    "started", "finished", "seconds", "scans_per_second", "peak_memory_mb", "sweep", "sha256", "time", "costs", "attempts",
    "frozen", "run.json", "labels_read",
}  # fmt: skip
SKIPPED = {
    "wandb", "logs", "locks", "home", "progress.json", ".lock", "sources.json", "grids.json", "submission.json",
    "last.ckpt.sha256", "events.jsonl",
}  # fmt: skip
"""Whose content is times, process numbers and times of change."""
MEASURED = re.compile("second|memory|started|finished")
RUN_CARD = re.compile(r'<section id="run-card".*?</section>', re.DOTALL)
CHANGING = re.compile(r"[\d.,]+ (?:ms|s|min|h|MB|GB)\b|\d{4}-\d\d-\d\dT[\d:+-]+|[0-9a-f]{12,64}")
"""Durations and sizes of memory, points of time, and hashes of files that hold them."""

SETTINGS = ["--study", "small", "--folds", "3", "--trainer.max_epochs", "2", "--network.init_args.stages", "2"]
SETTINGS += ["--network.init_args.width", "2", "--preset", "demo"]
COHORT = ["--cohort", "cohorts/own"]
INPUTS = ["--inputs", "ventricles,global"]
CONTROLS = ["--controls", "image,permuted,mask_only,shuffled,random_region,header_only,sex", "--permutations", "1"]


def commands(workers: int) -> dict[str, list[str]]:
    """Name -> words, in the order in which a user gives them."""
    phantoms = ["--patients", "14", "--scans", "16", "--spacing", "6"]
    return {
        "phantoms": ["phantoms", "--out", "cohorts/own", *phantoms, "--seed", "3"],
        "elsewhere": ["phantoms", "--out", "cohorts/elsewhere", *phantoms, "--seed", "4", "--external"],
        "adopt": ["adopt", "--from", "cohorts/own,cohorts/elsewhere", "--out", "cohorts/both"],
        "check": ["check", *SETTINGS, *COHORT],
        "fold": ["fold", *SETTINGS, *COHORT, "--roi", "ventricles", "--fold", "1"],
        "plan": ["plan", *SETTINGS, *COHORT, *INPUTS],
        "sweep": ["sweep", *SETTINGS, *COHORT, *INPUTS, "--jobs", str(workers)],
        "baselines": ["baselines", *SETTINGS, *COHORT],
        "compare": ["compare", "--study", "small", *INPUTS, "--draws", "200"],
        "controls": ["controls", *SETTINGS[:8], *COHORT, "--inputs", "ventricles", *CONTROLS, "--draws", "200"],
        "external": ["external", "--study", "small", "--cohort", "cohorts/elsewhere", *INPUTS, "--draws", "200"],
        "report": ["report", "--study", "small"],
        "submit": ["submit", *SETTINGS, *COHORT, *INPUTS, "--dry_run"],
        "status": ["status", "--study", "small"],
    }


def play(words: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "SLURM_"))}
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words], cwd=folder, capture_output=True, text=True, timeout=600, check=False,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(folder / "home")},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout


def timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: timeless(item) for name, item in value.items() if name not in TIMES and name != "history.tsv"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """What a file says but for the times."""
    if path.suffix == ".ckpt":
        return {name: value.tolist() for name, value in torch.load(path, weights_only=True)["state_dict"].items()}
    if path.name == "history.tsv":
        return [{name: cell for name, cell in row.items() if not name.startswith("throughput/")} for row in read_rows(path)]
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "runs.tsv":
        return [{name: cell for name, cell in row.items() if not MEASURED.search(name)} for row in read_rows(path)]
    if path.suffix == ".html":
        return CHANGING.sub("", RUN_CARD.sub("", path.read_text(encoding="utf-8")))
    return path.read_bytes()


def files(folder: Path) -> dict[str, Any]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): content(path)
        for path in found
        if not SKIPPED.intersection(path.relative_to(folder).parts)
    }


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def with_key(folder: Path) -> Path:
    """An empty folder, but for the key of a study."""
    key = folder / "studies" / "small" / "pseudonyms.key"
    key.parent.mkdir(parents=True)
    key.write_text("5" * 64)
    key.chmod(0o600)
    return folder


def played(folder: Path, words: list[str]) -> dict[str, Any]:
    """A command, and the same a second time; what it leaves then is what it left before."""
    play(words, folder)
    before = files(folder)
    if "--out" not in words:
        play(words, folder)
        assert differing(before, files(folder)) == [], words
        return before
    place = words[words.index("--out") + 1]  # which must be new: another one gets the same files
    play([f"{word}-again" if word == place else word for word in words], folder)
    assert differing(files(folder / place), files(folder / f"{place}-again")) == [], words
    shutil.rmtree(folder / f"{place}-again")
    return before


@pytest.mark.long
def test_every_command_twice_and_a_sweep_with_one_and_two_workers_leaves_the_same_bytes(tmp_path: Path) -> None:
    folder = with_key(tmp_path / "work")
    left = {name: played(folder, words) for name, words in commands(workers=1).items()}
    assert {"report.html", "comparison.tsv", "controls.tsv"} <= {Path(name).name for name in left["status"]}
    shutil.rmtree(folder)
    with_key(folder)
    two = commands(workers=2)
    for name in ("phantoms", "sweep", "baselines", "compare"):
        play(two[name], folder)
    swept = files(folder)
    networks = ("studies/small/ventricles/", "studies/small/global/")
    assert len([name for name in swept if name.startswith(networks) and name.endswith("predictions.tsv")]) == 6
    assert differing({name: left["compare"].get(name) for name in swept}, swept) == []
