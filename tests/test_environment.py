"""What an environment holds by chance changes neither a command nor a byte of its results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.runtime.environment import PARENT, own_environment

LAUNCHERS = (
    "RANK", "LOCAL_RANK", "GLOBAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT", "SLURM_NTASKS",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "PALS_RANKID", "MV2_COMM_WORLD_RANK",
    "MPI_LOCALRANKID", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "FLUX_TASK_RANK", "TORCHELASTIC_RUN_ID", "PET_NNODES",
    "PL_GLOBAL_SEED", "PL_TRAINER_MAX_EPOCHS", "PL_TRAINER_LIMIT_TRAIN_BATCHES",
)  # fmt: skip
RESULTS = ("predictions.tsv", "metrics.json", "config.yaml")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("value", ["", "1", "node7"])
def test_a_launcher_s_variable_is_forgotten(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with own_environment():
        assert name not in os.environ


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_CONF", "SBATCH_ACCOUNT", "HOME", "FRANK"])
def test_other_variables_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    with own_environment():
        assert os.environ[name] == "3"


def test_they_count_in_a_process_that_a_run_starts_and_nowhere_below_or_after(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; from experiments.runtime.environment import own_environment as e\nwith e(): print('RANK' in os.environ)"
    seen = [sys.executable, "-c", code]
    between = [sys.executable, "-c", f"import subprocess; subprocess.run({seen!r})"]

    def started(words: list[str]) -> str:
        return subprocess.run(words, env=os.environ | {"RANK": "1"}, capture_output=True, text=True, check=True).stdout.strip()

    with own_environment():
        assert started(seen) == "True"
        assert started(between) == "False", "a process in between is no run"
        stale = os.environ[PARENT]
    assert PARENT not in os.environ
    monkeypatch.setenv(PARENT, f"{stale}0")
    assert started(seen) == "False"


def test_a_run_on_several_machines_is_refused() -> None:
    from experiments.training.trainer import make_trainer
    from regions.errors import UserError

    with pytest.raises(UserError, match="num_nodes 2: a run trains on one machine"):
        make_trainer({"num_nodes": 2})
