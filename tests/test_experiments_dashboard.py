"""The W&B workspace as code, and the links for the terminal dashboard."""

import json
from pathlib import Path

import pytest
from tracking_server import OFFLINE, offline_run

from experiments.tracking.leet import leet_command
from experiments.tracking.offline_runs import offline_run_folders
from experiments.tracking.options import RunIdentity
from experiments.tracking.workspace import build_workspace, dashboard, workspace_values

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")


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
    assert len(offline_run_folders(tmp_path)) == 2
