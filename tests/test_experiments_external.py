"""An external cohort and frozen models: the order of things, the numbers, what is refused, and what is found to be touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.special import expit, logit

from datamodules.cohort.records import Scan
from datamodules.files.tables import read_rows
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from experiments.analysis.pooling import pooled_predictions
from experiments.commands import external
from experiments.externals.errors import ExternalError
from experiments.externals.freeze import label_files, touched
from experiments.externals.log import broken_line, events, latest, note
from experiments.externals.scans import _refuse_shared_files, _refuse_shared_volumes
from experiments.externals.score import sites_words
from experiments.statistics.scores import point_values
from experiments.study.run_folder import ResultsError
from experiments.study.runs import Run, grid
from experiments.study.settings import parse_settings
from experiments.study.study import open_study
from experiments.training.worker import work
from regions.errors import UserError
from regions.grid import Grid

INPUTS = ("global", "brainstem")


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, external_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with studies/mine (3 folds, two inputs, one epoch), store/ and cohort/, an external cohort of its own."""
    folder = tmp_path_factory.mktemp("home")
    words = ["--cohort", str(phantom_cohort), "--study", "mine", "--studies", str(folder / "studies"), "--preset", "demo"]
    words += ["--store", str(folder / "store"), "--folds", "3", "--network.init_args.stages", "2"]
    words += ["--network.init_args.width", "2", "--trainer.max_epochs", "1", "--tracking.mode", "disabled"]
    settings = parse_settings(words)
    assert work(settings, open_study(settings.study_options()), grid(INPUTS, [0], 3)) == 0
    shutil.copytree(external_cohort, folder / "cohort")
    assert external.main(call(folder)) == 0
    return folder


def call(home: Path, cohort: Path | None = None, *more: str) -> list[str]:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--store", str(home / "store"), "--draws", "200"]
    return [*words, "--inputs", ",".join(INPUTS), "--cohort", str(cohort or home / "cohort"), *more]


def result(home: Path, name: str = "cohort") -> tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]:
    folder = home / "studies" / "mine" / "external" / name
    found, frozen = (json.loads((folder / f"{what}.json").read_text()) for what in ("external", "frozen"))
    return found, frozen, read_rows(folder / "predictions.tsv")


@pytest.fixture
def again(home: Path, tmp_path: Path) -> Path:
    """A copy of studies/mine with its external results, to be changed."""
    shutil.copytree(home / "studies", tmp_path / "studies")
    return tmp_path / "studies" / "mine" / "external" / "cohort"


def test_models_are_frozen_before_labels_are_read(home: Path) -> None:
    found = events(home / "studies" / "mine" / "external" / "cohort")
    assert [one["event"] for one in found[:4]] == ["frozen", "labels read", "predicted", "scored"]
    assert found[0]["time"] <= found[1]["time"]
    labels = {Path(path).name for path in found[1]["files"]}
    assert {"participants.tsv", "edss.tsv"} <= labels


def test_the_primary_model_is_the_mean_of_the_calibrated_probabilities_at_the_mean_threshold(home: Path) -> None:
    found, frozen, rows = result(home)
    for one in frozen["inputs"]:
        own = [row for row in rows if row["input"] == one["input"]]
        raw = np.array([[float(row[f"p_{model['fold']}"]) for model in one["models"]] for row in own])
        temperatures = np.array([model["temperature"] for model in one["models"]])
        p = expit(logit(raw) / temperatures).mean(axis=1)
        thresholds = expit(logit([model["threshold"] for model in one["models"]]) / temperatures)
        np.testing.assert_allclose([float(row["p"]) for row in own], p, rtol=1e-9)
        assert one["threshold"] == pytest.approx(float(thresholds.mean()), rel=1e-9)
        assert [int(row["decision"]) for row in own] == (p >= thresholds.mean()).astype(int).tolist()
    assert found["scans"] == 11
    assert found["patients"] == 10


def test_the_single_models_and_the_change_compare_like_with_like(home: Path) -> None:
    found, frozen, rows = result(home)
    study = home / "studies" / "mine"
    for one, frozen_one in zip(found["inputs"], frozen["inputs"], strict=True):
        own = [row for row in rows if row["input"] == one["input"]]
        y = np.array([int(row["y"]) for row in own])
        values = []
        for model in frozen_one["models"]:
            decision = np.array([float(row[f"p_{model['fold']}"]) for row in own]) >= model["threshold"]
            values.append((decision[y == 1].mean() + (~decision)[y == 0].mean()) / 2)
        single = one["single"]["balanced_accuracy"]
        np.testing.assert_allclose(single["values"], values)
        assert single["mean"] == pytest.approx(np.mean(values))
        assert single["sd"] == pytest.approx(np.std(values, ddof=1))
        inside = point_values(pooled_predictions(study, [Run(one["input"], fold) for fold in range(3)]))["balanced_accuracy"]
        assert one["internal"]["balanced_accuracy"]["value"] == pytest.approx(inside)
        change = one["change"]["balanced_accuracy"]
        assert change["value"] == pytest.approx(single["mean"] - inside)
        assert change["low"] < change["value"] < change["high"]
        assert one["networks"] == {"internal": 1, "single": 1, "ensemble": 3}
        assert one["change"]["auc"]["value"] == pytest.approx(one["single"]["auc"]["mean"] - one["internal"]["auc"]["value"])


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ({"Oslo": 4, "Graz": 2}, "2 sites"),
        ({"": 1, "Graz": 2}, "1 site and 1 scan of unknown site"),
        ({"": 9}, "9 scans of unknown site"),
    ],
)
def test_scans_of_unknown_site_are_no_site(sites: dict[str, int], words: str) -> None:
    assert sites_words([{"site": name, "scans": scans} for name, scans in sites.items()]) == words


def test_sites_are_counted_and_left_out_one_by_one(home: Path) -> None:
    found, _, _ = result(home)
    assert sum(site["scans"] for site in found["sites"]) == found["scans"]
    for one in found["inputs"]:
        without = one["leave_one_site_out"]["auc"]
        assert set(without["without"]) == {site["site"] for site in found["sites"]}
        known = [value for value in without["without"].values() if value is not None]
        assert (without["low"], without["high"]) == (min(known), max(known))


def test_repeated_scans_rule_out_tests_that_assume_independence(home: Path) -> None:
    found, _, _ = result(home)
    assert "1 repeated scan of" in found["independent_tests"]
    assert [one["delong"] for one in found["paired"]] == [None]


def test_the_same_call_again_keeps_freeze_and_predictions(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / "studies" / "mine" / "external" / "cohort"
    before, parts = result(home), {path: path.stat().st_mtime_ns for path in folder.rglob("parts/*/*.json")}
    assert external.main(call(home)) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "AUC: internal test, the folds' models here one by one, and external minus internal" in text
    assert "their ensemble averages 3 networks and has no internal counterpart" in text
    assert result(home) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("parts/*/*.json")} == parts
    assert [one["event"] for one in events(folder)].count("frozen") == 1


def test_verify_says_that_nothing_was_touched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert external.main(call(home, None, "--verify")) == 0
    assert "untouched since" in capsys.readouterr().out


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def change_threshold(path: Path) -> None:
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"threshold": 0.123}))


def change_event(path: Path) -> None:
    path.write_text(path.read_text().replace('"event": "labels read"', '"event": "labels seen"'))


@pytest.mark.parametrize(
    ("file", "touch", "told"),
    [
        ("../../global/fold-1/seed-0/checkpoints/best.ckpt", append, "checkpoint .*global/fold-1.* was changed"),
        ("../../brainstem/fold-2/seed-0/run.json", change_threshold, "brainstem/fold-2/seed-0/run.json was changed"),
        ("../../brainstem/fold-0/seed-0/predictions.tsv", append, "brainstem/fold-0/seed-0/predictions.tsv was changed"),
        ("../../global/fold-0/seed-0/checkpoints/best.ckpt", Path.unlink, "best.ckpt is gone"),
        ("frozen.json", append, "frozen.json was changed"),
        ("predictions.tsv", append, "cohort/predictions.tsv was changed"),
        ("external.json", append, "external.json was changed"),
        ("events.jsonl", change_event, "events.jsonl line 3 was changed"),
    ],
)
def test_what_was_touched_is_named(again: Path, file: str, touch: Callable[[Path], None], told: str) -> None:
    assert touched(again) == []
    touch(again / file)
    faults = touched(again)
    assert re.search(told, "; ".join(faults)), faults


def test_a_touched_threshold_stops_every_later_call(again: Path, home: Path) -> None:
    change_threshold(again / "../../global/fold-0/seed-0/run.json")
    words = [word if word != str(home / "studies") else str(again.parents[2]) for word in call(home)]
    with pytest.raises(ExternalError, match=r"touched since the freeze: .*global/fold-0/seed-0/run\.json was changed"):
        external.main(words)
    assert external.main([*words, "--verify"]) == 1


def test_touched_labels_are_named_and_a_new_freeze_says_that_labels_were_read_before(
    again: Path, home: Path, tmp_path: Path
) -> None:
    table = home / "cohort" / "phenotype" / "edss.tsv"
    words = [word if word != str(home / "studies") else str(again.parents[2]) for word in call(home)]
    before = table.read_text()
    try:
        table.write_text(before.replace("\t2.0\t", "\t4.0\t"))
        with pytest.raises(ExternalError, match=r"label file .*edss\.tsv was changed"):
            external.main(words)
        assert external.main([*words, "--restart"]) == 0
        found = json.loads((again / "external.json").read_text())
        assert found["frozen_after_labels"] is True
        assert len(list(again.glob("aside-*/frozen.json"))) == 1
        assert touched(again) == []
    finally:
        table.write_text(before)
    assert any("edss.tsv was changed" in fault for fault in touched(again))


def test_a_label_file_that_is_added_is_named(again: Path, home: Path) -> None:
    new = home / "cohort" / "phenotype" / "more.tsv"
    try:
        new.write_text("participant_id\n")
        assert touched(again) == [f"label file {new.resolve()} was added"]
    finally:
        new.unlink()


def test_a_cohort_on_other_voxels_is_refused(home: Path, made_scan: Any, tmp_path: Path) -> None:
    files = "\t".join(str(path) for path in (made_scan.t1w, made_scan.flair, made_scan.mask))
    table = tmp_path / "coarse.tsv"
    table.write_text(f"patient\tsession\tt1w\tflair\tmask\tedss\tdays\nP1\t1\t{files}\t2.0\t5\n")
    with pytest.raises(ExternalError, match="has voxels of 8 x 8 x 8 mm, the study's models know 6 x 6 x 6 mm"):
        external.main(call(home, table))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cohort_that_cannot_be_scored_leaves_nothing_half(home: Path, made_scan: Any, again: Path, tmp_path: Path) -> None:
    files = "\t".join(str(path) for path in (made_scan.t1w, made_scan.flair, made_scan.mask))
    (tmp_path / "coarse.tsv").write_text(f"patient\tt1w\tflair\tmask\tedss\tdays\nP1\t{files}\t2.0\t5\n")
    (tmp_path / "undated.tsv").write_text(f"patient\tt1w\tflair\tmask\tedss\nP1\t{files}\t2.0\n")
    words = ["--studies", str(again.parents[2])]
    for table, told in (("coarse", "has voxels of 8 x 8 x 8 mm"), ("undated", r"--label\.undated keep")):
        with pytest.raises(UserError, match=told):
            external.main(call(home, tmp_path / f"{table}.tsv", *words))
        assert [path.name for path in (again.parent / table).iterdir()] == [".lock"]
    before = contents(again)
    with pytest.raises(ExternalError, match="has voxels of 8 x 8 x 8 mm"):
        external.main(call(home, tmp_path / "coarse.tsv", *words, "--name", "cohort", "--restart"))
    assert contents(again) == before
    assert touched(again) == []


def test_missing_runs_are_named(home: Path) -> None:
    with pytest.raises(ResultsError, match=r"runs of mine are not complete.*; make sweep, or give INPUTS=global \("):
        external.main(call(home, home / "cohort", "--name", "other", "--inputs", "global,ventricles"))
    assert not (home / "studies" / "mine" / "external" / "other" / "frozen.json").exists()


def test_the_internal_cohort_is_refused_as_an_external_one(home: Path, phantom_cohort: Path) -> None:
    with pytest.raises(ExternalError, match=r"byte for byte an image of sub-0001.*such scans.*must not share"):
        external.main(call(home, phantom_cohort, "--name", "same"))


def test_an_internal_scan_that_was_saved_anew_under_another_name_is_refused(
    home: Path, phantom_cohort: Path, tmp_path: Path
) -> None:
    rows = ["patient\tsession\tt1w\tflair\tmask\tedss\tdays\tsite"]
    for number, edss in (("0001", 2.0), ("0002", 4.0)):
        stem = next(phantom_cohort.glob(f"derivatives/phantom/sub-{number}/ses-01/anat/*_desc-preproc_T1w.nii.gz"))
        names = {"t1w": stem, "flair": Path(str(stem).replace("T1w", "FLAIR"))}
        names["mask"] = Path(str(stem).replace("desc-preproc_T1w", "desc-brain_mask"))
        for kind, path in names.items():
            nib.save(nib.Nifti1Image.from_filename(path), tmp_path / f"{number}_{kind}.nii")
        rows.append(f"X{number}\t1\t{number}_t1w.nii\t{number}_flair.nii\t{number}_mask.nii\t{edss}\t10\tA")
    table = tmp_path / "table.tsv"
    table.write_text("\n".join(rows) + "\n")
    with pytest.raises(ExternalError, match="scan X0001/1 is voxel for voxel a scan of the study"):
        external.main(call(home, table))


def test_two_people_may_have_one_mask_and_no_image_in_common(tmp_path: Path) -> None:
    for name, content in (("a", "a"), ("b", "b"), ("a-mask", "none"), ("b-mask", "none"), ("b-copy", "a")):
        (tmp_path / name).write_text(content)
    ours, theirs, copy = (
        Scan(name, "", {"t1w": tmp_path / t1w, "label-lesion_mask": tmp_path / f"{name}-mask"}, 1.0, 0, 0)
        for name, t1w in (("a", "a"), ("b", "b"), ("b", "b-copy"))
    )
    _refuse_shared_files([theirs], [ours], tmp_path)
    with pytest.raises(ExternalError, match="scan b is byte for byte an image of a"):
        _refuse_shared_files([copy], [ours], tmp_path)
    grid = Grid.of((2, 2, 2), np.eye(4))
    (tmp_path / "volumes" / "b").mkdir(parents=True)
    write_volume(tmp_path / "volumes" / "b", "b", {"image": np.ones(grid.shape, np.float16)}, {})
    prepared = PreparedCohort(tmp_path, grid, (StoredScan(("b", "mask")),), ("t1w", "label-lesion_mask"))
    _refuse_shared_volumes([theirs], prepared, {"a", "mask"})
    with pytest.raises(ExternalError, match="scan b is voxel for voxel a scan of the study"):
        _refuse_shared_volumes([theirs], prepared, {"b", "mask"})


def test_another_cohort_under_the_same_name_is_refused(home: Path, external_cohort: Path) -> None:
    with pytest.raises(ExternalError, match="belongs to the cohort"):
        external.main(call(home, external_cohort, "--name", "cohort"))


def test_other_inputs_than_the_frozen_ones_are_refused(home: Path) -> None:
    with pytest.raises(ExternalError, match="was frozen with seed 0 and inputs global, brainstem"):
        external.main(call(home, None, "--inputs", "global"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "needs a study and a cohort"),
        (["--study", "mine"], "needs a study and a cohort"),
        (["--nonsense"], "not an option"),
    ],
)
def test_mistakes_on_the_command_line_are_told_in_one_line(words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        external.main(words)


def test_a_log_whose_lines_do_not_follow_each_other_is_found(tmp_path: Path) -> None:
    for name in ("frozen", "labels read", "frozen", "scored"):
        note(tmp_path, name)
    assert broken_line(tmp_path) is None
    assert latest(events(tmp_path), "labels read") is None  # the second freeze has not read labels
    path = tmp_path / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))
    assert broken_line(tmp_path) == 2


def test_label_files_of_a_table_and_of_a_folder(tmp_path: Path, external_cohort: Path) -> None:
    table = tmp_path / "cohort.tsv"
    table.write_text("patient\n")
    assert label_files(table) == [table]
    names = {path.name for path in label_files(external_cohort / "derivatives" / "phantom")}
    assert {"participants.tsv", "edss.tsv", "sub-E0001_sessions.tsv"} <= names
