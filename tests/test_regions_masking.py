"""KeepRegion on small subjects in template space."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio

from regions import KeepRegion
from regions.atlas import EmptyRegionError, Grid, SpaceError, region_mask, template_on
from regions.catalog import REGIONS, Region, UnknownRegionError
from regions.masking import MODES, MissingLabelMapError

SHAPE = (40, 46, 38)
AFFINE = np.array([[4.0, 0, 0, -78], [0, 4, 0, -110], [0, 0, 4, -72], [0, 0, 0, 1]])
SCANS = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "mni"


@pytest.fixture
def subject() -> tio.Subject:
    """Two images without a single 0, one of two channels, and the template's labels turned upside down."""
    rng = np.random.default_rng(0)
    t1 = torch.from_numpy(rng.normal(5, 1, (1, *SHAPE)).astype(np.float32))
    flair = torch.from_numpy(rng.normal(-5, 1, (2, *SHAPE)).astype(np.float32))
    flair[:, 0, 0, 0] = float("nan")
    labels = torch.from_numpy(template_on(Grid.of(SHAPE, AFFINE))[:, :, ::-1].copy())[None]
    return tio.Subject(
        t1=tio.ScalarImage(tensor=t1, affine=AFFINE),
        flair=tio.ScalarImage(tensor=flair, affine=AFFINE),
        labels=tio.LabelMap(tensor=labels, affine=AFFINE),
        age=40,
    )


def assert_kept(before: tio.Subject, after: tio.Subject, mask: np.ndarray) -> None:
    """Every intensity image is exactly 0 outside the mask and unchanged, bit for bit, inside."""
    inside = torch.from_numpy(mask.copy())
    for name in ("t1", "flair"):
        assert torch.equal(after[name].data[:, inside], before[name].data[:, inside])
        outside = after[name].data[:, ~inside]
        assert torch.equal(outside, torch.zeros_like(outside))
        assert not torch.signbit(outside).any()
        assert after[name].data.dtype == before[name].data.dtype


@pytest.mark.parametrize("name", REGIONS)
def test_template_mode_keeps_the_templates_region(subject: tio.Subject, name: str) -> None:
    after = KeepRegion(name)(subject)
    assert_kept(subject, after, region_mask(REGIONS[name], Grid.of(SHAPE, AFFINE)))
    assert torch.equal(after["labels"].data, subject["labels"].data)
    assert after["age"] == 40


def test_dilated_mode_keeps_the_grown_region(subject: tio.Subject) -> None:
    after = KeepRegion("ventricles", "template-dilated", dilate_mm=8.0)(subject)
    mask = region_mask(REGIONS["ventricles"], Grid.of(SHAPE, AFFINE), 8.0)
    assert mask.sum() > region_mask(REGIONS["ventricles"], Grid.of(SHAPE, AFFINE)).sum()
    assert_kept(subject, after, mask)


@pytest.mark.parametrize("name", REGIONS)
def test_subject_mode_keeps_the_subjects_own_region(subject: tio.Subject, name: str) -> None:
    after = KeepRegion(name, "subject")(subject)
    mask = REGIONS[name].select(subject["labels"].data[0].numpy())
    assert not np.array_equal(mask, region_mask(REGIONS[name], Grid.of(SHAPE, AFFINE)))
    assert_kept(subject, after, mask)


def test_two_subjects_never_share_a_mask(subject: tio.Subject) -> None:
    other = copy.deepcopy(subject)
    other["labels"].set_data(subject["labels"].data.flip(2))
    keep = KeepRegion("brainstem", "subject")
    assert_kept(subject, keep(subject), REGIONS["brainstem"].select(subject["labels"].data[0].numpy()))
    assert_kept(other, keep(other), REGIONS["brainstem"].select(other["labels"].data[0].numpy()))


def test_the_input_is_left_alone(subject: tio.Subject) -> None:
    before = subject["t1"].data.clone()
    KeepRegion("brainstem")(subject)
    assert torch.equal(subject["t1"].data, before)


@pytest.mark.parametrize("mode", MODES)
def test_history_replays_the_same_step(subject: tio.Subject, mode: str) -> None:
    own = Region("deep", (10, 49), "thalamus", "test")
    after = KeepRegion(own, mode, dilate_mm=5.0, tolerance_mm=0.2, exclude=["flair"])(subject)
    (step,) = after.get_applied_transforms()
    assert isinstance(step, KeepRegion)
    assert (step.region, step.mode, step.dilate_mm, step.tolerance_mm) == (own, mode, 5.0, 0.2)
    replayed = after.get_composed_history()(subject)
    for name in ("t1", "flair", "labels"):
        assert torch.equal(replayed[name].data.nan_to_num(), after[name].data.nan_to_num())
    assert (after["t1"].data == 0).any()
    assert not (after["flair"].data == 0).any()


@pytest.mark.parametrize("mode", MODES)
def test_copies_and_pickles_do_the_same(subject: tio.Subject, mode: str) -> None:
    keep = KeepRegion("brainstem", mode)
    expected = keep(subject)["t1"].data
    for twin in (copy.deepcopy(keep), pickle.loads(pickle.dumps(keep))):
        assert torch.equal(twin(subject)["t1"].data, expected)


def test_it_works_inside_a_pipeline_after_augmentation(subject: tio.Subject) -> None:
    pipeline = tio.Compose([tio.RandomNoise(std=(1, 1)), KeepRegion("brainstem")])
    after = pipeline(subject)
    mask = torch.from_numpy(region_mask(REGIONS["brainstem"], Grid.of(SHAPE, AFFINE)).copy())
    assert not after["t1"].data[:, ~mask].any()
    assert after["t1"].data[:, mask].all()


def test_an_unknown_region_is_refused_at_once() -> None:
    with pytest.raises(UnknownRegionError, match="did you mean 'gray_matter'"):
        KeepRegion("grey_matter")


def test_an_unknown_mode_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"Unknown mode 'atlas' of KeepRegion\. Use template, subject, template-dilated"):
        KeepRegion("brainstem", "atlas")


@pytest.mark.parametrize("wrong", [{"dilate_mm": -1.0}, {"tolerance_mm": -0.1}])
def test_negative_distances_are_refused_at_once(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are 0 mm or more"):
        KeepRegion("brainstem", **wrong)  # type: ignore[arg-type]


def test_a_subject_without_intensity_images_is_refused(subject: tio.Subject) -> None:
    with pytest.raises(ValueError, match="found no intensity image"):
        KeepRegion("brainstem")(tio.Subject(labels=subject["labels"]))


def test_an_absent_label_map_is_refused_with_those_there_are(subject: tio.Subject) -> None:
    with pytest.raises(MissingLabelMapError, match="no label map 'dseg'; its label maps: labels"):
        KeepRegion("brainstem", "subject", labels_key="dseg")(subject)
    with pytest.raises(MissingLabelMapError, match="no label map 't1'"):
        KeepRegion("brainstem", "subject", labels_key="t1")(subject)


def test_a_label_map_without_the_region_is_refused_with_its_labels(subject: tio.Subject) -> None:
    labels = subject["labels"].data
    subject["labels"].set_data(torch.where(labels == 3, 3, 0))
    with pytest.raises(EmptyRegionError, match=r"no voxel of region 'brainstem' \(labels 16, 170.*it has 0, 3\."):
        KeepRegion("brainstem", "subject")(subject)


def test_a_label_map_in_another_scheme_is_refused(subject: tio.Subject) -> None:
    subject["labels"].set_data(subject["labels"].data.int() + 1000)
    with pytest.raises(ValueError, match=r"ids from 1000 to 1063; .* Apply regions.labels.to_scheme first"):
        KeepRegion("brainstem", "subject")(subject)


def test_a_mirrored_label_map_of_equal_shape_is_refused(subject: tio.Subject) -> None:
    mirrored = AFFINE.copy()
    mirrored[0] = [-4, 0, 0, 78]
    subject["labels"].affine = mirrored
    with pytest.raises(SpaceError, match=r"image 't1' and label map 'labels' lie up to 160.00 mm apart"):
        KeepRegion("brainstem", "subject")(subject)


def test_a_shift_is_refused_above_the_tolerance_only(subject: tio.Subject) -> None:
    shifted = AFFINE.copy()
    shifted[1, 3] += 0.3
    subject["labels"].affine = shifted
    with pytest.raises(SpaceError, match=r"up to 0.30 mm apart, 0.1 mm are allowed"):
        KeepRegion("brainstem", "subject")(subject)
    assert KeepRegion("brainstem", "subject", tolerance_mm=0.5)(subject)["t1"].data.any()


def test_images_on_different_grids_are_refused(subject: tio.Subject) -> None:
    subject["flair"] = tio.ScalarImage(tensor=torch.ones(1, 40, 46, 37), affine=AFFINE)
    with pytest.raises(SpaceError, match=r"'t1' has shape \(40, 46, 38\), image 'flair' \(40, 46, 37\)"):
        KeepRegion("brainstem")(subject)


def test_an_image_that_is_not_ras_is_refused_in_template_mode(subject: tio.Subject) -> None:
    mirrored = AFFINE.copy()
    mirrored[0] = [-4, 0, 0, 78]
    flipped = tio.Subject(t1=tio.ScalarImage(tensor=subject["t1"].data, affine=mirrored))
    with pytest.raises(SpaceError, match="Image 't1': The image is stored as LAS, not RAS"):
        KeepRegion("brainstem")(flipped)


def test_an_image_elsewhere_is_refused_in_template_mode(subject: tio.Subject) -> None:
    far = AFFINE.copy()
    far[2, 3] = 40
    moved = tio.Subject(t1=tio.ScalarImage(tensor=subject["t1"].data, affine=far))
    with pytest.raises(EmptyRegionError, match="Image 't1': Region 'brainstem' lies outside the volume"):
        KeepRegion("brainstem")(moved)


def test_an_image_that_covers_little_of_the_region_is_warned_about(subject: tio.Subject) -> None:
    cut = AFFINE.copy()
    cut[2, 3] = -30
    moved = tio.Subject(t1=tio.ScalarImage(tensor=subject["t1"].data, affine=cut))
    with pytest.warns(UserWarning, match=r"Image 't1' covers \d+% of region 'brainstem' only"):
        KeepRegion("brainstem")(moved)


def test_an_image_of_zeros_in_the_region_is_refused(subject: tio.Subject) -> None:
    mask = torch.from_numpy(region_mask(REGIONS["brainstem"], Grid.of(SHAPE, AFFINE)).copy())
    subject["t1"].data[:, mask] = 0
    with pytest.raises(EmptyRegionError, match="Image 't1' is 0 everywhere in region 'brainstem'"):
        KeepRegion("brainstem")(subject)


@pytest.mark.skipif(not SCANS.is_dir(), reason="the Ljubljana scans are not beside this checkout")
def test_real_scans_are_masked_after_to_canonical() -> None:
    folder = SCANS / "sub-07" / "anat"
    scan = tio.Subject(
        t1=tio.ScalarImage(folder / "sub-07_space-MNI152_desc-brain_T1w.nii.gz"),
        flair=tio.ScalarImage(folder / "sub-07_space-MNI152_desc-brain_FLAIR.nii.gz"),
    )
    scan.load()
    with pytest.raises(SpaceError, match="stored as LAS"):
        KeepRegion("brainstem")(scan)
    scan = tio.ToCanonical()(scan)
    for name in ("brainstem", "white_matter"):
        after = KeepRegion(name)(scan)
        mask = region_mask(REGIONS[name], Grid.of(after.spatial_shape, after["t1"].affine))
        assert_kept(scan, after, mask)
