"""``explain`` from a trained study to its files: what is made, kept and taken up again, and what is never written unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import read_sealed, write_sealed
from experiments.__main__ import main
from experiments.explaining import maps, outcome, work
from experiments.explaining.jobs import Job
from experiments.explaining.pictures import read_map
from experiments.explaining.setup import Explained, Method, open_explained
from experiments.reporting.explain_chapter import explain as chapter
from experiments.reporting.look import Chart, render
from experiments.reporting.sources import read_sources
from experiments.runtime.interruption import RESUME, Interrupted
from experiments.study.grid import planned_runs
from experiments.study.opening import open_with_progress
from experiments.study.run_folder import RunFolder, read_predictions
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.training.run import fold
from regions.catalog import REGIONS

pytestmark = pytest.mark.slow
INPUTS = "global,brainstem"


@pytest.fixture(scope="module")
def trained(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two inputs, each network trained for one epoch."""
    studies, console = tmp_path_factory.mktemp("studies"), Console(quiet=True)
    where = {"cohort": phantom_cohort, "study": "explained", "studies": studies, "store": store_folder}
    words = [*(f"--{name}={value}" for name, value in where.items()), "--tracking.mode=disabled", "--trainer.max_epochs=1"]
    settings = parse_settings(["--preset", "demo", "--network.init_args.stages=2", *words])
    study = open_with_progress(settings, console)
    for run in planned_runs(settings, INPUTS):
        fold(settings, study, run, console, quiet=True)
    return studies / "explained"


def command(study: Path, *words: str) -> int:
    where = ["--study", study.name, "--studies", str(study.parent), "--inputs", INPUTS, "--tracking.mode", "disabled"]
    return main(["explain", *where, "--copies", "2", "--networks", "5", "--draws", "100", *words])


def content(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "explain.json").read_text())
    return found


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all inputs were above chance: what is then made does not depend on how well the networks do."""
    monkeypatch.setattr(outcome, "may_look", lambda chance: True)


@pytest.fixture
def explained(trained: Path) -> Explained:
    runs = {name: [Run(name, number) for number in range(7)] for name in INPUTS.split(",")}
    return open_explained(trained, runs, Method(2, networks=5), Console(quiet=True))


def test_networks_at_chance_get_no_map_and_nothing_is_computed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(trained) == 0
    assert {row["state"] for row in content(trained)["inputs"]} == {"no map"}
    assert not (trained / "explain" / "parts").exists()
    assert not list((trained / "explain").rglob("*.nii.gz"))
    printed = capsys.readouterr().out
    assert "no map may be shown, so none is written" in printed
    assert "no map: " in printed


def test_every_scan_is_looked_at_by_the_network_that_never_saw_it(
    trained: Path, explained: Explained, looking: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained) == 0
    seen: dict[tuple[str, str], int] = {}
    for number in range(7):
        job = Job("trained", "global", number, 0)
        part = json.loads((job.folder(trained) / "part.json").read_text())
        test = read_predictions(RunFolder(job.run.folder(trained)).path / "predictions.tsv").of("internal_test")
        named = dict(zip(zip(test.patient.tolist(), test.session.tolist(), strict=True), test.p.tolist(), strict=True))
        for (patient, session, _), odds in zip(part["scans"], part["log_odds"], strict=True):
            seen[patient, session] = seen.get((patient, session), 0) + 1
            assert 1 / (1 + np.exp(-odds[0])) == pytest.approx(named[patient, session], abs=1e-5)
    assert seen == {(scan.patient, scan.session): 1 for scan in explained.study.cohort.scans}
    row = content(trained)["inputs"][0]
    assert row["networks"] == {"trained": 7, "permuted": 5, "untrained": 5}
    assert {region["name"] for region in row["regions"]} == set(REGIONS) - {"global"}
    assert sum(row["images"].values()) == pytest.approx(1)
    assert (trained / "explain.tsv").read_text().count("\nglobal\t") == 5
    assert not (trained / "explain" / "patients").exists()


def test_the_same_command_again_looks_at_nothing_and_says_the_same(
    trained: Path, looking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(trained) == 0
    before = content(trained)
    monkeypatch.setattr(work, "network_of", lambda *_: pytest.fail("a network was looked at again"))
    assert command(trained) == 0
    assert content(trained) == before


def test_a_damaged_part_and_changed_maps_are_made_again(trained: Path, looking: None) -> None:
    assert command(trained) == 0
    before = content(trained)
    first, second = (Job(kind, "brainstem", 0, 0).folder(trained) for kind in ("trained", "permuted"))  # type: ignore[arg-type]
    weights = file_sha256(second / "weights.pt")
    (first / "maps.npy").write_bytes(b"not what was written")
    (second / "part.json").write_text((second / "part.json").read_text().replace("0", "1", 3))
    assert command(trained) == 0
    assert content(trained) == before
    assert file_sha256(second / "weights.pt") == weights


def test_networks_with_permuted_labels_of_other_images_are_trained_again(trained: Path, looking: None) -> None:
    assert command(trained) == 0
    folder = Job("permuted", "brainstem", 0, 0).folder(trained)
    kept = read_sealed(folder / "weights.json", "")
    write_sealed(folder / "weights.json", kept | {"data": "of other images"})
    (folder / "part.json").unlink()
    before = (folder / "weights.pt").stat().st_mtime_ns
    assert command(trained) == 0
    assert read_sealed(folder / "weights.json", "") == kept
    assert (folder / "weights.pt").stat().st_mtime_ns > before


def test_interrupted_it_goes_on_with_the_network_under_way(
    trained: Path, looking: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained) == 0
    before = content(trained)
    folders = [Job("trained", "global", number, 0).folder(trained) for number in range(3)]
    for folder in folders:
        (folder / "part.json").unlink()
    calls = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 5:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(maps, "stop_if_interrupted", stop)
        assert command(trained) == RESUME
    assert [(folder / "part.json").is_file() for folder in folders] == [True, False, False]
    assert "goes on with the network that was under way" in capsys.readouterr().out
    assert command(trained) == 0
    assert content(trained) == before


@pytest.mark.long
def test_more_noise_is_another_part_and_permuted_networks_are_not_trained_again(
    trained: Path, looking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(trained) == 0
    monkeypatch.setattr("experiments.explaining.networks.fit_in_memory", lambda *_, **__: pytest.fail("trained again"))
    assert command(trained, "--sigma", "0.3", "--inputs", "brainstem") == 0
    assert content(trained)["method"]["sigma"] == 0.3


def test_group_maps_lie_on_the_studys_grid_and_are_written_only_where_they_are_shown(
    trained: Path, explained: Explained, looking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.explaining.summary.is_beyond", lambda p, above: True)
    assert command(trained) == 0
    grid = explained.study.prepared.grid
    row = content(trained)["inputs"][0]
    assert row["state"] == "shown"
    values = {}
    for what, name in row["maps"].items():
        image: Any = nib.load(trained / name)
        assert "_space-MNI152NLin2009aSym_" in name
        assert f"desc-{what}_" in name
        assert np.allclose(image.affine, grid.matrix)
        assert (int(image.header["sform_code"]), image.shape) == (4, grid.shape)
        values[what] = read_map(trained / name)[0]
    outside = ~explained.inside("global")
    assert not values["ratio"][outside].any()
    n = np.bincount([scan.label for scan in explained.study.cohort.scans])
    assert np.all(values["meanabs"] >= np.abs(values["meansigned"]) - 2e-2)
    assert values["meanabs"].mean() == pytest.approx(
        (n[0] * values["meanabsnegative"].mean() + n[1] * values["meanabspositive"].mean()) / n.sum(), rel=0.1
    )
    assert (trained / "explain" / "figures" / "global.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.undo()
    assert command(trained) == 0
    assert not list((trained / "explain" / "maps").iterdir())
    assert not list((trained / "explain" / "figures").iterdir())


@pytest.mark.long
def test_maps_of_single_scans_are_written_when_they_are_asked_for(trained: Path, explained: Explained, looking: None) -> None:
    assert command(trained, "--patients") == 0
    files = sorted((trained / "explain" / "patients" / "global" / "seed-0").iterdir())
    assert len(files) == len(explained.study.cohort.scans)
    one: Any = nib.load(files[0])
    values = np.asarray(one.dataobj)
    assert values.shape == explained.study.prepared.grid.shape
    assert (values < 0).any()
    assert (values > 0).any()


def test_a_run_whose_network_says_something_else_is_named(
    trained: Path, looking: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (Job("trained", "global", 2, 0).folder(trained) / "part.json").unlink(missing_ok=True)
    monkeypatch.setattr(work, "TOLERANCE", -1.0)
    assert command(trained) == 2
    assert "the network gives a scan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--copies", "0"], "--copies is 0; give 1 or more"),
        (["--sigma", "0"], "--sigma is 0; give a share of the range"),
        (["--networks", "-1"], "--networks is -1; give a number of networks"),
        (["--draws", "5"], "--draws is 5; an interval needs at least 100"),
        (["--inputs", "ventricles"], "holds no complete run"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained, *words) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_the_report_shows_what_may_be_shown(trained: Path, looking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ["--study", trained.name, "--studies", str(trained.parent), "--inputs", INPUTS, "--draws", "100"]
    assert main(["compare", *where, "--tracking.mode", "disabled"]) == 0
    (trained / "explain.json").unlink(missing_ok=True)
    absent = chapter(read_sources(trained))
    assert "make explain STUDY=explained" in str(absent.blocks[0])
    assert command(trained) == 0
    without = chapter(read_sources(trained))
    assert "explain_map_global" not in {block.name for block in without.blocks if isinstance(block, Chart)}
    monkeypatch.setattr("experiments.explaining.summary.is_beyond", lambda p, above: True)
    assert command(trained) == 0
    part = chapter(read_sources(trained))
    charts = [block for block in part.blocks if isinstance(block, Chart)]
    assert [chart.name for chart in charts][:2] == ["explain_map_global", "explain_regions_global"]
    for chart in charts:
        assert render(chart).png.startswith(b"\x89PNG")
    assert len(part.sheets[0].rows) == 5
    text = "".join(str(block) for block in part.blocks if not isinstance(block, Chart))
    assert "A map says where the output would change most" in text
    assert not any(scan in text for scan in ("sub-0001", "sub-0002"))
