"""What leaves the machine, with secrets planted in everything that W&B may look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

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
    from experiments.tracking import wandb_runs as tracking
    from experiments.tracking.privacy import pseudonym
    options = tracking.TrackingOptions(project="test", mode=sys.argv[2])
    logger = tracking.open_run(options, tracking.RunIdentity("s", "global", 0, 0), Path(sys.argv[3]), config)
    logger.log_metrics({"epoch": 0, "tuning/auroc": 0.5})
    logger.log_hyperparams(config)
    key = bytes(32)
    import numpy as np
    names = [pseudonym("JaneDoePlanted", key)] * 2
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
