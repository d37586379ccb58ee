"""Several processes train one run as one process does: the same losses, the same rows, each scan once."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.study.run_folder import RunFolder, read_predictions

STEPS = 5


def trained(studies: Path, cohort: Path, store: Path, name: str, *words: str) -> Path:
    """The run folder of a training of five epochs with one step each: every step's loss stands in history.tsv."""
    places = ["--preset", "demo", "--cohort", str(cohort), "--store", str(store), "--studies", str(studies), "--study", name]
    small = ["--network.init_args.stages", "3", "--network.init_args.width", "3", "--tracking.mode", "disabled"]
    small += ["--data.batch_size", "100", "--trainer.max_epochs", str(STEPS), "--trainer.accelerator", "cpu", "--folds", "3"]
    command = [sys.executable, "-m", "experiments", *words, *places, *small]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text() for path in studies.glob(f"{name}/logs/*.log"))
    assert "Warning" not in done.stdout + done.stderr + logs
    return studies / name / "ventricles" / "fold-2" / "seed-0"


def losses(folder: Path, column: str) -> list[float]:
    with (folder / "history.tsv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file, delimiter="\t")]


FOLD, SWEEP = ("fold", "--roi", "ventricles", "--fold", "2"), ("sweep", "--inputs", "ventricles", "--jobs", "1")
CASES = (
    pytest.param((FOLD, ["--model.objective", "ordinal", "--model.label_noise", "0.1"], 1), id="ordinal"),
    pytest.param((SWEEP, [], 3), id="classification, by a sweep", marks=pytest.mark.long),
)


@pytest.fixture(scope="module", params=CASES)
def one_and_two(
    phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    """A run of one process, and the same run of two."""
    studies, (command, options, runs) = tmp_path_factory.mktemp("distributed"), request.param
    places, two = (studies, phantom_cohort, store_folder), ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    one = trained(*places, "one", *FOLD, *options)
    other = trained(*places, "two", *command, *two, "--data.memory", "mapped", *options)
    assert len(list(studies.glob("two/ventricles/*/*/run.json"))) == runs
    return one, other


@pytest.mark.slow
@pytest.mark.parametrize("column", ["train/loss", "tuning/loss"])
def test_losses_are_those_of_one_process_with_the_same_global_batch(one_and_two, column) -> None:
    one, two = (losses(folder, column) for folder in one_and_two)
    assert len(one) == STEPS
    assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_every_scan_is_predicted_once(one_and_two) -> None:
    one, two = (read_predictions(folder / "predictions.tsv") for folder in one_and_two)
    for column in ("partition", "patient", "session", "y"):
        assert getattr(one, column).tolist() == getattr(two, column).tolist()
    assert len({*zip(two.patient, two.session, strict=True)}) == len(two.p)
    assert two.p == pytest.approx(one.p, abs=1e-4)


@pytest.mark.slow
def test_every_run_of_two_processes_is_complete_at_the_first_attempt(one_and_two: tuple[Path, Path]) -> None:
    _, two = one_and_two
    runs = [RunFolder(path.parent) for path in two.parents[1].glob("fold-*/seed-0/run.json")]
    for run in runs:
        rows, _ = run.result()
        assert (run.facts()["state"], run.facts()["attempts"]) == ("complete", 1)
        assert len({*zip(rows.patient, rows.session, strict=True)}) == len(rows.p)


def test_a_batch_smaller_than_the_number_of_devices_is_refused() -> None:
    from datamodules.mri import EpochBatches

    with pytest.raises(ValueError, match=r"batch_size 1 leaves batches smaller than the 2 devices; raise it"):
        EpochBatches([1, 2, 3], 1, seed=0, rank=0, world=2)
