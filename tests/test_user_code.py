"""A network class of the user's own whose file was changed: runs are stale, never compared, and never run with other code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.cohort.target import Target
from experiments.study.record import Mask, StudyRecord
from experiments.study.run_folder import Fingerprint, ResultsError, RunFolder, require_complete
from experiments.study.runs import Run
from experiments.study.settings import Settings, parse_settings, settings_of_run
from experiments.study.user_code import source_sha256

SOURCE = "from lightning_modules.networks import ResidualCNN\n\n\nclass MyNet(ResidualCNN):\n    pass\n"
OLD = {"config": "c", "split": "s", "cohort": "h", "data": "d"}
TRAINED = OLD | {"code": "before"}
NOW = Fingerprint(*OLD.values(), code="now")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a class that lies in the working directory."""
    path = tmp_path / "mynet_of_a_user.py"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return path


def settings_with(network: str, *words: str) -> Settings:
    return parse_settings(["--preset", "demo", "--cohort", "cohort", "--study", "mine", "--network", network, *words])


def test_a_class_of_the_users_own_is_known_by_its_file(source: Path) -> None:
    settings = settings_with("mynet_of_a_user.MyNet", "--network.width", "2")
    before = settings.network_code()
    assert len(before) == 64
    (source.parent / "other.py").write_text("from mynet_of_a_user import MyNet\n")
    assert source_sha256("other.MyNet") == before
    source.write_text(SOURCE + "    depth = 3\n")
    assert settings.network_code() not in ("", before)


@pytest.mark.parametrize(
    "name", ["lightning_modules.networks.ResidualCNN", "torch.nn.Linear", "json.JSONDecoder", "builtins.dict", "no.Where", "x"]
)
def test_classes_of_packages_leave_fingerprints_as_they_were(name: str) -> None:
    assert source_sha256(name) == ""
    assert Fingerprint(*OLD.values(), code=source_sha256(name)).hashes() == OLD


def test_runs_of_other_code_are_stale(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for fingerprint, state in ((TRAINED, "stale"), (TRAINED | {"code": "now"}, "complete"), (OLD, "complete")):
        folder.write_facts({"state": "complete", "fingerprint": fingerprint})
        assert folder.state(NOW) == state
    assert NOW.differences({"fingerprint": TRAINED}) == ["code of the network"]
    assert Fingerprint.of(NOW.hashes()) == NOW


def test_runs_of_other_code_are_never_compared(tmp_path: Path) -> None:
    runs = [Run("global", fold, 0) for fold in range(3)]
    for run, fingerprint in zip(runs, (OLD, TRAINED, TRAINED), strict=True):
        RunFolder(run.folder(tmp_path)).write_facts({"state": "complete", "fingerprint": fingerprint})
    assert require_complete(tmp_path, runs) == runs
    RunFolder(runs[2].folder(tmp_path)).write_facts({"state": "complete", "fingerprint": NOW.hashes()})
    with pytest.raises(ResultsError, match="global/fold-2/seed-0 was made with another code of the network than global/fold-1"):
        require_complete(tmp_path, runs)


def test_a_trained_network_is_not_run_with_other_code(source: Path, tmp_path: Path) -> None:
    settings = settings_with("mynet_of_a_user.MyNet", "--network.width", "2")
    run = tmp_path / "studies" / "mine" / "global" / "fold-0" / "seed-0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(settings.yaml())
    RunFolder(run).write_facts({"fingerprint": OLD | {"code": settings.network_code()}})
    record = StudyRecord(tmp_path / "cohort", tmp_path / "store", Target(), "refuse", 7, 0, "s", "h", Mask(), {})
    assert settings_of_run(tmp_path / "studies" / "mine", record, run).network_code() == settings.network_code()
    source.write_text(SOURCE + "    depth = 3\n")
    with pytest.raises(ResultsError, match=r"another code of network mynet_of_a_user\.MyNet; restore its file, or train"):
        settings_of_run(tmp_path / "studies" / "mine", record, run)


def test_torch_is_not_imported_for_a_network_of_this_project() -> None:
    code = """
import sys
from experiments.study.user_code import source_sha256
assert source_sha256("lightning_modules.networks.ResidualCNN") == ""
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
