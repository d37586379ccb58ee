"""Tracking against a server: the real W&B client and its core process, the stub of wandb_stub.py on loopback.

What stays unproven without a real server: how the dashboard looks, permissions, limits, server-side checks.
"""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from wandb_stub import API_KEY, Run, WandbStub

from experiments import tracking
from experiments.dashboard import build_workspace, dashboard, leet_command, workspace_values
from experiments.sync import sync_study
from experiments.tracking import RunIdentity, TrackingError, TrackingOptions

ROOT = Path(__file__).parent.parent
ONLINE = TrackingOptions(mode="online", project="test")
OFFLINE = TrackingOptions(mode="offline", project="test")
FIRST = RunIdentity("study", "global", 0, 0)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """No key, no settings and no caches of the developer; a fresh W&B for each test; short patience."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(home))
    for name, value in {"ERROR_REPORTING": "false", "FINISH_TIMEOUT": "3", "INIT_TIMEOUT": "3"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def stub(monkeypatch):
    """A server that must understand everything it is asked."""
    with WandbStub() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
    assert server.unknown == []


def log_epochs(logger, epochs: range) -> None:
    """One row an epoch, as the training logs them."""
    for epoch in epochs:
        logger.log_metrics({"tuning/auroc": epoch / 10, "epoch": epoch}, step=epoch)


def log_result(logger) -> None:
    """A small evaluation with its three tables."""
    tracking.log_evaluation(
        logger, threshold=0.4, metrics={"test/auroc": 0.75}, y=np.array([0, 1, 0, 1]), p=np.array([0.1, 0.6, 0.5, 0.3]),
        pseudonyms=[tracking.pseudonym(f"sub-{number}", bytes(32)) for number in range(4)],
    )  # fmt: skip


def offline_run(folder: Path, identity: RunIdentity, epochs: range, completed: bool = True) -> None:
    """One offline run, or a part of one."""
    logger = tracking.open_run(OFFLINE, identity, folder, {"lr": 0.1})
    log_epochs(logger, epochs)
    if completed:
        log_result(logger)
    tracking.close_run(logger, completed=completed)


def epochs_of(run: Run) -> list[int]:
    """The epochs of the logged curve."""
    return [row["epoch"] for row in run.history if "tuning/auroc" in row]


def start(code: str, *arguments: object, **options) -> subprocess.Popen:
    """Run Python code in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **options)


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether something on this machine answers on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


TRAIN = """
import sys, time
from pathlib import Path
from experiments import tracking
options = tracking.TrackingOptions(project="test")
logger = tracking.open_run(options, tracking.RunIdentity("study", "global", 0, 0), Path(sys.argv[1]), {"lr": 0.1})
for epoch in range(int(sys.argv[2])):
    logger.log_metrics({"tuning/auroc": epoch / 10, "epoch": epoch}, step=epoch)
print("logged", flush=True)
"""


def test_online_run_arrives_whole(stub, tmp_path, capfd):
    logger = tracking.open_run(ONLINE, FIRST, tmp_path, {"lr": 0.1, "cohort": "/data/cohort"})
    log_epochs(logger, range(3))
    log_result(logger)
    tracking.close_run(logger, completed=True)
    (run,) = stub.runs.values()
    assert (run.id, run.project, run.state) == ("study-global-f0-s0", "test", "finished")
    assert (run.about["group"], run.about["job_type"], run.about["tags"]) == ("study", "fold", ["global"])
    identity = {"study": "study", "input": "global", "fold": 0, "seed": 0, "folds": 7, "kind": "fold"}
    assert run.settings == {"lr": 0.1, **identity}
    assert epochs_of(run) == [0, 1, 2]
    assert {key: run.summary[key] for key in ("test/auroc", "threshold", "completed")} == {
        "test/auroc": 0.75, "threshold": 0.4, "completed": True}  # fmt: skip
    assert [artifact.state for artifact in stub.artifacts.values()] == ["COMMITTED"] * 3
    assert capfd.readouterr() == ("", "")


def test_offline_run_asks_the_server_nothing(stub, tmp_path):
    offline_run(tmp_path, FIRST, range(3))
    assert stub.requests == []


def test_mode_online_beats_the_environment(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking.close_run(tracking.open_run(ONLINE, FIRST, tmp_path, {}), completed=True)
    assert list(stub.runs) == ["study-global-f0-s0"]


def test_offline_runs_are_synced_once_and_verified(stub, tmp_path):
    for fold in range(3):
        offline_run(tmp_path / str(fold), RunIdentity("study", "global", fold, 0), range(4))
    report = sync_study(tmp_path, OFFLINE)
    assert report.failed == report.skipped == {}
    assert report.verified == {
        f"study-global-f{fold}-s0": "5 of 5 rows, 3 of 3 tables on the server" for fold in range(3)
    }
    assert [epochs_of(run) for run in stub.runs.values()] == [[0, 1, 2, 3]] * 3
    assert len(stub.artifacts) == 9
    uploads = len([path for _, path, _ in stub.requests if "file_stream" in path])
    again = sync_study(tmp_path, OFFLINE)
    assert set(again.skipped.values()) == {"uploaded before"}
    assert len([path for _, path, _ in stub.requests if "file_stream" in path]) == uploads


def test_sync_refuses_a_run_whose_tables_are_gone(stub, tmp_path):
    offline_run(tmp_path / "old", FIRST, range(2))
    (tmp_path / "old").rename(tmp_path / "new")
    (reason,) = sync_study(tmp_path, OFFLINE).failed.values()
    assert reason.startswith("3 of its 3 table files are missing")
    assert str(tmp_path / "old") in reason
    assert stub.runs == {}


def test_sync_needs_a_key_and_a_run(tmp_path):
    with pytest.raises(TrackingError, match="no tracked run"):
        sync_study(tmp_path, OFFLINE)
    offline_run(tmp_path, FIRST, range(1))
    with pytest.raises(TrackingError, match="no W&B API key"):
        sync_study(tmp_path, OFFLINE)


def test_resumed_offline_run_is_one_run_without_doubles(stub, tmp_path):
    offline_run(tmp_path, FIRST, range(3), completed=False)
    time.sleep(1.1)  # the parts are ordered by their second of start
    offline_run(tmp_path, FIRST, range(3, 6))
    assert len(tracking.offline_run_folders(tmp_path)) == 2
    assert set(sync_study(tmp_path, OFFLINE).verified) == {"study-global-f0-s0"}
    (run,) = stub.runs.values()
    assert [row["_step"] for row in run.history] == list(range(7))
    assert epochs_of(run) == list(range(6))
    assert run.summary["completed"] is True


def test_resumed_online_run_is_one_run_without_doubles(stub, tmp_path):
    for epochs, completed in ((range(3), False), (range(3, 6), True)):
        logger = tracking.open_run(ONLINE, FIRST, tmp_path, {})
        log_epochs(logger, epochs)
        tracking.close_run(logger, completed=completed)
    (run,) = stub.runs.values()
    assert [row["_step"] for row in run.history] == list(range(6))
    assert epochs_of(run) == list(range(6))
    assert (run.summary["completed"], run.state) == (True, "finished")


def test_killed_run_is_synced_up_to_its_last_second(stub, tmp_path):
    code = TRAIN + "time.sleep(60)"
    with start(code, tmp_path, 5, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "logged\n"
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
    assert "still running" in sync_study(tmp_path, OFFLINE).skipped["study-global-f0-s0"]
    (folder,) = tracking.offline_run_folders(tmp_path)
    os.utime(folder / "run-study-global-f0-s0.wandb", (1e9, 1e9))
    assert list(sync_study(tmp_path, OFFLINE).verified.values()) == ["5 of 5 rows, 0 of 0 tables on the server"]
    (run,) = stub.runs.values()
    assert epochs_of(run) == list(range(5))
    assert run.state == "failed"
    assert "completed" not in run.summary


@pytest.mark.slow
def test_training_survives_an_outage_and_sync_recovers_it(tmp_path, monkeypatch, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, ROOT / "tests" / "wandb_stub.py", str(port)])
    try:
        wait_for(lambda: listens(port))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        logger = tracking.open_run(ONLINE, FIRST, tmp_path, {})
        log_epochs(logger, range(3))
    finally:
        server.kill()
        server.wait()
    log_epochs(logger, range(3, 6))
    log_result(logger)
    assert "predictions.tsv has them" in caplog.text
    began = time.monotonic()
    tracking.close_run(logger, completed=True)
    assert time.monotonic() - began < 10
    sys.modules["wandb"].teardown()
    with WandbStub(port) as back:
        report = sync_study(tmp_path, ONLINE)
        assert (report.skipped, report.failed) == ({}, {})
        assert report.verified == {"study-global-f0-s0": "6 of 6 rows, 0 of 0 tables on the server"}
        assert epochs_of(back.runs["study-global-f0-s0"]) == list(range(6))
        summary = back.runs["study-global-f0-s0"].summary
        assert (summary["completed"], summary["test/auroc"]) == (True, 0.75)
        assert sync_study(tmp_path, ONLINE).failed == {}
        assert back.unknown == []


@pytest.mark.parametrize("status", [401, 403, pytest.param(500, marks=pytest.mark.slow)])
def test_refused_start_falls_back_to_offline(stub, tmp_path, status, caplog):
    stub.fail = lambda operation: status
    began = time.monotonic()
    logger = tracking.open_run(ONLINE, FIRST, tmp_path, {})
    assert time.monotonic() - began < 30
    log_epochs(logger, range(2))
    tracking.close_run(logger, completed=True)
    (warning,) = [record.message for record in caplog.records if record.name == "regionwise"]
    assert warning.startswith("W&B is not reachable")
    assert "make sync" in warning
    stub.fail = lambda operation: None
    assert len(tracking.offline_run_folders(tmp_path)) == 1
    assert set(sync_study(tmp_path, OFFLINE).verified) == {"study-global-f0-s0"}


def test_terminal_without_a_key_is_never_asked(stub, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    controller, terminal = pty.openpty()
    code = (
        "import sys; from pathlib import Path; from experiments.tracking import *\n"
        "log_comparison(TrackingOptions(), 's', Path(sys.argv[1]), [{'input': 'global', 'auroc': 0.7}])"
    )
    with start(code, tmp_path, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        assert process.wait(60) == 0
    os.close(terminal)
    assert b"no API key" in os.read(controller, 100_000)
    os.close(controller)
    assert len(tracking.offline_run_folders(tmp_path)) == 1


def test_worker_forked_from_a_tracking_process_has_its_own_run(stub, tmp_path):
    tracking.close_run(tracking.open_run(ONLINE, FIRST, tmp_path / "0", {}), completed=True)
    child = os.fork()
    if child == 0:
        logger = tracking.open_run(ONLINE, RunIdentity("study", "global", 1, 0), tmp_path / "1", {})
        log_epochs(logger, range(2))
        tracking.close_run(logger, completed=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    logger = tracking.open_run(ONLINE, RunIdentity("study", "global", 2, 0), tmp_path / "2", {})
    log_epochs(logger, range(3))
    tracking.close_run(logger, completed=True)
    assert [len(run.history) for run in stub.runs.values()] == [0, 2, 3]


SECRETS = {
    "patient": "JaneDoePlanted", "path": "planted-folder", "host": "planted-host", "remote": "planted-remote",
    "argument": "planted-argument", "variable": "planted-variable",
}  # fmt: skip
LEAKY = """
import socket, sys
from pathlib import Path
socket.gethostname = lambda: "planted-host"
print("patient JaneDoePlanted")
config = {"cohort": "/data/planted-folder/JaneDoePlanted", "lr": 0.1}
if sys.argv[1] == "ours":
    from experiments import tracking
    options = tracking.TrackingOptions(project="test", mode=sys.argv[2])
    logger = tracking.open_run(options, tracking.RunIdentity("s", "global", 0, 0), Path(sys.argv[3]), config)
    logger.log_metrics({"epoch": 0, "tuning/auroc": 0.5})
    logger.log_hyperparams(config)
    key = bytes(32)
    import numpy as np
    names = [tracking.pseudonym("JaneDoePlanted", key)] * 2
    tracking.log_evaluation(logger, threshold=0.5, metrics={"test/auroc": 1.0}, y=np.array([0, 1]),
                            p=np.array([0.1, 0.9]), pseudonyms=names)
    tracking.close_run(logger, completed=True)
else:
    import wandb
    with wandb.init(project="test", dir=sys.argv[3], mode=sys.argv[2], config=config) as run:
        run.log({"epoch": 0})
"""


def leaking_run(tmp_path: Path, who: str, mode: str) -> bytes:
    """Train with secrets in everything that W&B may look at; return the bytes that sync would upload."""
    work, out = tmp_path / "planted-folder", tmp_path / who
    work.mkdir(exist_ok=True)
    out.mkdir()
    (work / "train.py").write_text(LEAKY)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-C", str(work)]
    for command in (["init", "-q"], ["remote", "add", "origin", "https://example.org/planted-remote.git"], ["add", "."],
                    ["commit", "-q", "-m", "x"]):  # fmt: skip
        subprocess.run([*git, *command], check=False, capture_output=True)
    environment = {**os.environ, "SLURM_JOB_COMMENT": "planted-variable"}
    subprocess.run([sys.executable, "train.py", who, mode, str(out), "--planted-argument"], cwd=work, env=environment,
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    return b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file() and "logs" not in path.parts)


def found_in(data: bytes) -> set[str]:
    """Which secrets occur."""
    return {name for name, secret in SECRETS.items() if secret.encode() in data}


def test_nothing_identifying_is_sent_or_stored_by_default(stub, tmp_path):
    stub.flags = {"code_saving_enabled": True}
    stored = leaking_run(tmp_path, "ours", "online")
    assert stub.runs["s-global-f0-s0"].summary["completed"] is True
    assert found_in(stub.bytes_received) == set()
    assert found_in(stored) == set()
    assert b"sys.argv" not in stub.bytes_received


def test_the_detector_sees_what_wandb_sends_by_its_own_defaults(stub, tmp_path):
    stored = leaking_run(tmp_path, "theirs", "online")
    assert found_in(stub.bytes_received) == set(SECRETS)
    assert {"patient", "host", "path"} <= found_in(stored)


DDP = """
import sys, logging, warnings
from pathlib import Path
import pytorch_lightning as pl, torch
from experiments import tracking
warnings.simplefilter("ignore"); logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

class Line(pl.LightningModule):
    def __init__(self):
        super().__init__(); self.line = torch.nn.Linear(1, 1)
    def training_step(self, batch, index):
        loss = self.line(batch[0]).square().mean()
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

folder = Path(sys.argv[1])
identity = tracking.RunIdentity("s", "global", 0, 0)
logger = tracking.open_run(tracking.TrackingOptions(project="test"), identity, folder, {})
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)))
pl.Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=logger, enable_checkpointing=False,
           default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False).fit(Line(), data)
tracking.close_run(logger, completed=True)
"""


@pytest.mark.slow
def test_distributed_training_is_one_run(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    script = tmp_path / "train.py"
    script.write_text(DDP)
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=120)
    (run,) = stub.runs.values()
    assert [row["epoch"] for row in run.history] == [0, 1]
    assert run.summary["completed"] is True
    assert len(list((tmp_path / "wandb").glob("run-*"))) == 1


@pytest.mark.slow
def test_two_agents_share_a_sweep(stub, tmp_path):
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb_sweep.yaml").read_text())
    assert len(sweep["parameters"]["ROI"]["values"]) * len(sweep["parameters"]["FOLD"]["values"]) == 42
    sweep["parameters"] = {"ROI": {"values": ["global", "brainstem"]}, "FOLD": {"values": [0, 1]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    (tmp_path / "fold.py").write_text(
        "import sys; from pathlib import Path; from experiments.tracking import *\n"
        "identity = RunIdentity('study', sys.argv[1], int(sys.argv[2]), 0)\n"
        "logger = open_run(TrackingOptions(project='test'), identity, Path('-'.join(sys.argv[1:])), {})\n"
        "logger.log_metrics({'epoch': 0}); close_run(logger, completed=True)\n"
    )
    (tmp_path / "Makefile").write_text(f"fold:\n\t@{sys.executable} fold.py $(ROI) $(FOLD)\n")
    wandb = [sys.executable, "-m", "wandb"]
    subprocess.run([*wandb, "sweep", "-p", "test", "sweep.yaml"], cwd=tmp_path, check=True, capture_output=True)
    (name,) = stub.sweeps
    agents = [
        subprocess.Popen([*wandb, "agent", f"team/test/{name}"], cwd=tmp_path, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]  # fmt: skip
    assert [agent.wait(180) for agent in agents] == [0, 0]
    given = stub.sweeps[name]["given"]
    assert len({agent for agent, _ in given}) == 2
    done = sorted((run.settings["input"], run.settings["fold"]) for run in stub.runs.values())
    assert done == [("brainstem", 0), ("brainstem", 1), ("global", 0), ("global", 1)]
    assert all(run.summary["completed"] for run in stub.runs.values())


def test_workspace_is_written_without_a_key(tmp_path):
    pytest.importorskip("wandb_workspaces")
    made = dashboard("study", tmp_path, OFFLINE)
    assert made.url is None
    text = made.file.read_text()
    assert json.loads(text) == workspace_values(build_workspace("study", "test", "entity"))
    sections = json.loads(text)["spec"]["section"]["panelBankConfig"]["sections"]
    panels = {section["name"]: section["panels"] for section in sections}
    bar = next(panel["config"] for panel in panels["Inputs compared"] if panel["viewType"] == "Bar Chart")
    assert (bar["groupBy"], bar["groupAgg"], bar["groupArea"]) == ("input.value", "mean", "stddev")
    scatter = next(panel["config"] for panel in panels["Inputs compared"] if panel["viewType"] == "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("config:fold.value", "summary:test/auroc")
    assert [(panel["config"]["xAxis"], panel["config"]["groupBy"]) for panel in panels["Learning curves"]] == [
        ("epoch", "input.value")] * 4  # fmt: skip
    assert "test/roc_table" in json.dumps(panels["ROC"])


def test_workspace_is_saved_and_read_back(stub, tmp_path):
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    made = dashboard("study", tmp_path, OFFLINE)
    back = workspaces.Workspace.from_url(made.url)
    assert workspace_values(back)["spec"]["section"] == json.loads(made.file.read_text())["spec"]["section"]
    assert back.name == "regionwise: study"


def test_terminal_dashboard_gets_links_to_all_runs(tmp_path):
    for fold in range(2):
        identity = RunIdentity("s", "global", fold, 0)
        offline_run(tmp_path / "global" / f"fold-{fold}", identity, range(1), completed=False)
    for _ in range(2):
        command = leet_command(tmp_path)
        links = sorted(Path(command[-1]).iterdir())
        assert [link.name[-14:] for link in links] == ["s-global-f0-s0", "s-global-f1-s0"]
        assert all(any(link.glob("run-*.wandb")) for link in links)
    assert len(tracking.offline_run_folders(tmp_path)) == 2
