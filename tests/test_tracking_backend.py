"""Tracking against a server: the real W&B client and its core process, the stub of wandb_stub.py on loopback.

What stays unproven without a real server: how the dashboard looks, permissions, limits, server-side checks.
"""

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking_server import (
    FIRST,
    OFFLINE,
    ONLINE,
    ROOT,
    epochs_of,
    listens,
    log_epochs,
    log_result,
    offline_run,
    start,
    wait_for,
)
from wandb_stub import API_KEY, WandbStub

from experiments.tracking import wandb_runs as tracking
from experiments.tracking.offline_runs import offline_run_folders
from experiments.tracking.options import RunIdentity, TrackingError
from experiments.tracking.sync import sync_study

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

TRAIN = """
import sys, time
from pathlib import Path
from experiments.tracking import wandb_runs as tracking
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
    assert report.verified == {f"study-global-f{fold}-s0": "5 of 5 rows, 3 of 3 tables on the server" for fold in range(3)}
    assert [epochs_of(run) for run in stub.runs.values()] == [[0, 1, 2, 3]] * 3
    assert len(stub.artifacts) == 9
    uploads = len([path for _, path, _ in stub.requests if "file_stream" in path])
    again = sync_study(tmp_path, OFFLINE)
    assert set(again.skipped.values()) == {"uploaded before"}
    assert len([path for _, path, _ in stub.requests if "file_stream" in path]) == uploads


def test_sync_refuses_a_run_whose_tables_are_gone(stub, tmp_path):
    offline_run(tmp_path / "old", FIRST, range(2))
    shutil.rmtree(tmp_path / "old" / "wandb" / "data")
    (reason,) = sync_study(tmp_path, OFFLINE).failed.values()
    assert reason.startswith("3 of its 3 table files are missing")
    assert str(tmp_path / "old") in reason
    assert stub.runs == {}


def test_a_study_that_was_moved_is_synced_with_its_tables(stub, tmp_path):
    offline_run(tmp_path / "old", FIRST, range(2))
    (tmp_path / "old").rename(tmp_path / "new")
    (state,) = sync_study(tmp_path, OFFLINE).verified.values()
    assert state.endswith("3 of 3 tables on the server")
    assert not list(Path("/tmp").glob("regionwise-*/data"))


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
    assert len(offline_run_folders(tmp_path)) == 2
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
    (folder,) = offline_run_folders(tmp_path)
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
    assert len(offline_run_folders(tmp_path)) == 1
    assert set(sync_study(tmp_path, OFFLINE).verified) == {"study-global-f0-s0"}


def test_terminal_without_a_key_is_never_asked(stub, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    controller, terminal = pty.openpty()
    code = (
        "import sys; from pathlib import Path; from experiments.tracking.wandb_runs import *\n"
        "log_comparison(TrackingOptions(), 's', Path(sys.argv[1]), [{'input': 'global', 'auroc': 0.7}])"
    )
    with start(code, tmp_path, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        assert process.wait(60) == 0
    os.close(terminal)
    assert b"no API key" in os.read(controller, 100_000)
    os.close(controller)
    assert len(offline_run_folders(tmp_path)) == 1
