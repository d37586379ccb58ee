import json
import subprocess
import sys

import numpy as np
import pytest

from datamodules.files.atomic import write_json
from datamodules.files.sealed import DamagedError
from experiments.study.run_folder import (
    Fingerprint,
    ResultsError,
    Rows,
    RunFolder,
    read_predictions,
    require_complete,
    write_predictions,
)
from experiments.study.runs import Run, grid

PRINT = Fingerprint("config", "split", "cohort", "data")
HASHES = {"config": "config", "split": "split", "cohort": "cohort", "data": "data"}


def rows(p) -> Rows:
    n = len(p)
    text = np.array([f"sub-{i}" for i in range(n)])
    return Rows(np.array(["internal_test"] * n), text, text, np.array([""] * n), np.arange(n) % 2, np.array(p))


def test_probabilities_read_back_equal(tmp_path) -> None:
    p = np.random.default_rng(0).random(50)
    write_predictions(tmp_path / "predictions.tsv", rows(p))
    assert np.array_equal(read_predictions(tmp_path / "predictions.tsv").p, p)


def test_predictions_are_readable_text(tmp_path) -> None:
    write_predictions(tmp_path / "predictions.tsv", rows([0.1]))
    assert (tmp_path / "predictions.tsv").read_text().splitlines() == [
        "partition\tpatient\tsession\tsite\ty\tp",
        "internal_test\tsub-0\tsub-0\t\t0\t0.1",
    ]


@pytest.mark.parametrize(("y", "p"), [("2", "0.5"), ("1", "1.5"), ("1", "nan"), ("one", "0.5")])
def test_impossible_predictions_are_refused(tmp_path, y, p) -> None:
    path = tmp_path / "predictions.tsv"
    path.write_text(f"partition\tpatient\tsession\tsite\ty\tp\ntuning\ta\t\t\t{y}\t{p}\n")
    with pytest.raises(ResultsError, match=r"predictions\.tsv"):
        read_predictions(path)


def test_numbers_that_are_not_finite_become_null(tmp_path) -> None:
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [np.float64("inf"), np.int64(3)]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 3]}


def test_a_folder_without_run_json_is_missing(tmp_path) -> None:
    assert RunFolder(tmp_path).state(PRINT) == "missing"


@pytest.mark.parametrize("part", list(HASHES))
def test_another_fingerprint_makes_a_run_stale(tmp_path, part) -> None:
    RunFolder(tmp_path).write_facts({"state": "complete", "fingerprint": HASHES | {part: "other"}})
    assert RunFolder(tmp_path).state(PRINT) == "stale"
    assert PRINT.differences(RunFolder(tmp_path).facts()) == [part]


def test_a_running_run_without_its_process_is_interrupted(tmp_path) -> None:
    RunFolder(tmp_path).write_facts({"state": "running", "fingerprint": HASHES})
    assert RunFolder(tmp_path).state(PRINT) == "interrupted"


def test_the_lock_of_another_process_is_seen_and_falls_with_it(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_facts({"state": "running", "fingerprint": HASHES})
    hold = (
        "import sys, pathlib\nfrom experiments.study.run_folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).lock() as ours:\n    print(ours, flush=True)\n    sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    assert folder.state(PRINT) == "running"
    with folder.lock() as ours:
        assert not ours
    other.kill()
    other.communicate()
    assert folder.state(PRINT) == "interrupted"
    with folder.lock() as ours:
        assert ours


def test_a_damaged_run_json_is_named(tmp_path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DamagedError, match=r"run\.json is damaged .*; delete .* and run it again"):
        RunFolder(tmp_path).facts()


def complete_study(folder) -> list[Run]:
    runs = grid(["global", "brainstem"], [0], folds=2)
    for run in runs:
        RunFolder(run.folder(folder)).write_facts({"state": "complete", "fingerprint": HASHES})
    return runs


def test_a_complete_grid_passes(tmp_path) -> None:
    runs = complete_study(tmp_path)
    assert require_complete(tmp_path, runs) == runs


def test_an_incomplete_grid_is_refused_unless_told(tmp_path) -> None:
    runs = complete_study(tmp_path)
    RunFolder(runs[2].folder(tmp_path)).write_facts({"state": "failed", "error": "why", "fingerprint": HASHES})
    with pytest.raises(ResultsError, match=r"1 of 4 runs .* not complete \(global/fold-1/seed-0: failed, why\)"):
        require_complete(tmp_path, runs)
    assert require_complete(tmp_path, runs, partial=True) == [runs[0], runs[1], runs[3]]


@pytest.mark.parametrize("part", ["split", "data", "config"])
def test_a_mixed_grid_is_refused_also_when_partial(tmp_path, part) -> None:
    runs = complete_study(tmp_path)
    RunFolder(runs[3].folder(tmp_path)).write_facts({"state": "complete", "fingerprint": HASHES | {part: "other"}})
    with pytest.raises(ResultsError, match=f"brainstem/fold-1/seed-0 was made with another {part}"):
        require_complete(tmp_path, runs, partial=True)


def test_an_empty_study_says_how_to_start(tmp_path) -> None:
    with pytest.raises(ResultsError, match="holds no complete run; start with: make sweep"):
        require_complete(tmp_path, grid(["global"], [0]))
