"""What is written beside prepared scans, when a scan counts as finished, tables, label maps, SAMSEG's command."""

from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from raw_fixtures import rigid

from datamodules.cohort.bids import ID_TABLES
from datamodules.files.tables import CohortError
from datamodules.files.volumes import ScanError, Volume
from datamodules.intake.raw import RawDataset, RawSession
from datamodules.preparation import brain as brains
from datamodules.preparation.bias import correct_bias
from datamodules.preparation.brain import extract_brain, mask_ml, without_skull
from datamodules.preparation.derivative import OutputPaths, inputs_of, is_finished, key_of, write_image, write_json
from datamodules.preparation.label_maps import find_labels, label_table, prepare_labels
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.registration import Transform
from datamodules.preparation.samseg import check_samseg, run_samseg, samseg_command
from datamodules.preparation.tables import write_tables
from regions.atlas import template_on
from regions.grid import Grid
from regions.labels import read_table

GRID = Grid.of((40, 47, 38), np.array([[5.0, 0, 0, -98], [0, 5, 0, -134], [0, 0, 5, -72], [0, 0, 0, 1]]))


def touch(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def session_in(folder: Path, patient: str = "sub-1", session: str = "ses-1", acquired: date | None = None) -> RawSession:
    anat = folder / patient / session / "anat"
    stem = f"{patient}_{session}" if session else patient
    images = [touch(anat / f"{stem}_{kind}.nii.gz", f"{stem}{kind}") for kind in ("T1w", "FLAIR")]
    return RawSession(patient, session, dict(zip(("t1w", "flair"), images, strict=True)), acquired, {"t1w": {}, "flair": {}})


def test_a_scan_is_finished_only_with_its_key_and_all_its_files(tmp_path: Path) -> None:
    place = OutputPaths(tmp_path, "sub-1", "ses-1")
    assert not is_finished(place, "k")
    path = touch(place.image("desc-preproc_T1w"), "12345")
    write_json(place.qc, {"key": "k", "outputs": {path.name: 5}})
    assert is_finished(place, "k")
    assert not is_finished(place, "other")
    path.write_text("1234")
    assert not is_finished(place, "k")
    path.unlink()
    assert not is_finished(place, "k")
    place.qc.write_text('{"key": "k", "outputs"')
    assert not is_finished(place, "k")
    write_json(place.qc, {"key": "k", "outputs": {}})
    assert not is_finished(place, "k")


def test_the_key_follows_content_settings_and_nothing_else(tmp_path: Path) -> None:
    one = session_in(tmp_path / "a")
    moved = session_in(tmp_path / "b")
    told = PrepareOptions().parameters()
    key = key_of(inputs_of(one), told)
    assert key == key_of(inputs_of(moved), told)
    assert key != key_of(inputs_of(one), PrepareOptions(nonlinear=True).parameters())
    one.images["flair"].write_text("other")
    assert key != key_of(inputs_of(one), told)


def test_clearing_takes_away_one_session_and_leaves_the_others(tmp_path: Path) -> None:
    place, other = OutputPaths(tmp_path, "sub-1", ""), OutputPaths(tmp_path, "sub-1", "ses-1")
    for one in (place, other):
        for path in (one.qc, one.image("desc-preproc_T1w"), one.image("seg-samseg_dseg")):
            touch(path)
    place.clear()
    assert not [path for path in place.anat.rglob("*") if path.is_file()]
    assert len(list(other.anat.iterdir())) == 3


def test_images_are_written_alike_each_time(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.nii.gz", array, GRID)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    image = nib.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), array)
    assert (int(image.header["sform_code"]), nib.aff2axcodes(image.affine)) == (4, ("R", "A", "S"))


def test_json_has_null_where_a_number_is_not_known(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"a": float("nan"), "b": np.float32(0.5), "c": np.eye(2)})
    assert json.loads((tmp_path / "one.json").read_text()) == {"a": None, "b": 0.5, "c": [[1, 0], [0, 1]]}


def test_tables_are_copied_without_what_identifies(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    sessions = (session_in(raw, acquired=date(2020, 3, 1)), session_in(raw, "sub-2", "ses-1", date(2021, 5, 6)))
    touch(raw / "participants.tsv", "participant_id\tage\tname\nsub-1\t40\tMiller\n")
    touch(raw / "phenotype" / "edss.tsv", "participant_id\tedss\tedss_date\nsub-1\t2.5\t2020-03-05\n")
    touch(raw / "sub-1" / "sub-1_sessions.tsv", "session_id\tacq_time\nses-1\t2020-03-01\n")
    touch(
        raw / "sub-2" / "ses-1" / "sub-2_ses-1_scans.tsv",
        "filename\tacq_time\toperator\nanat/sub-2_ses-1_T1w.nii.gz\t2021-05-06\tJo\n",
    )
    remarks = write_tables(RawDataset(raw, sessions), out, PrepareOptions())
    assert (out / "participants.tsv").read_text() == "participant_id\tage\nsub-1\t40\nsub-2\tn/a\n"
    assert (out / "phenotype" / "edss.tsv").read_text() == (raw / "phenotype" / "edss.tsv").read_text()
    assert (out / "sub-1" / "sub-1_sessions.tsv").read_text() == "session_id\tacq_time\nses-1\t2020-03-01\n"
    assert "2021-05-06" in (out / "sub-2" / "ses-1" / "sub-2_ses-1_scans.tsv").read_text()
    assert remarks == (
        "participants.tsv: not copied, as they may identify (--keep NAME copies one): name",
        "participants.tsv: no row for sub-2; added without covariates",
    )
    assert (
        json.loads((out / "derivatives" / "regionwise" / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    )


def test_a_target_of_the_users_own_is_copied_where_it_is_named(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    dataset = RawDataset(raw, (session_in(raw),))
    touch(raw / "participants.tsv", "participant_id\tname\nsub-1\tMiller\n")
    touch(raw / "phenotype" / "NfL.tsv", "participant_id\tNfL\tNfL_date\trater_name\nsub-1\t9.5\t2020-03-05\tJo\n")
    write_tables(dataset, out, PrepareOptions())
    assert (out / "phenotype" / "NfL.tsv").read_text() == "participant_id\nsub-1\n"
    write_tables(dataset, out, PrepareOptions(), keep=["NfL", "NfL_date"])
    assert (out / "phenotype" / "NfL.tsv").read_text() == "participant_id\tNfL\tNfL_date\nsub-1\t9.5\t2020-03-05\n"
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-1\n"
    with pytest.raises(CohortError, match=r"--keep NFL: no table of .*raw has such a column \(did you mean 'NfL'\?\)"):
        write_tables(dataset, out, PrepareOptions(), keep=["NFL"])


def test_patients_that_were_added_before_stay(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("sub-1", "sub-2"):
        write_tables(RawDataset(raw, (session_in(raw, name),)), out, PrepareOptions())
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-1\nsub-2\n"


def test_each_table_that_a_cohort_is_read_from_is_copied(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    touch(raw / "participants.tsv", "participant_id\nsub-1\n")
    for name in ID_TABLES[1:]:
        touch(raw / name, "participant_id\tsession_id\tedss\trelapse_date\nsub-1\tses-1\t2\t2020-01-01\n")
    write_tables(RawDataset(raw, (session_in(raw),)), out, PrepareOptions())
    assert [name for name in ID_TABLES if not (out / name).is_file()] == []


def test_a_table_of_which_nothing_can_be_copied_stops_nothing(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    touch(raw / "phenotype" / "edss.tsv", "participant_id\tedss\nsub-1\t2\n")
    touch(raw / "phenotype" / "notes.tsv", "who\tcomment\nsub-1\tx\n")
    touch(raw / "phenotype" / "relapses.tsv", "participant_id\trelapse_date\n")
    assert write_tables(RawDataset(raw, (session_in(raw),)), out, PrepareOptions()) == (
        "notes.tsv: not copied, no column of it may be kept: who, comment",
        "relapses.tsv: not copied, it has no rows",
    )
    assert [path.name for path in (out / "phenotype").iterdir()] == ["edss.tsv"]


def test_a_dataset_that_is_prepared_in_place_keeps_its_tables(tmp_path: Path) -> None:
    one = session_in(tmp_path)
    path = touch(tmp_path / "participants.tsv", "participant_id\tname\nsub-1\tMiller\n")
    write_tables(RawDataset(tmp_path, (one,)), tmp_path, PrepareOptions())
    assert path.read_text() == "participant_id\tname\nsub-1\tMiller\n"
    assert not (tmp_path / "dataset_description.json").exists()


def test_label_maps_are_found_by_program_and_by_name(tmp_path: Path) -> None:
    assert find_labels(tmp_path, "freesurfer", "sub-1", "ses-1") is None
    plain = touch(tmp_path / "sub-1" / "ses-1" / "anat" / "sub-1_ses-1_seg-x_dseg.nii.gz")
    touch(tmp_path / "sub-1" / "ses-2" / "anat" / "sub-1_ses-2_seg-x_dseg.nii.gz")
    assert find_labels(tmp_path, "freesurfer", "sub-1", "ses-1") == plain
    own = touch(tmp_path / "sub-1_ses-1" / "mri" / "aseg.mgz")
    assert find_labels(tmp_path, "freesurfer", "sub-1", "ses-1") == own
    with pytest.raises(CohortError, match="label dialect 'fresurfer' is not known"):
        find_labels(tmp_path, "fresurfer", "sub-1", "ses-1")
    touch(tmp_path / "sub-1" / "ses-1" / "anat" / "sub-1_ses-1_seg-y_dseg.nii.gz")
    with pytest.raises(CohortError, match="several label maps of sub-1_ses-1"):
        find_labels(tmp_path, "synthseg", "sub-1", "ses-1")


@pytest.mark.parametrize("dialect", ["freesurfer", "fastsurfer", "synthseg", "samseg"])
def test_label_maps_follow_the_scan_and_are_converted_once(tmp_path: Path, dialect: str) -> None:
    truth = template_on(GRID)
    common = np.where(np.isin(truth, [2, 41, 10, 49, 4, 43, 16, 7, 46, 24]), truth, 0)
    moved = rigid((4, 5, 6), (10, -12, 8))
    lesions = common.copy()
    if dialect == "samseg":
        lesions[20:23, 25:28, 20:23] = 99
    nib.save(nib.Nifti1Image(lesions.astype(np.int16), moved @ GRID.matrix), tmp_path / "map.nii.gz")
    brain = Volume(tmp_path / "T1w.nii", (common > 0).astype(np.float32), moved @ GRID.matrix)
    found = prepare_labels(tmp_path / "map.nii.gz", dialect, brain, Transform(moved), GRID, tmp_path)
    expected = np.where(lesions == 99, 77, common)
    assert np.mean(found == expected) > 0.9999
    table = tmp_path / "table.tsv"
    table.write_text(label_table(found))
    assert read_table(table) == {0: 0} | {int(value): int(value) for value in np.unique(found)}


def test_a_label_map_with_ids_of_its_own_is_converted_by_its_table(tmp_path: Path) -> None:
    template = template_on(GRID)
    ids = np.select([template == 10, np.isin(template, [4, 43]), template > 0], [901, 7, 55], 0).astype(np.int16)
    moved = rigid((4, 5, 6), (10, -12, 8))
    nib.save(nib.Nifti1Image(ids, moved @ GRID.matrix), tmp_path / "map.nii.gz")
    own = tmp_path / "own.tsv"
    own.write_text("index\tname\tmapping\tfreesurfer\n901\tLeft-Thalamus\tn/a\tn/a\n7\tmine\tn/a\t4\n55\tmine\t2\tn/a\n")
    brain = Volume(tmp_path / "T1w.nii", (ids > 0).astype(np.float32), moved @ GRID.matrix)
    result = prepare_labels(tmp_path / "map.nii.gz", str(own), brain, Transform(moved), GRID, tmp_path)
    expected = np.select([ids == 901, ids == 7, ids == 55], [10, 4, 186], 0)
    assert np.mean(result == expected) > 0.9999
    assert find_labels(tmp_path, str(own), "map", "") == tmp_path / "map.nii.gz"


def test_the_key_follows_the_content_of_an_own_table(tmp_path: Path) -> None:
    files = [touch(tmp_path / name) for name in ("t1w.nii", "flair.nii", "map.nii", "own.tsv")]
    session = RawSession("sub-1", "", {"t1w": files[0], "flair": files[1]}, None, {}, files[2], str(files[3]))
    before = inputs_of(session)
    assert set(before) == {"t1w", "flair", "labels", "label_table"}
    files[3].write_text("index\tname\n")
    assert inputs_of(session)["label_table"] != before["label_table"]


def test_a_label_map_that_lies_elsewhere_or_is_of_another_program_is_refused(tmp_path: Path) -> None:
    labels = np.where(template_on(GRID) > 0, 2, 0).astype(np.int16)
    brain = Volume(tmp_path / "T1w.nii", (labels > 0).astype(np.float32), rigid((0, 0, 0), (70, 70, 0)) @ GRID.matrix)
    nib.save(nib.Nifti1Image(labels, GRID.matrix), tmp_path / "map.nii.gz")
    with pytest.raises(ScanError, match=r"map\.nii\.gz overlaps the brain of T1w\.nii by Dice 0\.\d\d"):
        prepare_labels(tmp_path / "map.nii.gz", "synthseg", brain, Transform(np.eye(4)), GRID, tmp_path)
    nib.save(nib.Nifti1Image(np.where(labels, 999, 0).astype(np.int16), GRID.matrix), tmp_path / "odd.nii.gz")
    with pytest.raises(ScanError, match=r"odd\.nii\.gz: Label ids that 'synthseg' does not know: 999"):
        prepare_labels(tmp_path / "odd.nii.gz", "synthseg", brain, Transform(np.eye(4)), GRID, tmp_path)


def head(brain: np.ndarray, filled: float = 30.0) -> Volume:
    """A brain in a head: a larger ellipsoid around it that reaches the lower face."""
    from scipy.ndimage import binary_dilation

    wide = binary_dilation(brain, iterations=5)
    wide[:, :, :10] |= wide[:, :, 10:11]
    return Volume(Path("head.nii"), np.where(brain, 100, np.where(wide, filled, 0)).astype(np.float32), GRID.matrix)


def test_a_brain_without_skull_is_told_from_a_head() -> None:
    brain = template_on(GRID) > 0
    alone = Volume(Path("alone.nii"), brain.astype(np.float32), GRID.matrix)
    found = without_skull(alone)
    assert found is not None
    assert (found & brain).sum() == brain.sum()
    assert without_skull(head(brain)) is None
    assert mask_ml(brain, GRID.matrix) == pytest.approx(1857, rel=0.02)


def test_registration_steps_in_when_deepbet_fails_or_gives_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    brain = template_on(GRID) > 0
    monkeypatch.setattr(brains, "registered_mask", lambda t1w: brain)

    def fails(t1w: Volume) -> np.ndarray:
        raise AssertionError("Not enough foreground to calculate bounding box")

    monkeypatch.setattr(brains, "deepbet_mask", fails)
    found = extract_brain(head(brain))
    assert (found.method, found.remark) == ("registration", "deepbet failed (Not enough foreground to calculate bounding box)")
    monkeypatch.setattr(brains, "deepbet_mask", lambda t1w: np.zeros(GRID.shape, bool))
    assert extract_brain(head(brain)).remark == "deepbet gave 0 ml, 500 to 2300 ml are plausible"
    monkeypatch.setattr(brains, "registered_mask", lambda t1w: np.ones(GRID.shape, bool))
    with pytest.raises(ScanError, match=r"head\.nii: no brain was found \(deepbet gave 0 ml"):
        extract_brain(head(brain))
    monkeypatch.setattr(brains, "deepbet_mask", lambda t1w: brain)
    assert extract_brain(head(brain)).method == "deepbet"


def test_a_bias_field_is_taken_out() -> None:
    labels = template_on(GRID)
    tissue = np.where(np.isin(labels, [2, 41]), 110.0, 75.0) + np.random.default_rng(0).normal(0, 3, GRID.shape)
    brain = labels > 0
    slope = np.linspace(0.7, 1.4, GRID.shape[1])[None, :, None]
    corrected, told = correct_bias((tissue * slope * brain).astype(np.float32), GRID.matrix, brain)
    white = np.isin(labels, [2, 41])
    assert told["bias_range"] > 1.3
    assert (
        corrected[white].std() / corrected[white].mean() < 0.06 < (tissue * slope)[white].std() / (tissue * slope)[white].mean()
    )


PRETENDED = """#!/bin/sh
echo "$@" > "$(dirname "$0")/said"
while [ "$1" != --output ]; do shift; done
{action}
"""


def pretend(folder: Path, action: str) -> Path:
    path = touch(folder / "run_samseg", PRETENDED.format(action=action))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_samseg_is_called_by_its_path(tmp_path: Path) -> None:
    program = pretend(tmp_path, 'mkdir -p "$2"; echo labels > "$2/seg.mgz"')
    found = run_samseg(program, Path("t1.nii"), Path("flair.nii"), tmp_path / "out", lesion=True)
    assert found.read_text() == "labels\n"
    said = (tmp_path / "said").read_text().split()
    assert said == samseg_command(program, Path("t1.nii"), Path("flair.nii"), tmp_path / "out", lesion=True)[1:]
    assert said[-4:] == ["--lesion", "--lesion-mask-pattern", "0", "1"]
    assert "--lesion" not in samseg_command(program, Path("a"), Path("b"), Path("c"), lesion=False)


def test_samseg_beside_the_user_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = pretend(tmp_path, 'mkdir -p "$2"; echo labels > "$2/seg.mgz"')
    monkeypatch.chdir(program.parent)
    check_samseg(Path(program.name))
    assert run_samseg(Path(program.name), Path("t1.nii"), Path("f.nii"), tmp_path / "out", lesion=False).is_file()


def test_samseg_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"SAMSEG ended with status 3 and wrote no label map \(no tensorflow\)"):
        run_samseg(pretend(tmp_path, "echo no tensorflow >&2; exit 3"), Path("a"), Path("b"), tmp_path / "out", lesion=False)
    with pytest.raises(ScanError, match="status 0 and wrote no label map"):
        run_samseg(pretend(tmp_path, "exit 0"), Path("a"), Path("b"), tmp_path / "out", lesion=False)
    with pytest.raises(ScanError, match="is not a program"):
        check_samseg(tmp_path / "nothing")
