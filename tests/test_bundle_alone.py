"""A bundle in an empty folder, without its study, without a network and with nothing but the code, gives the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from bundled import train

from datamodules.cohort.read import read_cohort
from experiments.bundles.read import read_bundle
from experiments.bundles.running import open_scans, primary, run_models
from experiments.commands import bundle

ROOT = Path(__file__).parents[1]
ALONE = """
import socket, sys
from pathlib import Path
from datamodules.cohort.read import read_cohort
from experiments.bundles.read import read_bundle
from experiments.bundles.running import open_scans, primary, run_models

def refused(*arguments):
    raise OSError("no network")

socket.socket.connect = refused
made = read_bundle(Path("bundle"))
scans = read_cohort(Path("cohort"), made.target, images=made.images).scans
raw = run_models(made, open_scans(made, scans, Path("store")), scans, "cpu")
Path("p").write_bytes(raw.tobytes() + primary(made, raw).tobytes())
"""


def without_network() -> list[str]:
    """The words that cut a command off the network, where the system lets us."""
    words = [str(shutil.which("unshare")), "--user", "--map-root-user", "--net"]
    works = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if works else []


def test_a_bundle_alone_gives_the_same_bytes(phantom_cohort: Path, external_cohort: Path, tmp_path: Path) -> None:
    name, home, alone = "brainstem", tmp_path / "home", tmp_path / "alone"
    study = train(home, phantom_cohort, inputs=(name,))
    words = ["--study", "mine", "--studies", str(study.parent), "--input", name]
    assert bundle.main(words) == 0
    made = read_bundle(study / "bundles" / name)
    scans = read_cohort(external_cohort, made.target, images=made.images).scans
    raw = run_models(made, open_scans(made, scans, home / "store"), scans, "cpu")
    expected = raw.tobytes() + primary(made, raw).tobytes()

    shutil.copytree(study / "bundles" / name, alone / "bundle")
    shutil.copytree(external_cohort, alone / "cohort")
    shutil.rmtree(home)
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.defpath, "HOME": str(tmp_path / "nowhere"), "OMP_NUM_THREADS": "1"}
    command = [*without_network(), sys.executable, "-c", ALONE]
    done = subprocess.run(command, cwd=alone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (alone / "p").read_bytes() == expected
    assert np.unique(raw).size > 1
    assert {path.name for path in alone.iterdir()} == {"bundle", "cohort", "store", "p"}
