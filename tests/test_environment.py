"""What an environment holds by chance changes neither a command nor a byte of its results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.runtime.environment import PARENT, own_environment
from experiments.tracking.environment import forget_identities, started_by_agent
from experiments.tracking.offline_runs import offline_run_folders
from experiments.tracking.options import RunIdentity, TrackingOptions
from experiments.tracking.sync import read_records
from experiments.tracking.wandb_runs import close_run, log_evaluation, open_run

pytest_plugins = ["tracking_fixtures"]

LAUNCHERS = (
    "RANK", "LOCAL_RANK", "GLOBAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT", "SLURM_NTASKS",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "PALS_RANKID", "MV2_COMM_WORLD_RANK",
    "MPI_LOCALRANKID", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "FLUX_TASK_RANK", "TORCHELASTIC_RUN_ID", "PET_NNODES",
    "PL_GLOBAL_SEED", "PL_TRAINER_MAX_EPOCHS", "PL_TRAINER_LIMIT_TRAIN_BATCHES",
)  # fmt: skip
OF_WANDB = (
    "RUN_ID", "NAME", "NOTES", "TAGS", "JOB_TYPE", "RUN_GROUP", "RESUME", "RESUME_FROM", "FORK_FROM", "SWEEP_ID",
    "SWEEP_PARAM_PATH", "DIR", "DATA_DIR", "CONFIG", "CONFIG_PATHS", "LAUNCH", "LAUNCH_CONFIG_PATH", "PROGRAM", "HOST",
    "USERNAME", "USER_EMAIL", "IGNORE_GLOBS", "CONSOLE", "SAVE_CODE", "GIT_REMOTE_URL", "GIT_COMMIT", "DOCKER", "X_LABEL",
    "X_SKIP_TRANSACTION_LOG", "X_STATS_SAMPLING_INTERVAL", "X_START_TIME", "ROOT_DIR", "REINIT", "ALLOW_VAL_CHANGE", "STRICT",
)  # fmt: skip
KEPT = (
    "API_KEY", "BASE_URL", "APP_URL", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE", "MODE", "DISABLED", "PROJECT", "ENTITY",
    "HTTP_PROXY", "HTTPS_PROXY", "X_PROXIES", "_PROXIES", "X_EXTRA_HTTP_HEADERS", "_EXTRA_HTTP_HEADERS", "INSECURE_DISABLE_SSL",
    "INIT_TIMEOUT", "FINISH_TIMEOUT", "HTTP_TIMEOUT", "X_GRAPHQL_TIMEOUT_SECONDS", "X_FILE_STREAM_RETRY_MAX", "_SERVICE_WAIT",
    "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR", "ERROR_REPORTING", "SILENT", "QUIET", "DISABLE_CODE", "X_DISABLE_STATS",
)  # fmt: skip
TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "3"]
RESULTS = ("predictions.tsv", "metrics.json", "config.yaml")


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


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("name", OF_WANDB)
@pytest.mark.parametrize("value", ["", "1", "theirs"])
def test_a_variable_that_says_what_a_run_is_is_forgotten(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    forget_identities()
    assert f"WANDB_{name}" not in os.environ


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("name", KEPT)
def test_a_variable_that_says_how_the_server_is_reached_stays_unless_it_is_empty(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"WANDB_{name}", "theirs")
    forget_identities()
    assert os.environ[f"WANDB_{name}"] == "theirs"
    monkeypatch.setenv(f"WANDB_{name}", "")
    forget_identities()
    assert f"WANDB_{name}" not in os.environ


@pytest.mark.usefixtures("own_home")
def test_every_setting_of_wandb_is_either_kept_by_name_or_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.wandb_settings import Settings

    for name in Settings.model_fields:
        monkeypatch.setenv(f"WANDB_{name.upper()}", "theirs")
    forget_identities()
    left = {name for name in Settings.model_fields if f"WANDB_{name.upper()}" in os.environ}
    assert not [
        name for name in left if name.startswith(("run", "sweep", "launch", "x_stats", "x_file_stream_max", "resume", "git"))
    ]
    assert {"api_key", "base_url", "http_proxy", "init_timeout", "x_graphql_retry_max"} <= left
    assert len(left) < len(Settings.model_fields) / 3


@pytest.mark.usefixtures("own_home")
def test_an_agent_of_a_sweep_names_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config-a.yaml").touch()
    agent = {"SWEEP_ID": "s", "RUN_ID": "a", "SWEEP_PARAM_PATH": str(tmp_path / "config-a.yaml")}
    for name, value in agent.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert started_by_agent()
    forget_identities()
    assert {os.environ[f"WANDB_{name}"] for name in agent} == set(agent.values())


def about(folder: Path) -> dict[str, object]:
    """What an offline run says that it is."""
    (run_folder,) = offline_run_folders(folder)
    (run,) = [record["run"] for record in read_records(run_folder) if record["type"] == "run"][:1]
    return {key: value for key, value in run.items() if key not in ("start_time", "settings", "telemetry")}


def small_run(folder: Path) -> dict[str, object]:
    logger = open_run(TrackingOptions(mode="offline"), RunIdentity("s", "global", 1, 0), folder, {"lr": 0.1})
    y, p = np.array([0, 1]), np.array([0.1, 0.9])
    log_evaluation(logger, threshold=0.5, metrics={}, y=y, p=p, pseudonyms=["0123456789"] * 2)
    close_run(logger, completed=True)
    assert (folder / "wandb" / "data" / "artifacts" / "staging").is_dir()
    return about(folder)


@pytest.mark.parametrize("value", ["", "1", "not/a value: at all"])
def test_an_offline_run_is_the_same_whatever_the_variables_say(
    value: str, own_home: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = small_run(tmp_path / "clean")
    assert (clean["run_id"], clean["display_name"], clean["run_group"]) == ("s-global-f1-s0", "global/fold-1", "s")
    sys.modules["wandb"].teardown()
    for name in (*OF_WANDB, *KEPT):
        if not name.endswith("_DIR") or name in OF_WANDB:
            monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_PROJECT", "regionwise")
    monkeypatch.delenv("WANDB_ENTITY")
    assert small_run(tmp_path / "other") == clean


@pytest.fixture(scope="module")
def undisturbed(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one run, trained in a plain environment."""
    studies = tmp_path_factory.mktemp("environment")
    return trained(studies, phantom_cohort, store_folder, "plain", {})


def trained(studies: Path, cohort: Path, store: Path, within: str, variables: dict[str, str]) -> Path:
    places = ["--cohort", str(cohort), "--store", str(store), "--studies", str(studies / within), "--study", "s"]
    words = [sys.executable, "-m", "experiments", "fold", "--roi", "global", "--fold", "1", "--quiet", *TINY, *places]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(words, env=plain | variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return studies / within / "s" / "global" / "fold-1" / "seed-0"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["", "4"])
def test_no_variable_changes_a_byte_of_a_run(
    value: str, undisturbed: Path, phantom_cohort: Path, store_folder: Path, tmp_path: Path
) -> None:
    variables = dict.fromkeys([*LAUNCHERS, *(f"WANDB_{name}" for name in OF_WANDB)], value)
    run = trained(tmp_path, phantom_cohort, store_folder, "other", variables)
    for name in RESULTS:
        written = (run / name).read_bytes().replace(str(tmp_path / "other").encode(), b"")
        assert written == (undisturbed / name).read_bytes().replace(str(undisturbed.parents[3]).encode(), b""), name
    assert about(run) == about(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [{"WANDB_DISABLED": "true"}, pytest.param({"WANDB_MODE": "disabled"}, marks=pytest.mark.long)]
)
def test_disabled_means_disabled(variables, phantom_cohort: Path, store_folder: Path, tmp_path: Path) -> None:
    run = trained(tmp_path, phantom_cohort, store_folder, "other", variables)
    assert (run / "metrics.json").is_file()
    assert not (run / "wandb").exists()


def test_a_run_on_several_machines_is_refused() -> None:
    from experiments.training.trainer import make_trainer
    from regions.errors import UserError

    with pytest.raises(UserError, match="num_nodes 2: a run trains on one machine"):
        make_trainer({"num_nodes": 2})
