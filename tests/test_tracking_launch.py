"""Tracking from several processes: a forked worker, distributed training, the agents of a W&B sweep."""

import os
import subprocess
import sys

import pytest
import yaml
from tracking_server import FIRST, ONLINE, ROOT, log_epochs

from experiments.tracking import wandb_runs as tracking
from experiments.tracking.options import RunIdentity

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")


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


DDP = """
import sys, logging, warnings
from pathlib import Path
import pytorch_lightning as pl, torch
from experiments.tracking import wandb_runs as tracking
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
        "import sys; from pathlib import Path; from experiments.tracking.wandb_runs import *\n"
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
