"""Raw scans from a BIDS dataset: which are taken, which are not and why, with their dates, sidecars and label maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from datamodules.files.tables import CohortError
from datamodules.intake.raw import RawDataset, parse_name, read_raw

REAL = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "raw"
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(path: str, content: str = "x") -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    return write


@pytest.fixture
def pair(put: Put) -> Put:
    """``pair("sub-01", "ses-1")`` writes a T1w and a FLAIR; returns the T1w."""

    def write(patient: str, session: str = "") -> Path:
        stem = "/".join(part for part in (patient, session, "anat") if part) + "/" + "_".join(filter(None, (patient, session)))
        put(f"{stem}_FLAIR.nii.gz")
        return put(f"{stem}_T1w.nii.gz")

    return write


def names(found: RawDataset) -> list[str]:
    return [one.name for one in found.sessions]


def test_sessions_with_and_without_a_session_folder(pair: Put, tmp_path: Path) -> None:
    pair("sub-02")
    t1w = pair("sub-01", "ses-2")
    pair("sub-01", "ses-1")
    found = read_raw(tmp_path)
    assert names(found) == ["sub-01/ses-1", "sub-01/ses-2", "sub-02"]
    assert found.sessions[1].t1w == t1w
    assert (found.excluded, found.remarks) == ((), ())
    assert (found.sessions[0].labels, found.sessions[0].acquired, found.sessions[0].sidecars) == (
        None,
        None,
        {"t1w": {}, "flair": {}},
    )


@pytest.mark.parametrize(
    ("variants", "taken"),
    [
        (["sub-01_T1w.nii.gz", "sub-01_acq-mprage_T1w.nii.gz"], "sub-01_T1w.nii.gz"),
        (["sub-01_run-2_T1w.nii.gz", "sub-01_run-10_T1w.nii.gz"], "sub-01_run-2_T1w.nii.gz"),
        (["sub-01_ce-gd_T1w.nii.gz", "sub-01_acq-a_run-1_T1w.nii.gz"], "sub-01_acq-a_run-1_T1w.nii.gz"),
        (["sub-01_rec-norm_T1w.nii.gz", "sub-01_acq-a_run-2_T1w.nii.gz"], "sub-01_acq-a_run-2_T1w.nii.gz"),
        (["sub-01_acq-b_T1w.nii.gz", "sub-01_acq-a_T1w.nii.gz"], "sub-01_acq-a_T1w.nii.gz"),
    ],
)
def test_one_of_several_is_taken_by_rule_and_the_others_named(
    put: Put, tmp_path: Path, variants: list[str], taken: str
) -> None:
    put("sub-01/anat/sub-01_FLAIR.nii.gz")
    for name in variants:
        put(f"sub-01/anat/{name}")
    found = read_raw(tmp_path)
    assert found.sessions[0].t1w.name == taken
    other = next(name for name in variants if name != taken)
    assert found.remarks == (f"sub-01: {taken} is taken, not {other}",)


def test_parts_and_images_in_another_space_are_no_raw_scans(put: Put, pair: Put, tmp_path: Path) -> None:
    t1w = pair("sub-01")
    for name in ("part-phase_T1w", "part-real_T1w", "part-imag_T1w", "space-MNI152_T1w", "desc-defaced_T1w"):
        put(f"sub-01/anat/sub-01_{name}.nii.gz")
    put("sub-01/anat/sub-01_T1w.nii.gz.bak")
    found = read_raw(tmp_path)
    assert (found.sessions[0].t1w, found.remarks) == (t1w, ())
    magnitude = t1w.rename(t1w.with_name("sub-01_part-mag_T1w.nii.gz"))
    assert read_raw(tmp_path).sessions[0].t1w == magnitude


def test_what_is_missing_is_counted_with_its_reason(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01", "ses-1")
    put("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    put("sub-02/anat/sub-02_FLAIR.nii.gz")
    (tmp_path / "sub-03").mkdir()
    pair("sub-04").unlink()
    (tmp_path / "sub-04/anat/sub-04_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone")
    put("participants.tsv", "participant_id\nsub-01\n05\n")
    assert read_raw(tmp_path).excluded == (
        ("sub-05", "", "no folder in the dataset"),
        ("sub-01", "ses-2", "no FLAIR"),
        ("sub-02", "", "no T1w"),
        ("sub-03", "", "no T1w"),
        ("sub-04", "", "T1w file missing: sub-04_T1w.nii.gz (a link to a file that was not fetched)"),
    )


def test_a_session_without_an_optional_image_is_prepared(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01", "ses-1")
    put("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    put("sub-02/anat/sub-02_FLAIR.nii.gz")
    found = read_raw(tmp_path, optional=("flair",))
    assert [tuple(session.images) for session in found.sessions] == [("t1w", "flair"), ("t1w",)]
    assert found.excluded == (("sub-02", "", "no T1w"),)


def test_links_that_lead_in_circles(pair: Put, tmp_path: Path) -> None:
    pair("sub-01", "ses-1")
    (tmp_path / "sub-01/ses-1/anat/again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sub-01/loop").symlink_to(tmp_path / "sub-01/loop")
    (tmp_path / "sub-02").symlink_to(tmp_path / "sub-02")
    assert names(read_raw(tmp_path)) == ["sub-01/ses-1"]


def test_date_from_scans_then_from_sessions(put: Put, pair: Put, tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2", "ses-3"):
        pair("sub-01", session)
    put("sub-01/sub-01_sessions.tsv", "session_id\tacq_time\nses-1\t2020-01-10\n2\t11.02.2020\n")
    put("sessions.tsv", "participant_id\tsession_id\tacq_time\n01\t3\t2020-03-05T10:00:00\nsub-02\tses-3\t2021-01-01\n")
    put("sub-01/ses-1/sub-01_ses-1_scans.tsv", "filename\tacq_time\nanat/sub-01_ses-1_T1w.nii.gz\t2020-01-11T07:00:00\n")
    found = {one.session: one.acquired for one in read_raw(tmp_path).sessions}
    assert found == {"ses-1": date(2020, 1, 11), "ses-2": date(2020, 2, 11), "ses-3": None}
    (tmp_path / "sub-01/sub-01_sessions.tsv").unlink()
    assert read_raw(tmp_path).sessions[2].acquired == date(2020, 3, 5)


def test_dates_that_contradict_each_other_are_refused(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01", "ses-1")
    put("sub-01/sub-01_sessions.tsv", "session_id\tacq_time\nses-1\t2020-01-10\n")
    rows = "filename\tacq_time\nanat/sub-01_ses-1_T1w.nii.gz\t2020-02-11\n"
    scans = put("sub-01/ses-1/sub-01_ses-1_scans.tsv", rows)
    told = r"sub-01/ses-1 was scanned on 2020-02-11 in its scans.tsv and 2020-01-10 in its sessions.tsv; fix the wrong date"
    with pytest.raises(CohortError, match=told):
        read_raw(tmp_path)
    scans.write_text(
        "filename\tacq_time\nanat/sub-01_ses-1_run-1_T1w.nii\t2020-01-10\nanat/sub-01_ses-1_run-2_T1w.nii\t2020-03-10\n"
    )
    with pytest.raises(CohortError, match=r"gives the T1w of sub-01_ses-1 2 dates \(2020-01-10, 2020-03-10\); keep one"):
        read_raw(tmp_path)


def test_sidecars_inherit_and_the_nearest_has_the_last_word(put: Put, pair: Put, tmp_path: Path) -> None:
    t1w = pair("sub-01", "ses-1")
    put("T1w.json", json.dumps({"Manufacturer": "A", "MagneticFieldStrength": 1.5}))
    put("acq-other_T1w.json", json.dumps({"Manufacturer": "not this one"}))
    put("sub-01/sub-01_T1w.json", json.dumps({"MagneticFieldStrength": 3}))
    t1w.with_name("sub-01_ses-1_T1w.json").write_text("\ufeff" + json.dumps({"EchoTime": 0.003}), encoding="utf-8")
    one = read_raw(tmp_path).sessions[0]
    assert one.sidecars == {"t1w": {"Manufacturer": "A", "MagneticFieldStrength": 3, "EchoTime": 0.003}, "flair": {}}
    put("T1w.json", "[1]")
    with pytest.raises(CohortError, match=r"T1w.json does not hold a JSON object; fix or remove it"):
        read_raw(tmp_path)


@pytest.mark.parametrize(
    ("file", "dialect"),
    [
        ("freesurfer/sub-01_ses-1/mri/aparc+aseg.mgz", "freesurfer"),
        ("freesurfer-7.4/sub-01/ses-1/mri/aseg.mgz", "freesurfer"),
        ("fastsurfer/sub-01_ses-1/mri/aparc.DKTatlas+aseg.deep.mgz", "fastsurfer"),
        ("synthseg/sub-01_ses-1/mri/synthseg.mgz", "synthseg"),
        ("samseg/sub-01_ses-1/seg.mgz", "samseg"),
        ("mine/sub-01/ses-1/anat/sub-01_ses-1_seg-samseg_dseg.nii.gz", "samseg"),
        ("mine/sub-01/ses-1/anat/sub-01_ses-1_space-MNI152NLin2009cAsym_seg-samseg_dseg.nii.gz", ""),
        ("mine/sub-01/ses-1/anat/sub-01_ses-1_seg-unknown_dseg.nii.gz", ""),
    ],
)
def test_label_map_of_another_program(put: Put, pair: Put, tmp_path: Path, file: str, dialect: str) -> None:
    pair("sub-01", "ses-1")
    path = put(f"derivatives/{file}")
    one = read_raw(tmp_path).sessions[0]
    assert (one.labels, one.dialect) == ((path, dialect) if dialect else (None, ""))


def test_a_label_map_with_its_own_table_is_used_and_one_without_is_told(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01")
    pair("sub-02")
    for name in ("sub-01", "sub-02"):
        path = put(f"derivatives/mine/{name}/anat/{name}_seg-mine_dseg.nii.gz")
    dataset = read_raw(tmp_path)
    assert [one.labels for one in dataset.sessions] == [None, None]
    assert dataset.remarks[-1].startswith(
        "label maps that are not used: 2, as sub-01_seg-mine_dseg.nii.gz: nothing says what its ids"
    )
    assert "--dialect" in dataset.remarks[-1]
    table = put("derivatives/mine/sub-02/anat/sub-02_seg-mine_dseg.tsv")
    dataset = read_raw(tmp_path)
    assert (dataset.sessions[1].labels, dataset.sessions[1].dialect) == (path, str(table))
    own = put("mine.tsv")
    dataset = read_raw(tmp_path, str(own))
    assert [one.dialect for one in dataset.sessions] == [str(own), str(table)]
    assert dataset.remarks == ()
    wanted = put("derivatives/samseg/sub-02/seg.mgz")
    dataset = read_raw(tmp_path)
    assert (dataset.sessions[1].labels, dataset.sessions[1].dialect) == (wanted, "samseg")
    assert dataset.remarks[-1] == "label maps that are not used: 1, as sub-02_seg-mine_dseg.nii.gz: another label map is taken"


def test_label_maps_of_two_programs_need_a_choice(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01")
    put("derivatives/freesurfer/sub-01/mri/aparc+aseg.mgz")
    put("derivatives/freesurfer/sub-01/mri/aseg.mgz")
    wanted = put("derivatives/samseg/sub-01/seg.mgz")
    told = r"sub-01 has several label maps \(.*aparc\+aseg.mgz, .*seg.mgz\); name the program to take, or keep one"
    with pytest.raises(CohortError, match=told):
        read_raw(tmp_path)
    assert read_raw(tmp_path, "samseg").sessions[0].labels == wanted
    with pytest.raises(CohortError, match=r"label maps of .fsl. are not known; known are freesurfer, fastsurfer"):
        read_raw(tmp_path, "fsl")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("sub-01/anat/sub-02_T1w.nii.gz", r"sub-02_T1w.nii.gz does not start with sub-01_; move or rename it"),
        ("sub-01/anat/sub-01_ses-1_T1w.nii.gz", r"does not start with sub-01_; move or rename it"),
        ("sub-01/anat/sub-01_acq_mprage_T1w.nii.gz", r"'acq' is not a BIDS entity such as ses-1 or run-2; rename the file"),
        ("sub-01/T1w.nii.gz", r"holds no session with T1w and FLAIR \(1 without, as sub-01: no T1w\); expected is sub-X"),
        ("other/T1w.nii.gz", r"holds no session with T1w and FLAIR; expected is sub-X"),
    ],
)
def test_dataset_at_fault_is_named(put: Put, tmp_path: Path, file: str, told: str) -> None:
    put(file)
    with pytest.raises(CohortError, match=told):
        read_raw(tmp_path)


def test_participants_without_their_column_are_refused_before_anything_is_prepared(put: Put, pair: Put, tmp_path: Path) -> None:
    pair("sub-01/anat/sub-01")
    put("participants.tsv", "Participant_ID\tage\nsub-01\t40\n")
    with pytest.raises(CohortError, match=r"no column 'participant_id' \(did you mean 'Participant_ID'\?\)"):
        read_raw(tmp_path)


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"gone is not a folder; give the root of a BIDS dataset"):
        read_raw(tmp_path / "gone")


FOREIGN = [
    ("sub-01_T1w.nii.gz", {"sub": "01"}),
    ("sub-01_ses-1_acq-mprage_run-02_T1w.nii.gz", {"sub": "01", "ses": "1", "acq": "mprage", "run": "02"}),
    (
        "sub-ctrl07_ses-20200110_acq-3D_ce-gadolinium_rec-norm_run-1_FLAIR.nii.gz",
        {"sub": "ctrl07", "ses": "20200110", "acq": "3D", "ce": "gadolinium", "rec": "norm", "run": "1"},
    ),
    ("sub-01_ses-pre_part-mag_T1w.nii", {"sub": "01", "ses": "pre", "part": "mag"}),
    (
        "sub-01_ses-1_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz",
        {"sub": "01", "ses": "1", "space": "MNI152NLin2009aSym", "desc": "preproc"},
    ),
    ("sub-01_echo-2_inv-1_mt-on_T1w.json", {"sub": "01", "echo": "2", "inv": "1", "mt": "on"}),
    (
        "sub-A1B2_ses-00_task-rest_dir-AP_run-003_bold.nii.gz",
        {"sub": "A1B2", "ses": "00", "task": "rest", "dir": "AP", "run": "003"},
    ),
    ("sub-01_ses-1_acq-tse_chunk-2_T2w.nii.gz", {"sub": "01", "ses": "1", "acq": "tse", "chunk": "2"}),
]
"""What the entity parser of bids2table 2.3.1 (on bidsschematools 2.0.1) makes of these names."""


@pytest.mark.parametrize(("name", "entities"), FOREIGN)
def test_names_are_understood_as_by_bids2table(name: str, entities: dict[str, str]) -> None:
    assert parse_name(Path(name)) == entities


@pytest.mark.skipif(not REAL.is_dir(), reason="the three real sessions are not on this machine")
def test_real_dataset() -> None:
    assert names(read_raw(REAL)) == ["sub-01/ses-1", "sub-01/ses-2", "sub-03/ses-2"]
