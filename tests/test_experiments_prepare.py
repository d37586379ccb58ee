"""The command ``prepare``: refusals before anything is computed, failures that stop no other scan, processes that die."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from datamodules.files.atomic import file_sha256
from datamodules.files.cores import too_many
from datamodules.intake.raw import read_raw
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.pool import Ended, Job, prepare_all, usual_jobs
from experiments.__main__ import main
from experiments.checking.prepare_cohort import _progress, refuse_strangers

HEAVY = ("ants", "torch", "deepbet", "scipy.ndimage", "nilearn")
"""Of scipy its parts count: nibabel imports the bare package, which takes 7 ms."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two patients whose files are damaged, and one without FLAIR."""
    folder = tmp_path / "raw"
    affine = np.diag([8.0, 8, 8, 1])
    noise = np.random.default_rng(0).random((20, 22, 24)).astype(np.float32)
    for patient, kinds in (("sub-1", ("T1w", "FLAIR")), ("sub-2", ("T1w", "FLAIR")), ("sub-3", ("T1w",))):
        (folder / patient / "anat").mkdir(parents=True)
        for kind in kinds:
            nib.save(nib.Nifti1Image(noise, affine), folder / patient / "anat" / f"{patient}_{kind}.nii.gz")
    cut = folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    cut.write_bytes(cut.read_bytes()[:2000])
    values = noise.copy()
    values[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(values, affine), folder / "sub-2" / "anat" / "sub-2_FLAIR.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--bids is missing; give the folder of a raw BIDS dataset"),
        (["--bids", "{raw}", "--jobs", "0"], "--jobs 0: 1 or more scans are prepared at a time"),
        (["--bids", "{raw}/none"], "{raw}/none is not a folder"),
        (["--bids", "{raw}", "--only", "sub-11"], "--only sub-11: no such scan in {raw}; did you mean sub-1, sub-2?"),
        (["--bids", "{raw}", "--only", "sub-3"], "--only sub-3: {raw} has no scan of it that can be prepared (no FLAIR)"),
        (["--bids", "{raw}", "--labels-from", "{raw}"], "--labels-from needs --dialect"),
        (["--bids", "{raw}", "--labels-from", "{raw}", "--dialect", "aseg"], "label dialect 'aseg' is not known"),
        (["--bids", "{raw}", "--labels-from", "{raw}", "--dialect", "samseg"], "{raw} holds no samseg label map"),
        (["--bids", "{raw}", "--lesion"], "--lesion is an option of SAMSEG"),
        (["--bids", "{raw}", "--samseg", "{raw}/run"], "--samseg {raw}/run is not a program"),
        (["--bids", "{raw}", "--images", "flair"], "--images flair: the others are laid onto the T1w; give t1w and further"),
        (["--bids", "{raw}", "--images", "t1w,label-lesion_mask"], "label-lesion_mask is no contrast; give t1w and further"),
        (["--bids", "{raw}", "--images", "t1w,t1w"], "--images names t1w twice; keep one"),
        (["--bids", "{raw}", "--images", "t1w,t2w"], "{raw} holds no session with T1w and T2w"),
        (["--bids", "{raw}", "--samseg", "{raw}/run", "--images", "t1w"], "--samseg reads T1w and FLAIR; add flair to"),
        (["--bids", "{raw}", "--brain", "bet"], "--brain is bet; give deepbet or registration"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_line(raw: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["prepare", *(word.format(raw=raw) for word in words)]) == 2
    error = capsys.readouterr().err
    assert told.format(raw=raw) in error
    assert error.count("\n") == 1


def test_broken_scans_are_named_and_listed(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "--bids", str(raw), "--out", str(out), "--jobs", "2"]) == 1
    printed = capsys.readouterr().out
    assert "0 prepared, 0 finished before, 1 left out, 2 failed" in printed
    rows = [line.split("\t") for line in (out / "derivatives" / "regionwise" / "prepare_failures.tsv").read_text().splitlines()]
    assert rows[0] == ["state", "patient", "session", "reason"]
    assert [row[:3] for row in rows[1:]] == [
        ["failed", "sub-1", "n/a"],
        ["failed", "sub-2", "n/a"],
        ["left out", "sub-3", "n/a"],
    ]
    assert "sub-1_T1w.nii.gz cannot be read" in rows[1][3]
    assert "sub-2_FLAIR.nii.gz holds voxels that are not finite (NaN or infinite): 1" in rows[2][3]
    assert rows[3][3] == "no FLAIR"
    assert not list(out.rglob("*.nii.gz"))
    assert not list(out.rglob("*.partial"))


def test_a_process_that_is_killed_is_one_failure(raw: Path, tmp_path: Path) -> None:
    pipe = raw / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    dataset = read_raw(raw)
    pipe.unlink()
    os.mkfifo(pipe)  # reading it waits for ever
    stopped: list[int] = []

    def kill() -> None:
        for _ in range(600):
            time.sleep(0.05)
            children = multiprocessing.active_children()
            if len(told) == 1 and children:
                stopped.append(children[0].pid or 0)
                children[0].kill()
                return

    told: list[Ended] = []
    killer = threading.Thread(target=kill)
    killer.start()
    ended = prepare_all([Job(one, tmp_path / "out", PrepareOptions()) for one in dataset.sessions], 2, told.append)
    killer.join()
    assert stopped
    assert [one.state for one in ended] == ["failed", "failed"]
    assert ended[0].reason.startswith("its process was killed (most often for want of memory: try fewer --jobs)")
    assert "not finite" in ended[1].reason


def test_each_stage_is_told_and_stands_in_the_log(raw: Path, tmp_path: Path) -> None:
    stages: list[tuple[str, str]] = []
    jobs = [Job(one, tmp_path / "out", PrepareOptions()) for one in read_raw(raw).sessions]
    ended = prepare_all(jobs, 1, on_stage=lambda session, stage: stages.append((session.name, stage)))
    assert stages == [("sub-1", "reading the images"), ("sub-2", "reading the images")]
    assert [one.state for one in ended] == ["failed", "failed"]
    for name in ("sub-1", "sub-2"):
        log = (tmp_path / "out/derivatives/regionwise/logs" / f"{name}.log").read_text()
        assert re.match(r"\d\d:\d\d:\d\d reading the images\n", log)


def test_a_log_tells_stages_until_a_scan_is_ready_and_then_the_time_left(raw: Path) -> None:
    first, second = read_raw(raw).sessions
    console = Console(file=io.StringIO(), width=200)
    with _progress(3, 1, console) as (on_scan, on_stage):
        on_stage(first, "finding the brain")
        on_scan(Ended(first, "prepared", seconds=120.0))
        on_stage(second, "finding the brain")
        on_scan(Ended(second, "failed", "its file is cut"))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "sub-1  finding the brain",
        "sub-1  prepared in 120 s  (1 of 3, about 4 min left)",
        "sub-2  failed  its file is cut",
    ]


def test_jobs_beyond_the_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.files.cores.cores", lambda: 4)
    assert (too_many(4), too_many(1, 8), too_many(2, 2)) == ("", "", "")
    assert too_many(16) == "16 jobs at a time on 4 cores slow each other down; 4 fit"
    assert too_many(3, 2) == "3 jobs at a time of 2 threads each on 4 cores slow each other down; 2 fit"


def test_two_commands_do_not_write_one_cohort(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    folder = tmp_path / "out" / "derivatives" / "regionwise"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["prepare", "--bids", str(raw), "--out", str(tmp_path / "out")]) == 2
    assert "another prepare is writing" in capsys.readouterr().err


def prepared_before(raw: Path, out: Path) -> Path:
    """The record of sub-2, as if it had been prepared; the folder of its raw files."""
    record = out / "derivatives" / "regionwise" / "sub-2" / "anat" / "sub-2_desc-prepare_qc.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"inputs": {"t1w": "sub-2_T1w.nii.gz 0", "flair": "sub-2_FLAIR.nii.gz 0", "labels": "x 0"}}))
    return raw / "sub-2" / "anat"


@pytest.mark.parametrize("gone", ["session", "image"])
def test_scans_of_another_dataset_are_not_mixed_with_this_one(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    anat = prepared_before(raw, tmp_path / "out")
    if gone == "session":
        shutil.rmtree(anat)
    else:
        (anat / "sub-2_FLAIR.nii.gz").unlink()
    assert main(["prepare", "--bids", str(raw), "--out", str(tmp_path / "out"), "--only", "sub-1"]) == 2
    told = capsys.readouterr().err
    assert re.search(r"out holds 1 prepared scan that .*raw does not have, as .*sub-2/anat; give another --out, or", told)
    assert not (tmp_path / "out" / "participants.tsv").exists()


def test_a_prepared_scan_whose_links_were_not_fetched_stays(raw: Path, tmp_path: Path) -> None:
    anat = prepared_before(raw, tmp_path / "out")
    for path in anat.iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "annex" / path.name)
    refuse_strangers(read_raw(raw), tmp_path / "out")


def test_another_dataset_with_the_same_names_does_not_take_the_place_of_prepared_scans(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        anat = raw / f"sub-{number}" / "anat"
        record = out / "derivatives" / "regionwise" / anat.relative_to(raw) / f"sub-{number}_desc-prepare_qc.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"inputs": {"t1w": f"sub-{number}_T1w.nii.gz {number}", "flair": "x.nii.gz 0"}}))
    dataset = read_raw(raw)
    assert main(["prepare", "--bids", str(raw), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert re.search(r"out holds 2 prepared scans named as in .*raw, but made from other T1w images; give another --out", told)
    refuse_strangers(dataset, out, restart=True)
    same = dataset.sessions[1].images["t1w"]
    record.write_text(json.dumps({"inputs": {"t1w": f"{same.name} {file_sha256(same)}"}}))
    refuse_strangers(dataset, out)


def test_one_scan_that_was_replaced_is_prepared_anew(raw: Path, tmp_path: Path) -> None:
    prepared_before(raw, tmp_path / "out")
    refuse_strangers(read_raw(raw), tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_told(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["prepare", "--bids", str(raw), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_no_more_processes_than_scans() -> None:
    assert usual_jobs(1) == 1
    assert 1 <= usual_jobs(1000) <= (os.cpu_count() or 1)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    modules = (
        "experiments.commands.prepare, datamodules.preparation.pool, datamodules.preparation.options, datamodules.intake.raw"
    )
    code = f"import sys, {modules}; print(sorted(set(sys.modules) & set(sys.argv[1].split(','))))"
    done = subprocess.run([sys.executable, "-c", code, ",".join(HEAVY)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
