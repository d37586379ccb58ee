"""``predict``: equal to ``external`` on the same scans, every fault by name, and what interruptions and full disks leave."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from browser import Browser, find_browser
from bundled import train
from raw_fixtures import write_moved_phantom
from rich.console import Console

from datamodules.cohort.unlabelled import is_raw, read_unlabelled
from datamodules.files.atomic import locked
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import CohortError
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.tables import PROGRAM
from experiments.__main__ import main
from experiments.bundles.read import read_bundle
from experiments.commands.predict import from_bids_app
from experiments.explaining.group_maps import map_path, write_nifti
from experiments.predicting import predict as predicting
from experiments.predicting.errors import PredictError
from experiments.predicting.files import bids_stem
from experiments.predicting.intake import prepare_options, thick_slices
from experiments.predicting.networks import chosen_bundles
from experiments.predicting.options import PredictOptions
from experiments.predicting.records import NOTICE
from experiments.runtime.interruption import Interrupted
from experiments.study.preparation import plain_programs
from experiments.study.run_folder import RunFolder
from experiments.study.runs import PlanError, Run

FOLDS = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, phantom_cohort: Path) -> Path:
    """A folder with a trained study and its two bundles."""
    folder = tmp_path_factory.mktemp("predicting")
    train(folder, phantom_cohort, inputs=("global", "brainstem"))
    return folder


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of the training cohort's kind that no network saw: 10 patients, one with two scans, in the real layout."""
    folder = tmp_path_factory.mktemp("unseen") / "cohort"
    return write_phantom_cohort(folder, PhantomOptions(patients=10, scans=11, spacing_mm=6.0, seed=5))


def predict(home: Path, scans: Path, out: Path, *words: str) -> int:
    options = [
        "--study",
        "mine",
        *([] if "--studies" in words else ["--studies", str(home / "studies")]),
        "--scans",
        str(scans),
        "--out",
        str(out),
    ]
    inputs = [] if "--inputs" in words else ["--inputs", "global,brainstem"]
    return main(["predict", *options, *inputs, "--accelerator", "cpu", *words])


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def predicted(home: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predicted") / "out"
    assert predict(home, unseen, out) == 0
    return out


def test_probabilities_are_those_of_external(home: Path, external_cohort: Path, tmp_path: Path) -> None:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--store", str(home / "store"), "--draws", "100"]
    words += ["--inputs", "global,brainstem"]
    assert main(["external", "--cohort", str(external_cohort), *words, "--accelerator", "cpu"]) == 0
    path = home / "studies" / "mine" / "external" / external_cohort.name / "predictions.tsv"
    with path.open(encoding="utf-8") as file:
        expected = {(row["patient"], row["session"], row["input"]): row for row in csv.DictReader(file, delimiter="\t")}
    predict(home, external_cohort, tmp_path, "--insist")
    ours = rows_of(tmp_path)
    assert len(ours) == len(expected) == 22
    for row in ours:
        theirs = expected[row["participant_id"], row["session_id"], row["input"]]
        assert float(row["probability"]) == pytest.approx(float(theirs["p"]), abs=1e-6)
        assert row["decision"] == ("positive" if theirs["decision"] == "1" else "negative")


def test_sound_scans_are_predicted_without_a_label_being_there(
    home: Path, unseen: Path, predicted: Path, tmp_path: Path
) -> None:
    """The same answers when everything that tells a label is gone."""
    bare = Path(shutil.copytree(unseen, tmp_path / "bare"))
    shutil.rmtree(bare / "phenotype")
    (bare / "participants.tsv").unlink()
    for path in bare.rglob("*_sessions.tsv"):
        path.unlink()
    assert predict(home, bare, tmp_path / "out") == 0
    assert rows_of(tmp_path / "out") == rows_of(predicted)
    assert {row["verdict"] for row in rows_of(predicted)} <= {"ok", "look"}
    assert len(rows_of(predicted)) == 22


def test_what_is_written_agrees_with_itself(predicted: Path) -> None:
    for row in rows_of(predicted):
        assert row["decision"] == ("positive" if float(row["probability"]) >= float(row["threshold"]) else "negative")
        assert float(row["low_fold"]) <= float(row["probability"]) <= float(row["high_fold"])
        p_values = {"negative": float(row["p_negative"]), "positive": float(row["p_positive"])}
        few_positives = {"negative": False, "positive": True}
        members = {name for name, p in p_values.items() if p > 0.1 or few_positives[name]}
        named = {"undecided": {"negative", "positive"}, "neither": set()}.get(row["label_set"], {row["label_set"]})
        assert named == members
    facts = json.loads((predicted / "predictions.json").read_text(encoding="utf-8"))
    assert [item["input"] for item in facts["bundles"]] == ["global", "brainstem"]
    assert facts["bundles"][0]["coverage"]["patients"] == {"negative": 13, "positive": 8}
    assert facts["primary"].startswith("Mean of the folds' calibrated probabilities")


def test_every_file_says_what_it_must_not_be_used_for(predicted: Path) -> None:
    files = [path for path in predicted.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".png"]
    assert len(files) == 6 + 11
    for path in files:
        assert NOTICE.partition(".")[0] in path.read_text(encoding="utf-8"), path
    assert not (predicted / ".work").exists()


def test_the_log_names_no_patient(predicted: Path) -> None:
    (line,) = (predicted / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert "sub-" not in line
    assert sum(json.loads(line)["scans"].values()) == 11


def test_the_page_asks_for_nothing_and_links_to_every_scan(predicted: Path) -> None:
    page = (predicted / "predictions.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count('<a href="#scan-') == page.count('<h3 id="scan-') == 11


def test_a_prevalence_moves_probabilities_and_nothing_else(home: Path, unseen: Path, predicted: Path, tmp_path: Path) -> None:
    assert predict(home, unseen, tmp_path, "--prevalence", "0.1", "--participant_label", "0001") == 0
    (before,) = (row for row in rows_of(predicted) if row["participant_id"] == "sub-0001" and row["input"] == "global")
    after = next(row for row in rows_of(tmp_path) if row["input"] == "global")
    assert after["decision"] == before["decision"]
    assert after["label_set"] == before["label_set"]
    odds = [float(after[name]) / (1 - float(after[name])) for name in ("probability", "probability_at_prevalence")]
    training = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))["prevalence"]["training"]
    assert odds[1] / odds[0] == pytest.approx((0.1 / 0.9) / (training / (1 - training)))


def image_of(cohort: Path, patient: str, suffix: str) -> Path:
    return next(cohort.glob(f"derivatives/*/{patient}/**/*_{suffix}.nii.gz"))


def changed(path: Path, change: Callable[[np.ndarray[Any, Any], Any], tuple[np.ndarray[Any, Any], Any]]) -> None:
    image = nib.load(path)
    array, affine = change(np.asarray(image.dataobj), image.affine)
    nib.save(nib.Nifti1Image(array, affine), path)


def zoomed(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    return array, affine @ np.diag([0.8, 0.8, 0.8, 1.0])


def elsewhere(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    moved = affine.copy()
    moved[:3, 3] += [0, 60, 60]
    return array, moved


def with_nan(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    array = array.astype(np.float32)
    array[array.shape[0] // 2, array.shape[1] // 2] = np.nan
    return array, affine


def empty(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    return np.zeros_like(array), affine


def one_slice(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    return array[:, :, :1], affine


def beheaded(array: np.ndarray[Any, Any], affine: Any) -> tuple[np.ndarray[Any, Any], Any]:
    array = array.copy()
    top = np.flatnonzero(array.any(axis=(0, 1)))
    array[:, :, top[int(len(top) * 0.75)] :] = 0
    return array, affine


FAULTS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "sub-0002": (("T1w",), with_nan, "not finite (NaN or infinite)"),
    "sub-0003": (("FLAIR",), empty, "holds nothing but the value 0"),
    "sub-0004": (("T1w",), one_slice, "a single 3D volume is needed"),
    "sub-0005": (("T1w", "FLAIR", "mask"), zoomed, "has voxels of"),
    "sub-0006": (("T1w", "FLAIR", "mask"), elsewhere, "register it to MNI152"),
    "sub-0007": (("T1w", "FLAIR", "mask"), beheaded, "the brain ends early: superior"),
}


def test_each_fault_is_refused_by_name_and_the_sound_scan_passes(
    home: Path, unseen: Path, phantom_cohort: Path, tmp_path: Path
) -> None:
    cohort = Path(shutil.copytree(unseen, tmp_path / "cohort"))
    for path in cohort.glob("derivatives/*/sub-*/**/*_dseg.*"):
        path.unlink()
    for patient, (suffixes, change, _) in FAULTS.items():
        for suffix in suffixes:
            for path in cohort.glob(f"derivatives/*/{patient}/**/*_{suffix}.nii.gz"):
                changed(path, change)
    t1w, flair = image_of(cohort, "sub-0008", "T1w"), image_of(cohort, "sub-0008", "FLAIR")
    t1w.rename(t1w.with_name("aside"))
    flair.rename(t1w)
    t1w.with_name("aside").rename(flair)
    image_of(cohort, "sub-0009", "FLAIR").unlink()
    for suffix in ("T1w", "FLAIR", "mask"):
        shutil.copyfile(image_of(phantom_cohort, "sub-0003", suffix), image_of(cohort, "sub-0010", suffix))
    said = {"sub-0008": "swap the two", "sub-0009": "no FLAIR", "sub-0010": "a scan of the training cohort"}
    assert predict(home, cohort, tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    for patient, message in {**{name: fault[2] for name, fault in FAULTS.items()}, **said}.items():
        refused = [row for row in rows if row["participant_id"] == patient and message in row["reasons"]]
        assert refused, (patient, [row["reasons"] for row in rows if row["participant_id"] == patient])
        assert all(row["verdict"] == "refused" and row["probability"] == "n/a" for row in refused)
    sound = [row for row in rows if row["participant_id"] == "sub-0001"]
    assert all(row["verdict"] in ("ok", "look") and row["probability"] != "n/a" for row in sound)
    predict(home, cohort, tmp_path / "insisted", "--insist", "--participant_label", "0010 0002")
    insisted = {row["participant_id"]: row for row in rows_of(tmp_path / "insisted")}
    assert insisted["sub-0010"]["verdict"] == "refused"
    assert 0 < float(insisted["sub-0010"]["probability"]) < 1
    assert insisted["sub-0002"]["probability"] == "n/a"


def test_all_refused_is_a_status_of_its_own(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    assert predict(home, phantom_cohort, tmp_path, "--participant_label", "sub-0001") == 1


def test_an_interrupted_prediction_goes_on(
    home: Path,
    unseen: Path,
    predicted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(predicting, "AT_A_TIME", 2)
    asked: list[int] = []
    ask = predicting.ask

    def once(*arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:
            raise Interrupted
        return ask(*arguments)

    monkeypatch.setattr(predicting, "ask", once)
    assert predict(home, unseen, tmp_path) == 75
    assert not (tmp_path / "predictions.tsv").exists()
    assert len(list(tmp_path.rglob("*_prediction.json"))) == 4
    monkeypatch.setattr(predicting, "ask", ask)
    assert predict(home, unseen, tmp_path) == 0
    assert "4 of 11 scans were predicted before" in capsys.readouterr().out
    for ours, whole in zip(rows_of(tmp_path), rows_of(predicted), strict=True):
        assert float(ours["probability"]) == pytest.approx(float(whole["probability"]), abs=1e-6)
        assert {name: ours[name] for name in ("participant_id", "session_id", "verdict", "decision")} == {
            name: whole[name] for name in ("participant_id", "session_id", "verdict", "decision")
        }


def test_a_file_that_was_changed_is_made_again(home: Path, unseen: Path, predicted: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(predicted, tmp_path / "out"))
    path = next(out.rglob("sub-0001*_prediction.json"))
    path.write_text(path.read_text(encoding="utf-8").replace('"decision": "', '"decision": "surely '), encoding="utf-8")
    assert predict(home, unseen, out) == 0
    assert "surely" not in path.read_text(encoding="utf-8")


def test_a_second_prediction_into_one_folder_is_refused(home: Path, unseen: Path, tmp_path: Path) -> None:
    options = PredictOptions(unseen, tmp_path, "mine", home / "studies", inputs="brainstem")
    with locked(tmp_path / ".lock"), pytest.raises(PredictError, match="another predict is writing"):
        predicting.predict(options, Console(quiet=True))


def test_a_full_disk_leaves_nothing_half(
    home: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fsync, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert predict(home, unseen, tmp_path) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.partial"))
    for path in tmp_path.rglob("*_prediction.json"):
        json.loads(path.read_text(encoding="utf-8"))
    monkeypatch.setattr(os, "fsync", fsync)
    assert predict(home, unseen, tmp_path) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["in", "out", "participant"], ["--scans", "in", "--out", "out"]),
        (
            ["in", "out", "participant", "--participant_label", "01", "02", "--study", "mine"],
            ["--scans", "in", "--out", "out", "--participant_label", "01,02", "--study", "mine"],
        ),
        (["--scans", "in", "--participant-label", "01"], ["--scans", "in", "--participant_label", "01"]),
    ],
)
def test_the_words_of_a_bids_app_are_options(words: list[str], expected: list[str]) -> None:
    assert from_bids_app(words) == expected


@pytest.mark.parametrize("words", [["in", "out", "group"], ["in", "out"], ["in"]])
def test_another_level_is_refused(words: list[str]) -> None:
    with pytest.raises(PlanError, match="bids_dir out_dir participant"):
        from_bids_app(words)


def test_inputs_that_are_not_named_are_those_that_were_trained(home: Path, predicted: Path, tmp_path: Path) -> None:
    text = StringIO()
    said, options = Console(file=text, width=200), PredictOptions(study="mine", studies=home / "studies")
    assert [bundle.input for bundle in chosen_bundles(options, said)] == ["global", "brainstem"]
    copy = Path(shutil.copytree(home / "studies", tmp_path / "studies"))
    run = RunFolder(copy / "mine" / "brainstem" / "fold-1" / "seed-0")
    run.write_facts(run.facts() | {"state": "interrupted"})
    assert [bundle.input for bundle in chosen_bundles(replace(options, studies=copy), said)] == ["global"]
    assert text.getvalue() == "not asked, as only some of their runs are complete: brainstem (2 of 3)\n"
    with pytest.raises(PredictError, match="study mine has no trained input with seed 4; make sweep STUDY=mine"):
        chosen_bundles(replace(options, seed=4), said)


def test_what_cannot_be_asked_is_refused_in_a_line(home: Path, unseen: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="a study or bundles, one of them"):
        predicting.predict(PredictOptions(unseen, tmp_path), Console(quiet=True))
    with pytest.raises(PredictError, match="does not exist"):
        predicting.predict(
            PredictOptions(tmp_path / "nowhere", tmp_path, "mine", home / "studies", inputs="brainstem"), Console(quiet=True)
        )
    with pytest.raises(CohortError, match="no such participant"):
        predicting.predict(
            PredictOptions(unseen, tmp_path, "mine", home / "studies", inputs="brainstem", participant_label="99"),
            Console(quiet=True),
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prevalence", "20"], "give a share between 0 and 1"),
        (["--level", "0.99"], "--level"),
        (["--workers", "0"], "1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(
    home: Path, unseen: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(home, unseen, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def test_a_bundle_by_its_folder_says_the_same(home: Path, unseen: Path, predicted: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(home / "studies" / "mine" / "bundles" / "brainstem", tmp_path / "brainstem"))
    words = ["--bundle", str(bundle), "--scans", str(unseen), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert main(["predict", *words]) == 0
    assert rows_of(tmp_path / "out") == [row for row in rows_of(predicted) if row["input"] == "brainstem"]


def test_a_bundle_of_other_runs_is_refused(home: Path, unseen: Path, tmp_path: Path) -> None:
    studies = Path(shutil.copytree(home / "studies", tmp_path / "studies"))
    (studies / "mine" / "brainstem" / "fold-0" / "seed-0" / "checkpoints" / "best.ckpt").write_bytes(b"another")
    with pytest.raises(PredictError, match="was made of another"):
        predicting.predict(PredictOptions(unseen, tmp_path / "out", "mine", studies, inputs="brainstem"), Console(quiet=True))


def test_networks_with_covariates_ask_for_the_column(
    phantom_cohort: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, phantom_cohort, "--network.covariates", "age")
    assert predict(tmp_path, unseen, tmp_path / "with", "--inputs", "global") == 0
    bare = Path(shutil.copytree(unseen, tmp_path / "bare"))
    lines = [line.split("\t") for line in (bare / "participants.tsv").read_text(encoding="utf-8").splitlines()]
    (bare / "participants.tsv").write_text("".join(f"{line[0]}\t{line[2]}\n" for line in lines), encoding="utf-8")
    assert predict(tmp_path, bare, tmp_path / "without", "--inputs", "global") == 2
    assert "are given age, which no scan has; add a column 'age'" in capsys.readouterr().err
    lines[1][1] = "n/a"
    (bare / "participants.tsv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    assert predict(tmp_path, bare, tmp_path / "some", "--inputs", "global") == 0
    reasons = {row["participant_id"]: row["reasons"] for row in rows_of(tmp_path / "some")}
    assert "age is missing or new" in reasons[lines[1][0]]
    assert "age" not in reasons[lines[2][0]]


def test_numbers_get_an_interval(phantom_cohort: Path, unseen: Path, tmp_path: Path) -> None:
    train(tmp_path, phantom_cohort, "--label.kind", "regression", "--label.threshold", "null")
    assert predict(tmp_path, unseen, tmp_path / "out", "--insist", "--inputs", "global") == 0
    for row in rows_of(tmp_path / "out"):
        assert float(row["interval_low"]) < float(row["number"]) < float(row["interval_high"])
    assert "numbers inside their interval" in (tmp_path / "out" / "predictions.html").read_text(encoding="utf-8")


def test_a_table_without_a_label_is_read(unseen: Path, tmp_path: Path) -> None:
    t1w, flair, mask = (image_of(unseen, "sub-0002", suffix) for suffix in ("T1w", "FLAIR", "mask"))
    table = tmp_path / "new.tsv"
    table.write_text(f"patient\tt1w\tflair\tmask\tage\nN 1\t{t1w}\t{flair}\t{mask}\t41\n", encoding="utf-8")
    found = read_unlabelled(table)
    assert [(scan.patient, scan.covariates["age"]) for scan in found.scans] == [("N 1", "41")]
    table.write_text(f"patient\tt1w\tflair\nN 1\t{t1w}\t\nN 1\t{t1w}\t{flair}\n", encoding="utf-8")
    with pytest.raises(CohortError, match="occurs twice"):
        read_unlabelled(table)


def test_raw_and_prepared_folders_are_told_apart(unseen: Path, tmp_path: Path) -> None:
    anat = tmp_path / "raw" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_T1w.nii.gz").write_bytes(b"")
    assert is_raw(tmp_path / "raw")
    assert not is_raw(unseen)
    assert not is_raw(tmp_path)


def test_two_patients_never_share_a_file() -> None:
    names = [bids_stem(*key) for key in (("P-01", ""), ("P01", ""), ("sub-P01", "1"), ("P 01", ""), ("P01", "1-2"))]
    assert len({stem for _, stem in names}) == len(names)
    assert all(set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for _, stem in names)


def test_an_input_that_is_cut_from_label_maps_asks_for_one(phantom_cohort: Path, unseen: Path, tmp_path: Path) -> None:
    train(tmp_path, phantom_cohort, "--data.mask_mode", "subject", inputs=("brainstem",))
    cohort = Path(shutil.copytree(unseen, tmp_path / "cohort"))
    next(cohort.glob("derivatives/*/sub-0001/**/*_dseg.nii.gz")).unlink()
    assert predict(tmp_path, cohort, tmp_path / "out", "--inputs", "brainstem") == 0
    rows = {(row["participant_id"], row["session_id"]): row for row in rows_of(tmp_path / "out")}
    lacking = rows.pop(("sub-0001", "ses-01"))
    assert (lacking["verdict"], lacking["probability"]) == ("refused", "n/a")
    assert "no label map, from which this input is cut" in lacking["reasons"]
    assert all(0 < float(row["probability"]) < 1 for row in rows.values())


def test_thick_raw_slices_are_worth_a_look(tmp_path: Path) -> None:
    images = {}
    for name, sides in (("t1w", (1.0, 1.0, 1.0)), ("flair", (0.9, 0.9, 5.0))):
        images[name] = tmp_path / f"sub-1_{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.diag([*sides, 1.0])), images[name])
    (reason,) = thick_slices(images)
    assert (reason.verdict, reason.message) == ("look", "sub-1_flair.nii.gz was scanned in thick slices")
    assert reason.detail == "5 mm, pixels 0.9 mm"


@pytest.mark.skipif(find_browser() is None, reason="needs Chromium")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_desk_and_a_phone(predicted: Path, tmp_path: Path, width: int, dark: bool) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(predicted / "predictions.html", width, dark=dark)
        assert browser.ask("document.documentElement.scrollWidth") == width
        assert browser.complaints() == []
        shown = "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width > 0).length"
        assert browser.ask(shown) == 11


@pytest.mark.parametrize("made", [PrepareOptions("registration", True, spacing_mm=2.0), PrepareOptions(spacing_mm=2.0), None])
def test_raw_scans_are_prepared_as_the_training_cohort_was(tmp_path: Path, made: PrepareOptions | None) -> None:
    image = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    image.parent.mkdir(parents=True)
    program = {"Name": PROGRAM, "Parameters": (made or PrepareOptions(nonlinear=True)).parameters()}
    (tmp_path / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [program] if made else [{"Name": "other"}]}))
    bundle: Any = SimpleNamespace(
        images=("t1w", "flair"),
        scan_grid=PrepareOptions(spacing_mm=2.0).grid,
        preparation={"programs": plain_programs(image)},
    )
    assert prepare_options(bundle) == (made or PrepareOptions(spacing_mm=2.0))


@pytest.mark.slow
def test_a_raw_scan_is_prepared_and_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = write_phantom_cohort(tmp_path / "cohort", PhantomOptions(patients=21, scans=21, spacing_mm=4.0, seed=2))
    train(tmp_path, cohort, inputs=("brainstem",))
    raw = write_moved_phantom(tmp_path / "raw").folder
    words = ["predict", str(raw), str(tmp_path / "out"), "participant", "--participant_label", "P01", "--study", "mine"]
    words += ["--studies", str(tmp_path / "studies"), "--inputs", "brainstem", "--insist", "--accelerator", "cpu"]
    assert main(words) == 0
    (row,) = rows_of(tmp_path / "out")
    assert (row["participant_id"], row["session_id"]) == ("sub-P01", "ses-1")
    assert 0 < float(row["probability"]) < 1
    before = (tmp_path / "out" / "predictions.tsv").read_bytes()
    capsys.readouterr()
    assert main(words) == 0
    assert "1 of 1 scans were predicted before" in capsys.readouterr().out
    assert (tmp_path / "out" / "predictions.tsv").read_bytes() == before


def test_maps_are_drawn_of_inputs_that_may_be_explained_alone(
    home: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = Path(shutil.copytree(home / "studies", tmp_path / "studies"))
    study, words = studies / "mine", ["--studies", str(studies), "--participant_label", "0001", "--maps"]
    assert predict(home, unseen, tmp_path / "none", *words) == 2
    assert "make explain STUDY=mine" in capsys.readouterr().err
    grid = read_bundle(study / "bundles" / "brainstem").grid
    write_nifti(map_path(study, "brainstem", "permuted"), np.ones(grid.shape, np.float32), grid)
    maps = {"permuted": str(map_path(study, "brainstem", "permuted").relative_to(study))}
    rows = [
        {"input": "global", "state": "no map", "verdict": "no map: its AUC is not shown to be above chance", "maps": {}},
        {"input": "brainstem", "state": "shown", "verdict": "the folds agree", "maps": maps},
    ]
    runs = [Run(name, fold, 0) for name in ("global", "brainstem") for fold in range(FOLDS)]
    predictions = {run.name: RunFolder(run.folder(study)).facts()["files"]["predictions.tsv"] for run in runs}
    said = {"inputs": rows, "method": {"draws": 2}, "predictions": predictions}
    write_sealed(study / "explain.json", said)
    assert predict(home, unseen, tmp_path / "out", *words) == 0
    written = sorted(path.name for path in (tmp_path / "out").rglob("*_relevance.*"))
    assert [name.partition("_desc-")[2] for name in written] == ["brainstem_relevance.nii.gz", "brainstem_relevance.png"]
    values = np.asarray(nib.load(next((tmp_path / "out").rglob("*_relevance.nii.gz"))).dataobj)
    assert values.shape == grid.shape
    assert values[values > 0].mean() == pytest.approx(1, abs=0.3)
    assert "Where the networks look: brainstem" in (tmp_path / "out" / "predictions.html").read_text(encoding="utf-8")
    write_sealed(study / "explain.json", said | {"method": {"draws": 3}})
    capsys.readouterr()
    assert predict(home, unseen, tmp_path / "out", *words) == 0
    assert "predicted before" not in capsys.readouterr().out
    assert not np.array_equal(np.asarray(nib.load(next((tmp_path / "out").rglob("*_relevance.nii.gz"))).dataobj), values)
    write_sealed(study / "explain.json", said | {"predictions": predictions | {runs[-1].name: "of another training"}})
    assert predict(home, unseen, tmp_path / "out", *words) == 2
    assert f"explain.json does not tell of {runs[-1].name} as it is now; make it again" in capsys.readouterr().err
    write_sealed(study / "explain.json", said | {"inputs": rows[:1]})
    assert predict(home, unseen, tmp_path / "out", *words) == 2
    assert "no input of mine may be shown (global: no map" in capsys.readouterr().err
