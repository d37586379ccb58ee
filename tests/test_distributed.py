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


def trained(folder: Path, cohort: Path, store: Path, name: str, *more: str) -> Path:
    """The run folder of a training of five epochs with one step each: every step's loss stands in history.tsv."""
    words = ["--preset", "demo", "--cohort", str(cohort), "--store", str(store), "--studies", str(folder), "--study", name]
    words += ["--network.init_args.stages", "3", "--network.init_args.width", "3", "--tracking.mode", "disabled"]
    words += ["--data.batch_size", "100", "--trainer.max_epochs", str(STEPS), "--trainer.accelerator", "cpu", *more]
    command = [sys.executable, "-m", "experiments", "fold", "--roi", "ventricles", "--fold", "2", *words]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / name / "ventricles" / "fold-2" / "seed-0"


def losses(folder: Path, column: str) -> list[float]:
    with (folder / "history.tsv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file, delimiter="\t")]


OBJECTIVES = (
    pytest.param([], id="classification", marks=pytest.mark.long),
    pytest.param(["--model.objective", "ordinal", "--model.label_noise", "0.1"], id="ordinal"),
)


@pytest.fixture(scope="module", params=OBJECTIVES)
def one_and_two(
    phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("distributed")
    one = trained(folder, phantom_cohort, store_folder, "one", *request.param)
    two = trained(
        folder, phantom_cohort, store_folder, "two", "--trainer.devices", "2", "--trainer.strategy", "ddp",
        "--data.memory", "mapped", *request.param,
    )  # fmt: skip
    return one, two


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
def test_a_batch_smaller_than_the_number_of_devices_is_refused(study) -> None:
    from datamodules.mri import EpochBatches

    with pytest.raises(ValueError, match=r"batch_size 1 leaves batches smaller than the 2 devices; raise it"):
        EpochBatches([1, 2, 3], 1, seed=0, rank=0, world=2)


@pytest.mark.slow
def test_a_sweep_trains_runs_on_two_devices_one_after_another(phantom_cohort: Path, store_folder: Path, tmp_path: Path) -> None:
    words = ["--preset", "demo", "--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(tmp_path)]
    words += ["--network.init_args.stages", "2", "--network.init_args.width", "2", "--tracking.mode", "disabled"]
    words += ["--folds", "3", "--trainer.max_epochs", "1", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    words += ["--trainer.accelerator", "cpu", "--study", "swept", "--inputs", "brainstem", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "sweep", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
    for fold in range(3):
        run = RunFolder(tmp_path / "swept" / "brainstem" / f"fold-{fold}" / "seed-0")
        rows, _ = run.result()
        assert (run.facts()["state"], run.facts()["attempts"]) == ("complete", 1)
        assert len({*zip(rows.patient, rows.session, strict=True)}) == len(rows.p)
