"""W&B's dashboard in the terminal, over all offline runs of a study; no key, no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from datamodules.files.listing import list_folder
from experiments.tracking.environment import without_server
from experiments.tracking.offline_runs import offline_run_folders
from experiments.tracking.options import TrackingError


def leet_command(study_folder: Path) -> list[str]:
    """Return the command line of `wandb leet`, W&B's dashboard in the terminal; needs no key and no network.

    Leet lists one folder, while each run keeps its own: `<study>/leet/` gets a link to every offline run.

    Raises:
        TrackingError: if the study has no offline run.
    """
    runs = offline_run_folders(study_folder)
    if not runs:
        raise TrackingError(f"no offline run in {study_folder}; runs are made by `make fold` and `make sweep`")
    links = study_folder / "leet"
    links.mkdir(exist_ok=True)
    for old in list_folder(links):
        if old.is_symlink():
            old.unlink()
    for run in runs:
        (links / run.name).symlink_to(os.path.relpath(run, links))
    return [sys.executable, "-m", "wandb", "leet", str(links)]


def leet(study_folder: Path) -> int:
    """Show the study in the terminal until the user quits; the command behind `make leet`.

    Returns:
        The exit status of W&B's terminal dashboard.
    """
    command = leet_command(study_folder)
    with without_server():
        environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
        return subprocess.run(command, env=environment, check=False).returncode
