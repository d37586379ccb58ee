"""The store under several processes, one of them killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.store.store import open_store

OPEN = """
import sys
from pathlib import Path
from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.store import store
slow, made, make = float(sys.argv[3]), [], store.prepare_scan
def counted(scan, grid):
    import time
    made.append(scan.name)
    time.sleep(slow)
    return make(scan, grid)
store.prepare_scan = counted
cohort = read_cohort(Path(sys.argv[1]), Target())
prepared = store.open_store(cohort.scans, Path(sys.argv[2]), workers=2)
print(prepared.hash, len(made), sum(float(abs(prepared.image(row)).sum() > 0) for row in range(len(cohort.scans))))
"""


def start(cohort: Path, folder: Path, slow: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN, str(cohort), str(folder), str(slow)]
    root = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture
def few(phantom_copy: Path) -> Path:
    """A phantom cohort of four patients."""
    for table, column in (("participants.tsv", 0), ("phenotype/edss.tsv", 0)):
        lines = (phantom_copy / table).read_text().splitlines(keepends=True)
        kept = [
            line
            for line in lines
            if line.split("\t")[column] in ("participant_id", "sub-0001", "sub-0002", "sub-0003", "sub-0004")
        ]
        (phantom_copy / table).write_text("".join(kept))
    for folder in (phantom_copy / "derivatives/phantom").glob("sub-*"):
        if int(folder.name[4:]) > 4:
            shutil.rmtree(folder)
    return phantom_copy


@pytest.mark.slow
def test_two_processes_make_each_volume_once(few: Path, tmp_path: Path) -> None:
    runs = [start(few, tmp_path / "store", slow=0.05) for _ in range(2)]
    answers = [run.communicate(timeout=100)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    (hash_a, made_a, whole_a), (hash_b, made_b, whole_b) = answers
    scans = read_cohort(few, Target()).scans
    assert hash_a == hash_b == open_store(scans, tmp_path / "store").hash
    assert int(made_a) + int(made_b) == len(scans)
    assert float(whole_a) == float(whole_b) == len(scans)


def test_killed_process_leaves_nothing_that_counts_as_complete(few: Path, tmp_path: Path) -> None:
    scans = read_cohort(few, Target()).scans
    run = start(few, tmp_path / "store", slow=0.4)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "store").glob("volumes/[0-9a-f]*")):
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = [path for path in (tmp_path / "store/volumes").iterdir() if not path.name.startswith(".")]
    assert 0 < len(done) < 3 * len(scans)
    expected = open_store(scans, tmp_path / "other")
    for path in done:
        for file in path.glob("*.npy"):
            np.testing.assert_array_equal(np.load(file), np.load(tmp_path / "other/volumes" / path.name / file.name))
    whole = {path.name for path in done}
    left = tmp_path / "store/volumes" / f".{next(key for key in expected.volumes if key not in whole)}.partial"
    left.mkdir(exist_ok=True)
    (left / "image.npy").write_bytes(b"half")
    made: list[int] = []
    prepared = open_store(scans, tmp_path / "store", 2, lambda _, total: made.append(total))
    todo = sum(not set(scan.volumes) <= whole for scan in expected.scans)
    assert (prepared.keys, made) == (expected.keys, [todo] * todo)
    assert {path.name for path in (tmp_path / "store/volumes").iterdir()} == set(expected.volumes)
