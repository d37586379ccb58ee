"""Synthetic cohorts: layout, repeatability, and the planted truth."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.phantoms import write as phantoms
from datamodules.phantoms.anatomy import TISSUES, build_anatomy, phantom_grid
from datamodules.phantoms.effects import EDSS_SHARES, best_distance, change, class_distance
from datamodules.phantoms.levels import signed_distance
from datamodules.phantoms.patients import draw_patients, generator
from datamodules.phantoms.presets import STRUCTURES, PhantomPreset
from datamodules.phantoms.scan import render_scan
from datamodules.phantoms.write import PRESETS, PhantomError, PhantomOptions, get_preset, write_phantom_cohort
from regions.catalog import get_region

SMALL = PhantomOptions("literature", patients=4, scans=5, spacing_mm=6.0, seed=0)


def digest(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def cohens_d(values: np.ndarray, is_high: np.ndarray) -> float:
    """Return the difference of the classes' means over the pooled standard deviation within them."""
    low, high = values[~is_high], values[is_high]
    within = (len(low) * low.var() + len(high) * high.var()) / len(values)
    return float((high.mean() - low.mean()) / np.sqrt(within))


def region_d(preset: str, region: str, patients: int = 40) -> float:
    """Return the d of a region's volume, measured in freshly drawn label maps."""
    options = PhantomOptions(preset, patients=patients, scans=patients, spacing_mm=5.0)
    anatomy = build_anatomy(options.spacing_mm)
    volumes, is_high = [], []
    for patient in draw_patients(options):
        scan = patient.scans[0]
        rngs = generator(options, patient.number, purpose=1), generator(options, patient.number, 1, 1)
        images = render_scan(anatomy, options.truth, patient, scan, *rngs)
        volumes.append(get_region(region).select(images.labels).sum())
        is_high.append(scan.edss is not None and scan.edss >= 3.0)
    return cohens_d(np.array(volumes, float), np.array(is_high))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write one small cohort for all tests that only read."""
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms") / "cohort", SMALL)


def scans_of(cohort: Path) -> list[Path]:
    """Return the anat folders of a cohort."""
    return sorted((cohort / "derivatives" / "phantom").glob("sub-*/ses-*/anat"))


def volume(anat: Path, ending: str) -> nib.Nifti1Image:
    """Return the image of a scan whose name ends in ..."""
    (path,) = anat.glob(f"*_space-MNI152NLin2009aSym_{ending}.nii.gz")
    return nib.Nifti1Image.from_filename(path)


def test_tables_have_the_bids_columns(cohort: Path) -> None:
    people = rows_of(cohort / "participants.tsv")
    assert list(people[0]) == ["participant_id", "age", "sex", "site"]
    assert [row["participant_id"] for row in people] == ["sub-0001", "sub-0002", "sub-0003", "sub-0004"]
    edss = rows_of(cohort / "phenotype" / "edss.tsv")
    assert list(edss[0]) == ["participant_id", "session_id", "edss", "edss_date"]
    assert len(edss) == 5
    assert {float(row["edss"]) for row in edss} <= set(EDSS_SHARES)
    sessions = rows_of(cohort / "sub-0001" / "sub-0001_sessions.tsv")
    assert list(sessions[0]) == ["session_id", "acq_time"]


def test_the_edss_is_dated_within_half_a_year_after_its_scan(cohort: Path) -> None:
    for row in rows_of(cohort / "phenotype" / "edss.tsv"):
        patient = row["participant_id"]
        sessions = rows_of(cohort / patient / f"{patient}_sessions.tsv")
        (taken,) = [one["acq_time"] for one in sessions if one["session_id"] == row["session_id"]]
        assert 0 <= (date.fromisoformat(row["edss_date"]) - date.fromisoformat(taken[:10])).days <= 183


def test_each_scan_has_four_images_on_one_grid_with_unequal_sides(cohort: Path) -> None:
    scans = scans_of(cohort)
    assert len(scans) == 5
    for anat in scans:
        images = [volume(anat, e) for e in ("desc-preproc_T1w", "desc-preproc_FLAIR", "desc-brain_mask", "seg-freesurfer_dseg")]
        assert len(set(images[0].shape)) == 3
        for image in images:
            assert image.shape == images[0].shape
            np.testing.assert_array_equal(image.affine, images[0].affine)
            assert nib.orientations.aff2axcodes(image.affine) == ("R", "A", "S")


def test_images_are_exactly_zero_outside_the_brain_and_positive_inside(cohort: Path) -> None:
    for anat in scans_of(cohort):
        mask = np.asarray(volume(anat, "desc-brain_mask").dataobj).astype(bool)
        for ending in ("desc-preproc_T1w", "desc-preproc_FLAIR", "seg-freesurfer_dseg"):
            np.testing.assert_array_equal(np.asarray(volume(anat, ending).dataobj) > 0, mask)


def test_contrasts_are_those_of_t1w_and_flair(cohort: Path) -> None:
    anat = scans_of(cohort)[0]
    labels = np.asarray(volume(anat, "seg-freesurfer_dseg").dataobj)
    white, gray, fluid = (np.isin(labels, ids) for ids in ((2, 41), (10, 49, 12, 51), (4, 43)))
    t1, flair = (np.asarray(volume(anat, f"desc-preproc_{name}").dataobj) for name in ("T1w", "FLAIR"))
    assert t1[white].mean() > t1[gray].mean() > t1[fluid].mean()
    assert flair[gray].mean() / flair[white].mean() > t1[gray].mean() / t1[white].mean()
    assert flair[white].mean() > flair[fluid].mean()


def test_sidecars_name_the_scanner_and_nobody(cohort: Path) -> None:
    (path,) = scans_of(cohort)[0].glob("*_T1w.json")
    sidecar = json.loads(path.read_text())
    assert sidecar["MagneticFieldStrength"] in (1.5, 3.0)
    assert sidecar["Manufacturer"] == "Vendor A"
    assert not {"InstitutionName", "PatientName", "PatientID", "PatientBirthDate"} & set(sidecar)


def test_the_dataset_description_says_how_to_make_the_cohort_again(cohort: Path) -> None:
    made = json.loads((cohort / "dataset_description.json").read_text())["GeneratedBy"][0]
    assert PhantomOptions(**made["Options"]) == SMALL
    assert made["Version"]


def test_equal_options_give_equal_bytes_and_another_seed_does_not(cohort: Path, tmp_path: Path) -> None:
    again = digest(write_phantom_cohort(tmp_path / "again", SMALL))
    assert again == digest(cohort)
    other = digest(write_phantom_cohort(tmp_path / "other", PhantomOptions("literature", 4, 5, 6.0, seed=1)))
    images = [name for name in again if name.endswith(("T1w.nii.gz", "FLAIR.nii.gz"))]
    assert not any(again[name] == other.get(name) for name in images)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(cohort: Path, tmp_path: Path) -> None:
    assert digest(write_phantom_cohort(tmp_path / "two", SMALL, processes=2)) == digest(cohort)


def test_progress_counts_every_scan(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantom_cohort(tmp_path / "c", PhantomOptions(patients=2, scans=3, spacing_mm=8.0), lambda *at: seen.append(at))
    assert seen[-1] == (3, 3)
    assert len(seen) == 2


def test_a_failure_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(phantoms, "_write_nifti", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom_cohort(tmp_path / "cohort", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_current_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_phantom_cohort(Path(), PhantomOptions(patients=1, scans=1, spacing_mm=8))
    assert Path("participants.tsv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_existing_cohort_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(PhantomError, match="exists and is not empty"):
        write_phantom_cohort(tmp_path, SMALL)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_a_misspelt_preset_gets_a_suggestion() -> None:
    with pytest.raises(PhantomError, match=r"'coll-like'.*did you mean 'coll_like'.*null"):
        get_preset("coll-like")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, "at least 1 patient"),
        ({"patients": 10, "scans": 21}, "10 to 20 scans"),
        ({"spacing_mm": 0.5}, "1 to 8 mm, not 0.5 mm"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"unusable": 85}, "0 to 84 patients, not 85"),
    ],
)
def test_options_that_make_no_cohort_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(PhantomError, match=message):
        PhantomOptions(**wrong)


def test_a_preset_with_an_unknown_structure_is_refused() -> None:
    with pytest.raises(PhantomError, match=r"unknown structures \['cerebelum'\]"):
        PhantomPreset("mine", "", {"cerebelum": 1.0})


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_can_be_drawn_in_house_and_outside(preset: str) -> None:
    for external in (False, True):
        assert len(draw_patients(PhantomOptions(preset, 20, 24, external=external))) == 20


def test_the_default_cohort_has_the_shares_of_the_study() -> None:
    patients = draw_patients(PhantomOptions())
    scans = [scan for patient in patients for scan in patient.scans]
    assert (len(patients), len(scans)) == (84, 100)
    edss = np.array([scan.edss for scan in scans], float)
    assert set(edss) <= set(EDSS_SHARES)
    assert 0.22 <= (edss >= 3.0).mean() <= 0.38
    assert np.median(edss) == 2.0
    changed = [one.scans for one in patients if len(one.scans) == 2 and len({(s.edss or 0) >= 3 for s in one.scans}) == 2]
    assert len(changed) <= 5


def test_drawn_people_have_the_age_and_sex_of_the_literature() -> None:
    people = draw_patients(PhantomOptions("literature", 2000, 2000))
    age, edss = (np.array(v, float) for v in zip(*[(one.age, one.scans[0].edss) for one in people], strict=True))
    assert age.mean() == pytest.approx(38, abs=1)
    assert age.std() == pytest.approx(10, abs=1)
    assert np.corrcoef(age, edss)[0, 1] == pytest.approx(0.35, abs=0.06)
    assert np.mean([one.sex == "F" for one in people]) == pytest.approx(0.7, abs=0.04)
    atrophy = np.array([one.scans[0].shape["subcortical"] for one in people])
    assert np.corrcoef(age, atrophy)[0, 1] == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize("preset", ["literature", "single_region:brainstem", "null"])
def test_planted_changes_have_the_stated_d(preset: str) -> None:
    people = draw_patients(PhantomOptions(preset, 4000, 4000))
    is_high = np.array([(one.scans[0].edss or 0) >= 3.0 for one in people])
    wanted = get_preset(preset).shape_effects
    for structure in STRUCTURES:
        found = cohens_d(np.array([one.scans[0].shape[structure] for one in people]), is_high)
        assert found == pytest.approx(wanted.get(structure, 0.0), abs=0.12), structure


def test_age_says_nothing_where_one_region_carries_all() -> None:
    people = draw_patients(PhantomOptions("single_region:ventricles", 4000, 4000))
    is_high = np.array([(one.scans[0].edss or 0) >= 3.0 for one in people])
    assert abs(cohens_d(np.array([one.age for one in people], float), is_high)) < 0.12


def test_a_second_scan_is_alike() -> None:
    pairs = [one.scans for one in draw_patients(PhantomOptions("literature", 1000, 2000))]
    first, second = (np.array([pair[place].shape["cortex"] for pair in pairs]) for place in (0, 1))
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.9, abs=0.04)
    years = [(pair[1].taken - pair[0].taken).days / 365 for pair in pairs]
    assert 0.8 < min(years) < max(years) < 1.25


def test_site_confounding_links_class_and_field_strength() -> None:
    people = draw_patients(PhantomOptions("site_confounded", 500, 500))
    rows = [((one.scans[0].edss or 0) >= 3.0, one.scans[0].scanner.field_t == 3.0) for one in people]
    high = np.mean([field for positive, field in rows if positive])
    low = np.mean([field for positive, field in rows if not positive])
    assert high - low > 0.4


def test_an_external_cohort_has_other_people_sites_and_vendors() -> None:
    people = draw_patients(PhantomOptions("literature", 60, 60, external=True))
    assert people[0].label == "E0001"
    assert {one.site for one in people} == {f"site-0{number}" for number in range(1, 6)}
    assert "Vendor A" not in {one.scans[0].scanner.manufacturer for one in people}
    assert len({one.scans[0].scanner.gamma for one in people}) > 5


def test_unusable_patients_have_no_edss_or_a_late_one() -> None:
    assert all(s.edss is not None for one in draw_patients(PhantomOptions()) for s in one.scans)
    scans = [s for one in draw_patients(PhantomOptions(patients=10, scans=10, unusable=4)) for s in one.scans]
    assert sum(scan.edss is None for scan in scans) == 2
    assert sum((scan.edss_date - scan.taken.date()).days > 183 for scan in scans) == 2


def test_an_effect_beyond_severity_itself_is_refused() -> None:
    with pytest.raises(PhantomError, match="must lie between 0 and"):
        change(get_preset("literature"), 3.0, 0.0, 0.0)


def test_the_best_distance_of_one_effect_is_that_effect() -> None:
    assert best_distance(PhantomPreset("one", "", {"cortex": 0.8})) == pytest.approx(0.8)
    assert best_distance(get_preset("null")) == 0
    assert best_distance(get_preset("coll_like")) == pytest.approx(1.6, abs=0.1)
    outside = get_preset("coll_like").scaled(get_preset("coll_like").external_share)
    assert best_distance(outside) == pytest.approx(1.1, abs=0.1)


def test_class_distance_of_a_smooth_spectrum() -> None:
    apart, inside = class_distance(get_preset("single_region:ventricles"))
    assert apart == pytest.approx(0.34769 / 0.21 + 0.5, abs=1e-4)  # normal density at the cut / (.3 x .7), and the gap
    assert inside == pytest.approx(1 - 0.34769**2 / 0.21, abs=1e-4)


def test_signed_distance_of_a_box_is_exact_near_it() -> None:
    inside = np.zeros((20, 22, 24), bool)
    inside[8:12, 6:14, 5:19] = True
    distance = signed_distance(inside)
    assert distance[8, 10, 12] == -0.5
    assert distance[9, 10, 12] == -1.5
    assert distance[14, 10, 12] == 2.5
    assert distance[14, 17, 12] == pytest.approx(5 - 0.5)
    assert distance[0, 10, 12] == 7.5
    assert distance[0, 21, 0] == 8


@pytest.mark.parametrize("spacing", [3.0, 4.5, 7.0])
def test_the_grid_is_centred_on_the_midline_with_unequal_sides(spacing: float) -> None:
    grid = phantom_grid(spacing)
    assert len(set(grid.shape)) == 3
    assert grid.shape[0] % 2 == 1
    assert grid.origin[0] == -spacing * (grid.shape[0] // 2)
    np.testing.assert_allclose(np.array(grid.origin) % spacing, 0, atol=1e-9)


def test_the_undeformed_phantom_has_the_volumes_of_the_template() -> None:
    from datamodules.phantoms.levels import memberships
    from regions.atlas import load_template

    anatomy = build_anatomy(5.0)
    rows = anatomy.levels[anatomy.active.ravel()][:, : len(TISSUES)]
    share = memberships(np.ascontiguousarray(rows.T), anatomy.width)
    np.testing.assert_allclose(share.sum(axis=0), 1, rtol=1e-5)
    labels, _ = load_template()
    for place, tissue in enumerate(TISSUES[1:], start=1):
        if tissue.name != "csf":
            assert share[place].sum() * 5**3 == pytest.approx(np.isin(labels, tissue.labels).sum(), rel=0.1), tissue.name


def test_one_region_carries_the_effect_and_another_does_not() -> None:
    assert region_d("single_region:ventricles", "ventricles") > 2
    assert abs(region_d("single_region:ventricles", "brainstem")) < 0.8
    assert region_d("single_region:brainstem", "brainstem") < -1.2


def test_null_changes_no_volume() -> None:
    for region in ("ventricles", "brainstem", "white_matter"):
        assert abs(region_d("null", region)) < 0.8, region
