"""Sweeps that meet each other, a full disk or a read-only folder: nothing is torn, nothing is done twice, all is resumable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.study.run_folder import RunFolder, read_predictions
from experiments.study.runs import grid

INPUTS = ["brainstem"]


@pytest.fixture(scope="module")
def options(phantom_cohort: Path, store_folder: Path) -> list[str]:
    words = [
        "--preset",
        "demo",
        "--trainer.max_epochs",
        "2",
        "--network.init_args.width",
        "2",
        "--network.init_args.stages",
        "3",
    ]
    words += ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--tracking.mode", "disabled", "--study", "met"]
    return [*words, "--inputs", ",".join(INPUTS), "--jobs", "1"]


def sweep(options: list[str], studies: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "experiments", "sweep", *options, "--studies", str(studies)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_two_sweeps_at_once_do_every_run_once(options, tmp_path) -> None:
    both = [sweep(options, tmp_path) for _ in range(2)]
    outcomes = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outcomes
    for run in grid(INPUTS, [0]):
        folder = RunFolder(run.folder(tmp_path / "met"))
        assert folder.facts()["state"] == "complete"
        assert folder.facts()["attempts"] == 1
        assert len(read_predictions(folder.path / "predictions.tsv").p) > 0
    logs = "".join(path.read_text() for path in (tmp_path / "met" / "logs").iterdir())
    assert logs.count(": complete, see ") == 7
    assert not list((tmp_path / "met").rglob("*.partial"))


@pytest.mark.slow
def test_a_full_disk_is_a_plain_error_and_the_study_goes_on_when_there_is_room(options, small_disk) -> None:
    process = sweep(options, small_disk)
    out, err = process.communicate(timeout=300)
    assert process.returncode in (1, 2)
    assert "No space left on device" in out + err
    assert "Traceback" not in err
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    process = sweep(options, small_disk)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert {RunFolder(run.folder(small_disk / "met")).facts()["state"] for run in grid(INPUTS, [0])} == {"complete"}


@pytest.mark.slow
def test_a_read_only_folder_is_a_plain_error(options, small_disk) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = sweep(options, small_disk)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.startswith("regionwise: ")
    assert "Read-only file system" in err
    assert err.count("\n") == 1, err
