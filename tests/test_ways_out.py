"""What a message names beside the fault: how much is concerned, the commonest reason first, and the next step."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort, Exclusion
from datamodules.cohort.splits import TooFewPatientsError
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from experiments.study.opening import open_with_progress
from experiments.study.settings import parse_settings
from experiments.study.study import StudyOptions, open_study

DATES = ("--label.undated keep", "days", "scan_date", "edss_date", "acq_time", "days_since_scan")


def without_dates(cohort: Path, kept: int = 0) -> None:
    """Take the day of the scans from all patients but the last few."""
    tables = sorted(cohort.glob("sub-*/sub-*_sessions.tsv"))
    for path in tables[: len(tables) - kept]:
        rows = [line.split("\t")[0] for line in path.read_text().splitlines()]
        path.write_text("\n".join(rows) + "\n")


def test_a_cohort_without_dates_is_told_what_to_do(phantom_copy: Path, tmp_path: Path) -> None:
    without_dates(phantom_copy)
    with pytest.raises(CohortError, match=r"no usable scan in the 25 rows of .*: 25 x days from scan to EDSS unknown") as told:
        read_cohort(phantom_copy, Target())
    assert all(word in str(told.value) for word in DATES)
    table = tmp_path / "plain.tsv"
    (tmp_path / "t1.nii").write_bytes(b"x")
    table.write_text("patient\tt1w\tflair\tedss\nP1\tt1.nii\tt1.nii\t2\n")
    with pytest.raises(CohortError, match=r"1 x days from scan to EDSS unknown .*--label\.undated keep"):
        read_cohort(table, Target())


def test_too_few_patients_are_told_after_what_was_excluded(phantom_copy: Path, store_folder: Path, tmp_path: Path) -> None:
    without_dates(phantom_copy, kept=4)
    with pytest.raises(TooFewPatientsError) as told:
        open_study(StudyOptions(phantom_copy, tmp_path / "study", store_folder))
    first, second = str(told.value).splitlines()
    assert re.match(r"(\d+) of 25 excluded: \1 x days from scan to EDSS unknown \(as sub-0001/ses-01: ", first)
    assert all(word in first for word in DATES)
    assert "cannot fill 7 folds" in second


def test_a_study_says_first_what_it_excludes(phantom_copy: Path, store_folder: Path, tmp_path: Path) -> None:
    without_dates(phantom_copy, kept=19)
    words = ["--cohort", str(phantom_copy), "--studies", str(tmp_path), "--store", str(store_folder), "--folds", "3"]
    console = Console(file=io.StringIO(), width=1000)
    study = open_with_progress(parse_settings(words), console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    count = len(study.cohort.exclusions)
    assert count > 0
    assert told.startswith(f"note: {count} of 25 excluded: {count} x days from scan to EDSS unknown")


def test_the_commonest_reason_comes_first(tmp_path: Path) -> None:
    reasons = ["no FLAIR", "no EDSS", "no EDSS", *(f"held back by QC: {number}" for number in range(5))]
    exclusions = tuple(Exclusion(f"p{row}", "", reason, "row") for row, reason in enumerate(reasons))
    cohort = Cohort(tmp_path, Target(), (), exclusions)
    assert cohort.excluded().startswith("8 of 8 excluded: 2 x no EDSS (as p1: row), 1 x no FLAIR (as p0: row), ")
    assert cohort.excluded().endswith("and 2 further reasons")
    assert [entry["reason"] for entry in cohort.flow()["excluded"]][:2] == ["no EDSS", "no FLAIR"]  # type: ignore[attr-defined]
    assert replace(cohort, exclusions=()).excluded() == ""
