"""Real raw scans of two patients, 3 and 4 mm slices, one with the top and the bottom of the brain cut off."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from datamodules.cohort.records import Scan
from datamodules.store.duplicates import duplicates_of
from datamodules.store.store import open_store
from experiments.__main__ import main

RAW = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "raw"

needs_scans = pytest.mark.skipif(not RAW.is_dir(), reason="the raw scans are not on this machine")


def numbers(out: Path) -> dict[str, dict[str, Any]]:
    return {path.name.split("_desc")[0]: json.loads(path.read_text())["numbers"] for path in sorted(out.rglob("*_qc.json"))}


@pytest.mark.long
@needs_scans
def test_a_real_session(tmp_path: Path) -> None:
    assert main(["prepare", "--bids", str(RAW), "--out", str(tmp_path), "--only", "sub-01/ses-1"]) == 0
    (told,) = numbers(tmp_path).values()
    assert told["dice_in_field"] > 0.93
    assert 0.01 < told["template_unseen"] < 0.05
    assert told["flair_moved_mm"] < 1.5
    assert told["pair_nmi"] > 1.05
    assert told["pair_mi"] > 0.35
    assert 1.2 < told["determinant"] < 1.7


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three sessions, prepared once; nobody may change them."""
    out = tmp_path_factory.mktemp("real") / "cohort"
    assert main(["prepare", "--bids", str(RAW), "--out", str(out), "--jobs", "2"]) == 0
    return out


@pytest.mark.long
@needs_scans
def test_all_real_sessions(prepared: Path) -> None:
    told = numbers(prepared)
    assert list(told) == ["sub-01_ses-1", "sub-01_ses-2", "sub-03_ses-2"]
    assert min(one["dice_in_field"] for one in told.values()) > 0.93
    assert min(one["contrast_order"] for one in told.values()) > 0.3
    assert told["sub-01_ses-1"]["determinant"] == pytest.approx(told["sub-01_ses-2"]["determinant"], rel=0.05)
    participants = (prepared / "participants.tsv").read_text()
    assert participants == "participant_id\nsub-01\nsub-03\n"
    assert {path.name for path in (prepared / "qc").iterdir()} == {
        "index.html", *(f"{name}{kind}.png" for name in told for kind in ("", "_plain"))
    }  # fmt: skip


@pytest.mark.long
@needs_scans
def test_a_real_person_under_two_ids_is_found_and_no_other_pair(prepared: Path, tmp_path: Path) -> None:
    """Five scans of four people, two of whom another group prepared; the correlation was 0.89."""
    anat = [*sorted(prepared.glob("derivatives/*/sub-*/ses-*/anat")), *sorted(RAW.with_name("mni").glob("sub-*/anat"))]
    scans = []
    for number, folder in enumerate(anat):
        files = {name: next(folder.glob(f"*_{name}.nii.gz"), None) for name in ("T1w", "FLAIR", "desc-brain_mask")}
        assert files["T1w"]
        assert files["FLAIR"]
        scans.append(
            Scan(f"P{number}", "", {"t1w": files["T1w"], "flair": files["FLAIR"]}, 2.0, 3, 0, files["desc-brain_mask"])
        )
    found = duplicates_of(scans, open_store(scans, tmp_path / "store"))
    assert [(pair.first, pair.second, pair.how) for pair in found] == [("P0", "P1", "nearly the same brain")]
    assert found[0].correlation == pytest.approx(0.89, abs=0.03)


@pytest.mark.long
@needs_scans
def test_real_sessions_and_phantoms_train_as_one_cohort(prepared: Path, tmp_path: Path) -> None:
    from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort

    real = Path(shutil.copytree(prepared, tmp_path / "real"))
    rows = ["participant_id\tsession_id\tedss\tdays_since_scan", "sub-01\tses-1\t2.0\t12", "sub-01\tses-2\t2.5\t30"]
    (real / "phenotype").mkdir()
    (real / "phenotype" / "edss.tsv").write_text("\n".join([*rows, "sub-03\tses-2\t4.0\t45"]) + "\n")
    write_phantom_cohort(tmp_path / "phantoms", PhantomOptions(patients=14, scans=14, spacing_mm=1.0, seed=4), processes=2)
    both = tmp_path / "both"
    joined = ["adopt", "--from", f"{real},{tmp_path / 'phantoms'}", "--out", str(both)]
    apart = ["--alike_ids", "apart"]  # the real sub-01 is not the phantom sub-0001
    assert main(joined) == 2
    assert main([*joined, *apart]) == 0
    places = ["--store", str(tmp_path / "store"), "--studies", str(tmp_path / "studies"), "--study", "s", "--folds", "3"]
    small = ["--trainer.max_epochs", "2", "--network.init_args.width", "2", "--data.batch_size", "2"]
    assert main(["fold", "--roi", "brainstem", "--fold", "0", "--cohort", str(both), *places, *small, *apart]) == 0
    flow = json.loads((tmp_path / "studies" / "s" / "flow.json").read_text())
    assert (flow["used"]["scans"], flow["used"]["patients"], flow["excluded"]) == (17, 16, [])
    assert json.loads((tmp_path / "studies" / "s" / "brainstem/fold-0/seed-0/run.json").read_text())["state"] == "complete"


def muslim(folder: Path, t1w: Path, flair: Path) -> None:
    """One patient as in the archive: plain .nii, a spreadsheet with a title above its header."""
    (folder / "Patient-1").mkdir(parents=True)
    for path, kind in ((t1w, "T1"), (flair, "Flair")):
        (folder / "Patient-1" / f"1-{kind}.nii").write_bytes(gzip.decompress(path.read_bytes()))
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    within = "Does the time difference between MRI acquisition and EDSS < two months"
    for row in (["Supplementary Table 1"], ["ID", "Age", "Gender", "EDSS", within], [1, 38, "F", 4, "Yes"]):
        sheet.append(row)
    book.save(folder / "Supplementary Table 1 for patient info .xlsx")


def ljubljana(folder: Path, t1w: Path, flair: Path) -> None:
    """One patient as in the archive, and one of whom only the table knows."""
    (folder / "patient03").mkdir(parents=True)
    for path, kind in ((t1w, "T1W"), (flair, "FLAIR")):
        (folder / "patient03" / f"{kind}.nii.gz").symlink_to(path)
    rows = [
        "patient_id,age,sex,ms_type,edss,criteria",
        "patient03,47,F,SP,4.0,McDonald 2010",
        "patient21,30,M,CIS,N/A,McDonald",
    ]
    (folder / "patient_info.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.long
@needs_scans
@pytest.mark.parametrize("layout", [muslim, ljubljana])
def test_a_published_layout_from_archive_to_check(
    layout: Callable[[Path, Path, Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anat = RAW / "sub-03" / "ses-2" / "anat"
    layout(tmp_path / "archive", anat / "sub-03_ses-2_T1w.nii.gz", anat / "sub-03_ses-2_FLAIR.nii.gz")
    links, out = tmp_path / "links", tmp_path / "prepared"
    assert main(["adopt", "--dataset", layout.__name__, "--from", str(tmp_path / "archive"), "--out", str(links)]) == 0
    assert main(["prepare", "--bids", str(links), "--out", str(out)]) == 0
    (told,) = numbers(out).values()
    assert told["dice_in_field"] > 0.93
    places = ["--store", str(tmp_path / "store"), "--studies", str(tmp_path / "studies"), "--study", "s"]
    capsys.readouterr()
    assert main(["check", "--cohort", str(out), "--label.undated", "keep", *places]) == 2
    printed = capsys.readouterr()
    assert "0 negative and 1 positive patients cannot fill 7 folds" in printed.err
    for words in ("quality: 0 scans beyond a limit", "no scan has a date", "table 1", "cost of all runs"):
        assert words in printed.out
    columns = (out / "participants.tsv").read_text().splitlines()[0].split("\t")
    assert ("edss_within_two_months" in columns) == (layout is muslim)


@pytest.mark.long
@needs_scans
def test_a_swapped_pair_is_held_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anat = tmp_path / "raw" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for kind, other in (("T1w", "FLAIR"), ("FLAIR", "T1w")):
        (anat / f"sub-01_{kind}.nii.gz").symlink_to(RAW / "sub-01" / "ses-1" / "anat" / f"sub-01_ses-1_{other}.nii.gz")
    assert main(["prepare", "--bids", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]) == 0
    assert "held back  sub-01  T1w and FLAIR look swapped" in capsys.readouterr().out


@pytest.mark.long
@needs_scans
@pytest.mark.parametrize("name", ["sub-01/ses-1", "sub-03/ses-2"])
def test_the_mask_by_registration_is_near_deepbets(name: str) -> None:
    from datamodules.files.volumes import read_volume
    from datamodules.preparation.brain import deepbet_mask
    from datamodules.preparation.template_brain import registered_mask

    t1w = read_volume(RAW / name / "anat" / f"{name.replace('/', '_')}_T1w.nii.gz")
    first, second = deepbet_mask(t1w), registered_mask(t1w)
    assert 2 * np.sum(first & second) / (first.sum() + second.sum()) > 0.9
