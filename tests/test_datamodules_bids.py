"""Scans, scores and covariates from a BIDS-like folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.cohort.bids import read_bids
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import NO_SCAN, Candidate, Cohort
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from experiments.study.study import cohort_table

RULE = Target()
SPACE = "space-MNI152NLin6Asym"


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def add_scan(root: Path, patient: str, session: str = "", pipeline: str = "derivatives/one", entities: str = "") -> Path:
    """Empty files of one scan; returns the T1w."""
    folder = root / pipeline / patient / session / "anat"
    stem = "_".join(part for part in (patient, session, entities, SPACE) if part)
    put(folder / f"{stem}_FLAIR.nii.gz")
    return put(folder / f"{stem}_T1w.nii.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients: sub-01 with ses-1 (2020-01-10) and ses-2 (2021-01-10), sub-02 with ses-1."""
    put(tmp_path / "participants.tsv", "participant_id\tage\tsite\tlabel\nsub-01\t40\tA\t9\n02\tn/a\tB\t9\n")
    put(tmp_path / "sub-01/sub-01_sessions.tsv", "session_id\tacq_time\nses-1\t2020-01-10T08:30:00\n2\t2021-01-10\n")
    put(tmp_path / "sub-02/sub-02_sessions.tsv", "session_id\tacq_time\nses-1\t2020-05-05\n")
    scores(tmp_path, "01\t1\t2.0\t2020-01-20", "sub-01\tses-2\t3.5\t2021-02-10", "sub-02\tses-1\t1.0\t2020-05-05")
    for patient, session in (("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "ses-1")):
        add_scan(tmp_path, patient, session)
    return tmp_path


def scores(root: Path, *rows: str, header: str = "participant_id\tsession_id\tedss\tedss_date") -> None:
    put(root / "phenotype/edss.tsv", "\n".join((header, *rows)) + "\n")


def found(root: Path, rule: Target = RULE) -> dict[str, tuple[str | None, int | None]]:
    """Score and days of each candidate by name."""
    return {one.name: (one.score.value, one.score.days) if one.score else (None, None) for one in read_bids(root, rule)[0]}


def first(root: Path) -> Candidate:
    return next(one for one in read_bids(root, RULE)[0] if one.name == "sub-01/ses-1")


@pytest.mark.parametrize("target", [Target("field_strength", threshold=2.0), Target("vendor", positive="A", negative="B")])
def test_a_sidecar_does_not_repeat_the_target_and_a_column_not_an_image(folder: Path, tmp_path: Path, target: Target) -> None:
    people = "participant_id\tt2w\tage\tfield_strength\tvendor\nsub-01\t1\t40\t1.5\tA\nsub-02\t0\t50\t3\tB\n"
    put(folder / "participants.tsv", people)
    for path in folder.rglob("*_T1w.nii.gz"):
        put(Path(str(path).replace("_T1w", "_T2w")))
        put(Path(str(path).replace(".nii.gz", ".json")), json.dumps({"MagneticFieldStrength": 3, "Manufacturer": "B"}))
    cohort = read_cohort(folder, target, images=("t1w", "t2w"))
    assert [scan.label for scan in cohort.scans] == [0, 0, 1] if target.threshold else [1, 1, 0]
    assert not {target.column, "t2w"} & {name for scan in cohort.scans for name in scan.covariates}
    table = put(tmp_path / "again" / "cohort.tsv", cohort_table(cohort))
    again = read_cohort(table, target, images=("t1w", "t2w"))
    assert [(scan.name, scan.label, scan.covariates) for scan in again.scans] == [
        (scan.name, scan.label, scan.covariates) for scan in cohort.scans
    ]


GADOLINIUM = "ce-gadolinium_t1w"


@pytest.mark.parametrize("order", [("t1w", "flair", GADOLINIUM), (GADOLINIUM, "flair", "t1w"), ("flair", GADOLINIUM)])
def test_an_image_with_entities_of_its_own_is_found_beside_the_others(folder: Path, order: tuple[str, ...]) -> None:
    for path in folder.rglob("*_T1w.nii.gz"):
        put(Path(str(path).replace("_space", "_ce-gadolinium_space")))
        put(Path(str(path).replace("_T1w", "_desc-brain_mask")))
        put(Path(str(path).replace("_T1w", "_seg-samseg_dseg")))
    scans = read_cohort(folder, RULE, images=order).scans
    assert len(scans) == 3
    for scan in scans:
        stem = f"{scan.patient}_{scan.session}"
        files = {
            "t1w": f"{stem}_{SPACE}_T1w",
            "flair": f"{stem}_{SPACE}_FLAIR",
            GADOLINIUM: f"{stem}_ce-gadolinium_{SPACE}_T1w",
        }
        assert {name: path.name for name, path in scan.images.items()} == {name: f"{files[name]}.nii.gz" for name in order}
        assert scan.mask is not None
        assert scan.mask.name == f"{stem}_{SPACE}_desc-brain_mask.nii.gz"
        assert (scan.labels is not None, scan.dialect) == (True, "samseg")


@pytest.mark.parametrize(
    ("files", "days"),
    [
        ({"FLAIR": 2}, 10),
        ({"T1w": 1, "FLAIR": 2}, 10),
        ({"T1w": 1}, 11),
        ({"flair": 2, "ce-gadolinium_T1w": 1}, 10),
        ({}, None),
    ],
)
def test_the_day_of_a_scan_is_that_of_the_image_that_a_study_reads_first(tmp_path: Path, files: dict, days: int | None) -> None:
    put(tmp_path / "participants.tsv", "participant_id\nsub-01\n")
    scores(tmp_path, "01\t1\t2.0\t2020-01-12")
    add_scan(tmp_path, "sub-01", "ses-1")
    rows = [f"anat/sub-01_ses-1_{name}.nii.gz\t2020-01-0{day}\n" for name, day in files.items()]
    put(tmp_path / "sub-01/ses-1/sub-01_ses-1_scans.tsv", "".join(["filename\tacq_time\n", *rows]) if rows else "filename\nx\n")
    (scan,) = read_cohort(tmp_path, Target(undated="keep"), images=("flair",)).scans
    assert scan.days == days


def test_scans_scores_and_covariates(folder: Path) -> None:
    assert found(folder) == {"sub-01/ses-1": ("2.0", 10), "sub-01/ses-2": ("3.5", 31), "sub-02/ses-1": ("1.0", 0)}
    one = first(folder)
    assert one.covariates == {"age": "40", "site": "A"}
    assert one.where == f"sub-01_ses-1_{SPACE}_T1w.nii.gz, edss.tsv line 2"
    assert (one.mask, one.labels, one.dialect) == (None, None, "freesurfer")


def test_the_derivative_itself_can_be_the_cohort(folder: Path) -> None:
    assert found(folder / "derivatives/one") == found(folder)


def test_phantom_cohort_reads_whole(phantom_cohort: Path) -> None:
    cohort: Cohort = read_cohort(phantom_cohort, RULE)
    assert (len(cohort.scans), len(cohort.patients), cohort.exclusions) == (25, 21, ())
    assert {scan.dialect for scan in cohort.scans} == {"freesurfer"}
    assert all(scan.mask and scan.labels and {"age", "sex", "site", "vendor"} <= set(scan.covariates) for scan in cohort.scans)
    assert all(scan.days is not None and 0 <= scan.days <= 183 for scan in cohort.scans)


def test_nearest_assessment_in_the_window_wins(folder: Path) -> None:
    scores(folder, "01\t\t1.0\t2020-01-09", "01\t\t4.0\t2020-03-10", "01\t\t2.5\t2020-02-10", "02\t\t1.0\t2020-05-05")
    assert found(folder)["sub-01/ses-1"] == ("2.5", 31)


def test_tie_goes_to_the_earlier_assessment(folder: Path) -> None:
    scores(folder, "01\t\t4.0\t2020-01-15", "01\t\t2.5\t2020-01-05", "02\t\t1.0\t2020-05-05")
    assert found(folder, Target(min_days=-30))["sub-01/ses-1"] == ("2.5", -5)


def test_date_beats_session_name(folder: Path) -> None:
    scores(folder, "01\tses-1\t6.0\t2021-01-11", "02\tses-1\t1.0\t2020-05-05")
    assert found(folder)["sub-01/ses-2"] == ("6.0", 1)


@pytest.mark.parametrize(
    ("day", "reason"), [("2020-01-09", "EDSS before day 0"), ("2020-07-12", "EDSS after day 183"), ("2020-07-11", None)]
)
def test_only_assessment_outside_the_window(folder: Path, day: str, reason: str | None) -> None:
    scores(folder, f"01\t\t2.0\t{day}", "02\t\t1.0\t2020-05-05")
    told = {(one.session, one.reason) for one in read_cohort(folder, RULE).exclusions if one.session == "ses-1"}
    assert told == ({("ses-1", reason)} if reason else set())


def test_assessment_without_a_score_is_passed_over(folder: Path) -> None:
    scores(folder, "01\tses-1\tn/a\t2020-01-10", "01\tses-1\t2.0\t2020-02-10", "02\tses-1\t1.0\tn/a")
    assert found(folder) == {"sub-01/ses-1": ("2.0", 31), "sub-01/ses-2": ("2.0", -335), "sub-02/ses-1": ("1.0", None)}


def test_two_scores_on_one_day_are_refused_unless_equal(folder: Path) -> None:
    rows = ["01\t\t2.0\t2020-01-20", "01\t\t2.0\t2020-01-20", "02\t\t1.0\t2020-05-05"]
    scores(folder, *rows)
    assert found(folder)["sub-01/ses-1"] == ("2.0", 10)
    scores(folder, *rows, "01\t\t3.0\t2020-01-20")
    told = r"sub-01/ses-1 has two scores on the same day: edss.tsv line 2 \(EDSS 2.0\) and edss.tsv line 5"
    with pytest.raises(CohortError, match=told):
        found(folder)


def test_undated_scores_belong_by_session(folder: Path) -> None:
    scores(folder, "01\tses-1\t2.0", "01\t2\t3.0", "02\t\t1.0", header="participant_id\tsession_id\tedss")
    assert found(folder) == {"sub-01/ses-1": ("2.0", None), "sub-01/ses-2": ("3.0", None), "sub-02/ses-1": ("1.0", None)}
    reasons = {one.reason for one in read_cohort(folder, Target(undated="keep")).exclusions}
    assert reasons == set()
    with pytest.raises(CohortError, match=r"3 x days from scan to EDSS unknown"):
        read_cohort(folder, RULE)


def test_two_undated_scores_are_refused(folder: Path) -> None:
    scores(folder, "01\tses-1\t2.0", "01\t\t3.0", header="participant_id\tsession_id\tedss")
    with pytest.raises(CohortError, match=r"sub-01/ses-1 has two scores and no dates to choose by; add acq_time and edss_date"):
        found(folder)


def test_days_since_scan(folder: Path) -> None:
    header = "participant_id\tsession_id\tedss\tdays_since_scan"
    scores(folder, "01\tses-1\t2.0\t5", "01\t2\t3.0\t200", "02\tn/a\t1.0\t7.0", header=header)
    assert found(folder) == {"sub-01/ses-1": ("2.0", 5), "sub-01/ses-2": ("3.0", 200), "sub-02/ses-1": ("1.0", 7)}
    scores(folder, "01\t\t2.0\t5", header=header)
    with pytest.raises(
        CohortError, match=r"edss.tsv line 2: days_since_scan, but the patient has several scans; add session_id"
    ):
        found(folder)
    scores(folder, "01\t1\t2.0\tsoon", header=header)
    with pytest.raises(CohortError, match=r"edss.tsv line 2: days is 'soon'"):
        found(folder)


def test_sessions_table_may_lack_times_but_not_repeat_a_session(folder: Path) -> None:
    put(folder / "sub-01/sub-01_sessions.tsv", "session_id\nses-1\nses-2\n")
    assert found(folder)["sub-01/ses-1"] == ("2.0", None)
    put(folder / "sub-01/sub-01_sessions.tsv", "session_id\tacq_time\nses-1\t2020-01-10\n1\t2020-01-11\n")
    with pytest.raises(CohortError, match=r"sub-01_sessions.tsv lines 2 and 3: ses-1 occurs twice"):
        found(folder)


@pytest.mark.parametrize(
    "day", ["20.01.2020", "2020-01-20T09:15:00", "20-Jan-2020", "20 january 2020", "2020/1/20", "20/01/2020", "01/20/2020"]
)
def test_dates_in_mixed_forms(folder: Path, day: str) -> None:
    scores(folder, f"01\tses-1\t2.0\t{day}", "02\tses-1\t1.0\t2020-05-05")
    assert found(folder)["sub-01/ses-1"] == ("2.0", 10)


@pytest.mark.parametrize(
    ("day", "told"),
    [
        ("03/04/2020", "can be 2020-03-04 or 2020-04-03; write YYYY-MM-DD"),
        ("43850", "is not a date, a spreadsheet's day number; write YYYY-MM-DD"),
        ("31.02.2020", "is not a date; write YYYY-MM-DD"),
        ("20.1.20", "is not a date"),
        ("2020-01", "is not a date"),
        ("20 Marraskuu 2020", "is not a date"),
        ("20-Marzo-2020", "is not a date"),
    ],
)
def test_text_that_is_no_date_or_two(folder: Path, day: str, told: str) -> None:
    scores(folder, f"01\tses-1\t2.0\t{day}")
    with pytest.raises(CohortError, match=rf"edss.tsv line 2, column 'edss_date': '{day}' {told}"):
        found(folder)


def test_participant_without_a_scan_is_counted(folder: Path) -> None:
    with (folder / "participants.tsv").open("a") as file:
        file.write("sub-03\t50\tA\t2\n")
    (one,) = read_cohort(folder, Target(max_days=400)).exclusions
    assert (one.patient, one.session, one.reason, one.detail) == ("sub-03", "", NO_SCAN, "participants.tsv")


def test_flair_missing_or_of_the_other_ending(folder: Path) -> None:
    t1w = first(folder).images["t1w"]
    flair = t1w.with_name(t1w.name.replace("T1w", "FLAIR"))
    flair.rename(flair.with_suffix(""))
    assert first(folder).images["flair"] == flair.with_suffix("")
    flair.with_suffix("").unlink()
    assert [one.reason for one in read_cohort(folder, RULE).exclusions] == ["no FLAIR"]


def test_masks_label_maps_and_dialects(folder: Path) -> None:
    t1w = first(folder).images["t1w"]
    stem = t1w.name.split("_T1w")[0]
    mask = put(t1w.with_name(f"{stem}_desc-brain_mask.nii.gz"))
    put(t1w.with_name(f"{stem}_label-lesion_mask.nii.gz"))
    dseg = put(t1w.with_name(f"{stem}_seg-SynthSeg_dseg.nii.gz"))
    one = first(folder)
    assert (one.mask, one.labels, one.dialect) == (mask, dseg, "synthseg")
    table = put(t1w.with_name(f"{stem}_seg-SynthSeg_dseg.tsv"))
    assert first(folder).dialect == str(table)
    for path in (table, dseg):
        path.unlink()
    put(t1w.with_name(f"{stem}_dseg.nii.gz"))
    assert first(folder).dialect == "bids-generic"
    put(t1w.with_name(f"{stem}_seg-fastsurfer_dseg.nii"))
    with pytest.raises(CohortError, match=r"has 2 label maps for one scan: .*; keep one"):
        first(folder)


def test_sidecar_covariates(folder: Path) -> None:
    t1w = first(folder).images["t1w"]
    sidecar = put(
        t1w.with_name(t1w.name.split(".nii")[0] + ".json"), json.dumps({"MagneticFieldStrength": 3, "Manufacturer": "A\tB "})
    )
    assert first(folder).covariates == {"age": "40", "site": "A", "field_strength": "3", "vendor": "A B"}
    not_json, no_object = r"T1w.json is not JSON \(.*\); fix or remove it", r"T1w.json does not hold a JSON object"
    for content, message in (("{", not_json), ("[1]", no_object)):
        sidecar.write_text(content)
        with pytest.raises(CohortError, match=message):
            first(folder)


def test_backup_files_are_no_scans(folder: Path) -> None:
    t1w = first(folder).images["t1w"]
    put(t1w.with_name(t1w.name + ".bak"))
    put(t1w.with_name(t1w.name + "~"))
    assert len(found(folder)) == 3


def test_one_scan_under_two_names_is_refused(folder: Path) -> None:
    add_scan(folder, "sub-01", "ses-1", entities="acq-b")
    told = r"sub-01/ses-1 occurs twice: sub-01_ses-1_acq-b_.*T1w.nii.gz, edss.tsv line 2 and sub-01_ses-1_space.*T1w.nii.gz"
    with pytest.raises(CohortError, match=told):
        read_cohort(folder, RULE)


@pytest.mark.parametrize(("patient", "session", "strange"), [("sub-02", "ses-1", "sub-02"), ("sub-01", "ses-9", "ses-9")])
def test_scan_in_the_folder_of_another_is_refused(folder: Path, patient: str, session: str, strange: str) -> None:
    put(folder / "derivatives/one/sub-01/ses-1/anat" / f"{patient}_{session}_{SPACE}_T1w.nii.gz")
    with pytest.raises(CohortError, match=rf"is not in a folder {strange}; move or rename it"):
        found(folder)


def test_several_derivatives_are_refused_until_one_is_named(folder: Path) -> None:
    add_scan(folder, "sub-01", "ses-1", pipeline="derivatives/two")
    told = (
        r"has scans in several derivatives \(derivatives/one, derivatives/two\); give the folder of one of them as the cohort"
    )
    with pytest.raises(CohortError, match=told):
        found(folder)
    assert list(found(folder / "derivatives/two")) == ["sub-01/ses-1", "sub-02"]


def test_no_derivative_is_told(tmp_path: Path) -> None:
    put(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(CohortError, match=r"holds no .*_T1w.nii.gz, also not under derivatives/; prepare the scans first"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("participants.tsv", None, r"no participants.tsv in .* or the two folders above it"),
        ("participants.tsv", "participant\nsub-01\n", r"no column 'participant_id' \(did you mean 'participant'\?\)"),
        (
            "participants.tsv",
            "participant_id\nsub-01\n01\n",
            r"participants.tsv line 3: patient sub-01 occurs twice, also in line 2; keep one row",
        ),
        ("participants.tsv", "participant_id\tage\nn/a\t3\n", r"participants.tsv line 2: no participant_id"),
        ("participants.tsv", "participant_id\nsub-01\n", r"T1w.nii.gz: sub-02 has no row in .*participants.tsv; add it"),
        ("phenotype/edss.tsv", None, r"edss.tsv is missing; it needs participant_id, edss and edss_date or days_since_scan"),
        ("phenotype/edss.tsv", "participant_id\tedsss\nsub-01\t2\n", r"no column 'edss' \(did you mean 'edsss'\?\)"),
        ("phenotype/edss.tsv", "participant_id\tedss\nn/a\t2\n", r"edss.tsv line 2: no participant_id"),
        ("sub-01/sub-01_sessions.tsv", "session\tacq_time\nses-1\t\n", r"no column 'session_id' \(did you mean 'session'\?\)"),
    ],
)
def test_table_at_fault_is_named(folder: Path, file: str, content: str | None, told: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        put(folder / file, content)
    with pytest.raises(CohortError, match=told) as caught:
        found(folder)
    assert "\n" not in str(caught.value)
