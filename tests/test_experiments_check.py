"""``check`` from the outside: what it prints, what it writes, and what holding scans back does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.files.tables import CohortError, read_rows
from experiments.__main__ import main
from experiments.checking.prepared import write_prepared_quality
from experiments.checking.quality import quality_of_cohort
from experiments.study.study import Study

WRITTEN = ("check.html", "check.json", "table1.tsv", "table1.json", "acquisition.tsv", "flow.svg", "qc/index.html")


@pytest.fixture
def check(
    store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run ``check`` on a cohort in a wide terminal; returns its status and what it printed."""
    monkeypatch.setenv("COLUMNS", "220")

    def run(cohort: Path, *words: str) -> tuple[int, str]:
        places = ["--cohort", str(cohort), "--store", str(store_folder), "--studies", str(tmp_path / "studies"), "--study", "s"]
        status = main(["check", "--preset", "demo", *places, *words])
        out = capsys.readouterr()
        return status, out.out + out.err

    return run


def test_it_prints_and_writes_everything(phantom_cohort: Path, check, tmp_path: Path) -> None:
    status, told = check(phantom_cohort)
    assert status == 0, told
    for words in (
        "exclusions", "scans left", "quality: 0 scans beyond a limit", "patients / scans / positive scans",
        "by scanner and part", "assessed 0 to 183 days after the scan", "table 1", "duplicates: none suspected",
        "precision to expect",
        "smallest true difference", "cost of all runs", "measured here", "prepared volumes",
    ):  # fmt: skip
        assert words in told, words
    study = tmp_path / "studies" / "s"
    assert all((study / name).is_file() for name in WRITTEN)
    assert len(list((study / "qc").glob("*.png"))) == 50  # with and without outlines
    facts = json.loads((study / "check.json").read_text())
    assert sum(part["scans"] for part in facts["parts"]) == 25
    assert facts["precision"]["half_width"] > 0
    page = (study / "qc" / "index.html").read_text()
    assert page.index("for this machine") < page.index("Scans, worst first")
    assert "http" not in page.replace("http://www.w3.org", "").replace('http-equiv="', "")


def test_verify_reads_all_prepared_files_and_names_the_damaged(
    phantom_cohort: Path, check, study: Study, store_folder: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(store_folder, tmp_path / "store", ignore=shutil.ignore_patterns("averaged-*", "boxes")))
    status, text = check(phantom_cohort, "--store", str(store), "--verify")
    assert status == 0
    assert "75 prepared volumes and 0 packed boxes were read: no files differ" in text
    assert "cost of all runs" in text
    image, facts = (store / "volumes" / study.prepared.scans[3].images[0] / name for name in ("image.npy", "scan.json"))
    with image.open("r+b") as file:
        file.write(bytes(image.stat().st_size))
    facts.write_text(facts.read_text().replace('brain_ml": ', 'brain_ml": 1'))
    status, text = check(phantom_cohort, "--store", str(store), "--verify")
    assert status == 1
    assert text.splitlines()[1:] == [
        *(f"{p} does not hold what was written; delete {p.parent}, the same command makes it again" for p in (image, facts)),
        "75 prepared volumes and 0 packed boxes were read: 2 files differ",
    ]
    shutil.rmtree(image.parent)
    assert check(phantom_cohort, "--store", str(store), "--verify")[0] == 0


@pytest.mark.parametrize("name", ["quality.json", "overlay.png", "overlay_plain.png"])
def test_quality_that_was_changed_is_measured_again(study: Study, tmp_path: Path, name: str) -> None:
    few = replace(study.prepared.of_rows((0, 1)), folder=tmp_path)
    for key in few.volumes:
        shutil.copytree(study.prepared.folder / "volumes" / key, tmp_path / "volumes" / key)
    first, second = (tmp_path / "quality" / key for key in few.keys)
    quality = quality_of_cohort(study.cohort.scans[:2], few)
    before, other = (first / name).read_bytes(), (second / name).read_bytes()
    for changed in (other, bytes(len(before)), before[:-2], before.replace(b"0.9", b"0.1"), b"[]"):
        (first / name).write_bytes(changed)
        assert repr(quality_of_cohort(study.cohort.scans[:2], few)) == repr(quality)
        assert (first / name).read_bytes() == before


def test_it_says_what_torchio_transforms_cost(phantom_cohort: Path, check, tmp_path: Path) -> None:
    words = ["--data.transforms+=torchio.RandomBiasField", "--study", "changed"]
    _, text = check(phantom_cohort, *words)
    (seconds,) = re.findall(r"TorchIO transforms: ([0-9.e-]+) s per scan, in up to 4 processes", text)
    (facts,) = (json.loads(path.read_text()) for path in tmp_path.rglob("changed/check.json"))
    assert float(seconds) == pytest.approx(facts["transform_seconds"], rel=0.06)
    assert facts["transform_seconds"] > 0


def test_the_page_is_well_formed_and_its_pictures_are_there(phantom_cohort: Path, check, tmp_path: Path) -> None:
    check(phantom_cohort)
    folder = tmp_path / "studies" / "s" / "qc"
    pictures: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                pictures.append(str(dict(attrs)["src"]))
                assert dict(attrs)["alt"]

    Reader().feed((folder / "index.html").read_text())
    assert len(set(pictures)) == len(pictures) == 50
    assert all((folder / name).is_file() for name in pictures)


def test_one_scan_saved_anew_under_two_names_is_an_alarm(phantom_copy: Path, check) -> None:
    root, rng = phantom_copy / "derivatives" / "phantom", np.random.default_rng(0)
    for path in (root / "sub-0001" / "ses-01" / "anat").glob("*.nii.gz"):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        noisy = 1.7 * values + rng.normal(0, 0.05 * values.std(), values.shape) * (values != 0)
        changed = values if values.dtype.kind == "u" else noisy
        target = root / "sub-0002" / "ses-01" / "anat" / path.name.replace("sub-0001", "sub-0002")
        nib.save(nib.Nifti1Image(changed.astype(values.dtype), image.affine), target)
    status, told = check(phantom_copy)
    assert status == 1, told
    assert "1 suspected, 1 of them between two patients; give both one patient in same_person.tsv, or remove one" in told
    assert "sub-0001/ses-01 and sub-0002/ses-01: nearly the same brain (correlation 0.9" in told


def test_holding_back_is_asked_for_kept_and_undone(phantom_copy: Path, check, tmp_path: Path) -> None:
    (path,) = (phantom_copy / "derivatives" / "phantom" / "sub-0001" / "ses-01" / "anat").glob("*_FLAIR.nii.gz")
    image = nib.load(path)
    cut = np.asarray(image.dataobj).copy()
    cut[: cut.shape[0] // 2] = 0
    nib.save(nib.Nifti1Image(cut, image.affine), path)
    status, told = check(phantom_copy, "--hold")
    assert status == 0
    assert "1 scan held back" in told
    assert "held back by QC: flair does not cover the brain" in told
    rows = {(row["patient"], row["verdict"]) for row in read_rows(phantom_copy / "qc.tsv")}
    assert ("sub-0001", "held") in rows
    status, told = check(phantom_copy, "--hold")
    assert status == 2
    assert "study s was made with the cohort as it was; give another STUDY" in told
    (phantom_copy / "qc_accept.tsv").write_text("patient\tsession\treason\nsub-0001\tses-01\tlesion side only\n")
    status, told = check(phantom_copy, "--study", "t")
    assert status == 0
    assert "accepted in qc_accept.tsv although beyond a limit: sub-0001/ses-01" in told
    assert "accepted: lesion side only" in (tmp_path / "studies" / "t" / "qc" / "index.html").read_text()


@pytest.fixture
def prepared(phantom_copy: Path) -> Path:
    """The phantom cohort with the records that ``prepare`` leaves."""
    (phantom_copy / "derivatives" / "phantom").rename(phantom_copy / "derivatives" / "regionwise")
    for row, path in enumerate(sorted((phantom_copy / "derivatives").rglob("*_desc-preproc_T1w.nii.gz"))):
        patient, session = path.parts[-4], path.parts[-3]
        numbers = {"template_dice": 0.7 if row == 3 else 0.96, "template_nmi": 1.1, "noise_t1w": None}
        record = {"patient": patient, "session": session, "numbers": numbers}
        path.with_name(f"{patient}_{session}_desc-prepare_qc.json").write_text(json.dumps(record))
    return phantom_copy


def test_what_prepare_made_is_judged_and_drawn_once(prepared: Path, check) -> None:
    found = write_prepared_quality(prepared)
    assert len(found.held) == 1
    assert found.held[0][1] == "brain and template overlap too little (0.7, at least 0.85 is allowed)"
    assert found.page.is_file()
    pictures = sorted((prepared / "qc").glob("*.png"))
    assert len(pictures) == 50
    times = [path.stat().st_mtime_ns for path in pictures]
    drawn: list[int] = []
    write_prepared_quality(prepared, on_scan=lambda done, total: drawn.append(done))
    assert drawn == []
    assert [path.stat().st_mtime_ns for path in pictures] == times
    status, told = check(prepared)
    assert status == 0
    assert "held back by QC: brain and template overlap too little" in told
    assert re.search(r"used +24 ", told)


def test_a_damaged_record_is_named(prepared: Path) -> None:
    (first, *_) = sorted((prepared / "derivatives").rglob("*_desc-prepare_qc.json"))
    first.write_text('{"patient": "x"')
    with pytest.raises(CohortError, match=r"_desc-prepare_qc\.json is damaged .*; delete it and run prepare again"):
        write_prepared_quality(prepared)


def test_a_public_layout_is_checked_like_any_cohort(phantom_cohort: Path, check, tmp_path: Path) -> None:
    """MSLesSeg as published: images by patient and timepoint, a semicolon table with decimal commas, no dates."""
    source = tmp_path / "MSLesSeg"
    rows = ["Patient;Timepoint;Age;Sex;MS Type;EDSS;Lesion Number;Lesion Volume;"]
    images = sorted((phantom_cohort / "derivatives").rglob("*ses-01*_desc-preproc_T1w.nii.gz"))[:12]
    for number, t1w in enumerate(images, start=1):
        folder = source / "MSLesSeg Dataset" / "train" / f"P{number}" / "T1"
        folder.mkdir(parents=True)
        shutil.copy(t1w, folder / f"P{number}_T1_T1.nii.gz")
        shutil.copy(t1w.with_name(t1w.name.replace("T1w", "FLAIR")), folder / f"P{number}_T1_FLAIR.nii.gz")
        rows.append(f"P{number};T1;{20 + number},5;F;RR;{'4,0' if number % 2 else '1,5'};3;1,5;")
    table = source / "info_dataset" / "clinical_data.csv"
    table.parent.mkdir()
    table.write_text("\n".join(rows) + "\n")
    out = tmp_path / "adopted"
    assert main(["adopt", "--dataset", "MSLesSeg", "--from", str(source), "--out", str(out)]) == 0
    status, told = check(out, "--folds", "3", "--label.undated", "keep")
    assert status == 0, told
    assert "no scan has a date" in told
    assert re.search(r"age, years +27 \(24\.25 to 29\.75\)", told), told


FEW = {
    "few of both classes": (6, [], r"\d negative and \d positive patients cannot .* 7 of each class are needed, or 3 of each"),
    "fewer folds would do": (25, ["--folds", "9"], r"8 positive patients cannot fill 9 folds, .*: --folds 8 is possible"),
    "one class only": (6, ["--label.threshold", "9.5"], r"\d negative and 0 positive patients cannot fill 7 folds"),
    "two scans": (2, [], r"cannot fill 7 folds"),
}  # fmt: skip
"""A cohort that cannot be split: scans with a score, options, and what is said of it at the end."""


@pytest.mark.parametrize("kind", FEW)
def test_a_cohort_too_small_to_split_is_checked_all_the_same(kind: str, phantom_copy: Path, check, tmp_path: Path) -> None:
    rows, words, needed = FEW[kind]
    table = phantom_copy / "phenotype" / "edss.tsv"
    table.write_text("\n".join(table.read_text().splitlines()[: rows + 1]) + "\n")
    status, told = check(phantom_copy, *words)
    assert status == 2, told
    for part in ("exclusions", "quality: 0", "scans/positive scans by scanner", "days after the scan", "table 1",
                 "duplicates: none suspected", "inputs, 6 x 6 x 6 mm", "precision", "cost of all runs"):  # fmt: skip
        assert part in told, part
    assert "internal test" not in told
    assert ("brains are compared where there are 5 scans or more" in told) == (rows < 5)
    assert re.search(needed, told.splitlines()[-1]), told.splitlines()[-1]
    study = tmp_path / "studies" / "s"
    assert all((study / name).is_file() for name in (*WRITTEN, "flow.json", "cohort.tsv"))
    assert not (study / "splits.tsv").exists()
    assert "No split: " in (study / "check.html").read_text()
    facts = json.loads((study / "check.json").read_text())
    assert (facts["parts"], facts["costs"]["seconds"] > 0) == ([], True)
    assert json.loads((study / "flow.json").read_text())["used"]["scans"] == len(read_rows(study / "cohort.tsv"))


def test_what_a_study_was_made_with_stays_when_the_cohort_changed(phantom_copy: Path, check, tmp_path: Path) -> None:
    check(phantom_copy)
    study = tmp_path / "studies" / "s"
    before = {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()}
    table = phantom_copy / "phenotype" / "edss.tsv"
    table.write_text("\n".join(table.read_text().splitlines()[:6]) + "\n")
    status, told = check(phantom_copy)
    assert (status, "the cohort changed: use another STUDY" in told) == (2, True)
    assert before == {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()}
