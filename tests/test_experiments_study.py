"""A study on disk: what opening makes, and which later changes it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.splits import SplitError
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError, read_rows
from datamodules.store.store import BrokenScansError
from experiments.study.study import Study, StudyOptions, cohort_hash, cohort_table, open_study


@pytest.fixture
def own(phantom_copy: Path, store_folder: Path, tmp_path: Path) -> StudyOptions:
    """Options of a study of a cohort that may be changed."""
    return StudyOptions(cohort=phantom_copy, folder=tmp_path / "study", store=store_folder)


def set_edss(cohort: Path, change: dict[int, str]) -> None:
    """Replace scores by row."""
    path = cohort / "phenotype/edss.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    for row, edss in change.items():
        rows[row][2] = edss
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")


def images(cohort: Path, pattern: str) -> list[Path]:
    return sorted(cohort.glob(f"derivatives/phantom/sub-*/ses-*/anat/*{pattern}"))


def test_first_open_writes_the_study(study: Study) -> None:
    assert sorted(path.name for path in study.folder.iterdir()) == [
        ".lock",
        "cohort.tsv",
        "flow.json",
        "grid.json",
        "splits.json",
        "splits.tsv",
        "study.yaml",
    ]
    flow = json.loads((study.folder / "flow.json").read_text())
    assert flow["used"]["scans"] == len(study.cohort.scans) == len(study.prepared.keys) == 25
    assert flow["used"]["patients"] == len(study.splits.part) == 21
    assert sum(scan.label for scan in study.cohort.scans) == flow["used"]["positive_scans"] > 7


def test_second_open_changes_nothing(study: Study, study_options: StudyOptions) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.folder.iterdir()}
    again = open_study(study_options, lambda *_: pytest.fail("a volume was made again"))
    assert again == study
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.folder.iterdir()} == before


def test_cohort_table_reads_back_as_the_same_cohort(study: Study, tmp_path: Path) -> None:
    again = read_cohort(study.folder / "cohort.tsv", study.cohort.rule)
    assert again.scans == study.cohort.scans
    assert cohort_hash(again) == study.cohort_hash
    (tmp_path / "again.tsv").write_text(cohort_table(again))
    assert (tmp_path / "again.tsv").read_bytes() == (study.folder / "cohort.tsv").read_bytes()
    assert read_rows(study.folder / "cohort.tsv")[0]["label"] in ("0", "1")


def test_score_that_changed_within_its_class_is_refused(own: StudyOptions) -> None:
    open_study(own)
    scan = open_study(own).cohort.scans[0]
    set_edss(own.cohort, {1: "9.5" if scan.label else "0"} if scan.value not in (0, 9.5) else {1: "9" if scan.label else "1.0"})
    with pytest.raises(
        CohortError, match=r"EDSS values in .*copy are not those that study study was made with; use another STUDY"
    ):
        open_study(own)


def test_score_that_changed_its_class_is_refused(own: StudyOptions) -> None:
    scan = open_study(own).cohort.scans[0]
    set_edss(own.cohort, {1: "1.0" if scan.label else "8.0"})
    told = rf"scan {scan.name} has label {scan.label}, in the cohort {1 - scan.label}; use another STUDY"
    with pytest.raises(SplitError, match=told):
        open_study(own)


def test_scan_that_was_lost_is_refused(own: StudyOptions) -> None:
    open_study(own)
    images(own.cohort, "FLAIR.nii.gz")[0].unlink()
    with pytest.raises(
        SplitError, match=r"scan sub-0001/ses-01 is not in the cohort but in .*splits.tsv; the cohort changed: use another"
    ):
        open_study(own)


def test_image_that_changed_is_seen_in_the_data_hash(own: StudyOptions) -> None:
    before = open_study(own)
    path = images(own.cohort, "T1w.nii.gz")[3]
    content = bytearray(path.read_bytes())
    content[4:8] = b"\x09\x09\x09\x09"
    path.write_bytes(content)
    after = open_study(own)
    assert after.prepared.hash != before.prepared.hash
    assert [a != b for a, b in zip(after.prepared.keys, before.prepared.keys, strict=True)].index(True) == 3
    assert (after.splits, after.cohort_hash) == (before.splits, before.cohort_hash)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split_seed": 1}, r"study study was split with --split_seed 0, not 1; use another STUDY"),
        ({"folds": 5}, r"study study was split with --folds 7, not 5; use another STUDY"),
    ],
)
def test_split_asked_for_otherwise_is_refused(
    study: Study, study_options: StudyOptions, change: dict[str, int], told: str
) -> None:
    with pytest.raises(SplitError, match=told):
        open_study(replace(study_options, **change))  # type: ignore[arg-type]


def test_leak_put_into_the_split_is_refused(own: StudyOptions) -> None:
    made = open_study(own)
    twice = next(scan.patient for scan in made.cohort.scans if scan.session == "ses-02")
    path = own.folder / "splits.tsv"
    part = made.splits.part[twice]
    path.write_text(path.read_text().replace(f"{twice}\tses-02\t", "X").replace(f"{part}\n", f"{part}\n"))
    rows = [line for line in path.read_text().splitlines() if not line.startswith("X")]
    path.write_text("\n".join([*rows, f"{twice}\tses-02\t0\t{(part + 1) % 7}"]) + "\n")
    with pytest.raises(SplitError, match=rf"patient {twice} is in parts \d and \d: a leak; restore the file"):
        open_study(own)


def test_too_few_positives_leave_no_study(own: StudyOptions) -> None:
    rule = Target(threshold=9.5)
    with pytest.raises(SplitError, match=r"^0 positive patients cannot fill 7 folds, each needs one; 7 of each class"):
        open_study(replace(own, label=rule))
    assert [path.name for path in own.folder.iterdir()] == [".lock"]


def test_broken_scans_are_refused_or_counted(own: StudyOptions) -> None:
    path = images(own.cohort, "FLAIR.nii.gz")[0]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BrokenScansError, match=r"1 scan cannot be used; fix them, or exclude them with --broken exclude"):
        open_study(own)
    assert not (own.folder / "splits.tsv").exists()
    kept = open_study(replace(own, broken="exclude"))
    assert len(kept.cohort.scans) == len(kept.prepared.keys) == 24
    flow = json.loads((own.folder / "flow.json").read_text())
    assert (flow["found"]["scans"], flow["found"]["patients"]) == (25, 21)
    (broken,) = flow["excluded"]
    assert (broken["reason"], broken["scans"], broken["patients"]) == ("image cannot be used", 1, 1)
    assert broken["who"][0]["patient"] == "sub-0001"
    assert "FLAIR.nii.gz cannot be read" in broken["who"][0]["detail"]
    assert open_study(replace(own, broken="exclude")).splits == kept.splits


def test_nothing_left_after_broken_scans(own: StudyOptions) -> None:
    for path in images(own.cohort, "T1w.nii.gz"):
        path.write_bytes(b"no image")
    with pytest.raises(CohortError, match=r"T1w.nii.gz cannot be read"):
        open_study(replace(own, broken="exclude"))


def test_interrupted_making_is_finished_by_the_next_open(own: StudyOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("experiments.study.study.write_splits", stop)
        with pytest.raises(KeyboardInterrupt):
            open_study(own)
    assert not (own.folder / "splits.tsv").exists()
    assert len(open_study(own).splits.part) == 21
