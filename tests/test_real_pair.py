"""One real session at 3 mm (tests/data/real_pair), from its raw files to regions and the store, in any clone."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.files.volumes import canonical_grid, read_volume
from datamodules.intake.raw import read_raw
from datamodules.preparation.deidentify import HEADER_TEXTS, clean_header
from datamodules.quality.contrast import contrast_order
from datamodules.quality.header import header_numbers
from datamodules.store.boxes import crop_to_box, region_step
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import open_store
from regions.atlas import region_mask, template_dice, template_on
from regions.catalog import REGIONS
from regions.grid import SpaceError
from regions.measure import region_means

PAIR = Path(__file__).parent / "data" / "real_pair"
MNI = PAIR / "mni" / "sub-07" / "anat" / "sub-07_space-MNI152_desc-brain_{}.nii.gz"
NAME = b"DOE^JANE"


COVERED = {
    "global": 0.66, "white_matter": 0.89, "gray_matter": 0.56, "subcortical_gray_matter": 1.0, "ventricles": 1.0,
    "brainstem": 0.66,
}  # fmt: skip
"""Share of each region of the template that this brain covers: it was moved to the template without being scaled."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    folder = tmp_path_factory.mktemp("real")
    table = folder / "real.tsv"
    files = "\t".join(str(MNI).format(suffix) for suffix in ("T1w", "FLAIR"))
    table.write_text(f"patient\tt1w\tflair\tedss\nsub-07\t{files}\t0.5\n", encoding="utf-8")
    return open_store(read_cohort(table, Target(undated="keep")).scans, folder / "store")


def test_the_raw_session_is_read() -> None:
    (session,) = read_raw(PAIR / "raw").sessions
    assert (session.patient, session.session) == ("sub-01", "ses-1")
    t1w, flair = (read_volume(session.t1w), read_volume(session.images["flair"]))
    assert (t1w.array.shape, flair.array.shape) == ((80, 80, 39), (80, 80, 36))
    spacings = [np.linalg.norm(volume.affine[:3, :3], axis=0) for volume in (t1w, flair)]
    assert np.allclose(spacings, [(2.875, 2.875, 3.0), (2.875, 2.875, 4.0)], atol=0.001)
    assert t1w.array.min() >= 0 < t1w.array.std()


@pytest.mark.parametrize("suffix", ["T1w", "FLAIR"])
def test_an_oblique_raw_scan_is_not_taken_for_a_prepared_one(suffix: str) -> None:
    path = next((PAIR / "raw").rglob(f"*_{suffix}.nii.gz"))
    assert nib.aff2axcodes(nib.load(path).affine) == ("L", "P", "S")
    with pytest.raises(SpaceError, match=r"oblique: .*regionwise prepare"):
        canonical_grid(path)


def test_a_left_handed_scan_is_turned_to_ras_and_keeps_its_place() -> None:
    path = Path(str(MNI).format("T1w"))
    stored = nib.load(path)
    assert nib.aff2axcodes(stored.affine) == ("L", "A", "S")
    turned = nib.as_closest_canonical(stored)
    grid = canonical_grid(path)
    assert grid.shape == turned.shape == (60, 72, 60)
    assert np.allclose(grid.matrix, turned.affine)


def test_its_headers_say_where_left_is_and_nothing_about_a_patient() -> None:
    for path in sorted(PAIR.rglob("*.nii.gz")):
        image = nib.load(path)
        facts = header_numbers(image)
        assert (facts["left_right_known"], facts["left_right_contradiction"]) == (1, 0)
        assert facts["sform_qform_mm"] < 0.01
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) > 0
        assert np.allclose(image.header.get_sform(), image.header.get_qform(), atol=1e-3)
        assert all(not bytes(image.header[field]).strip(b"\0") for field in HEADER_TEXTS if field in image.header)
        assert list(image.header.extensions) == []


def test_a_name_in_a_real_header_is_gone_after_cleaning(tmp_path: Path) -> None:
    path = next((PAIR / "raw").rglob("*_T1w.nii.gz"))
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    for field in HEADER_TEXTS:
        if field in image.header:
            image.header[field] = NAME[: image.header[field].dtype.itemsize]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME))
    assert NAME in image.to_bytes()
    before = np.asarray(image.dataobj).copy()
    clean_header(image.header)
    assert b"DOE" not in image.to_bytes()
    again = nib.Nifti1Image.from_bytes(image.to_bytes())
    assert np.array_equal(np.asarray(again.dataobj), before)
    assert np.array_equal(again.affine, image.affine)


def test_how_much_of_each_region_this_brain_covers_and_tissues_look_like_tissues(prepared: PreparedCohort) -> None:
    grid, image = prepared.grid, np.asarray(prepared.image(0), dtype=np.float32)
    brain = (image != 0).any(axis=0)
    assert grid.spacing == (3.0, 3.0, 3.0)
    assert 0.7 < template_dice(brain, grid) < 0.8
    for region in REGIONS.values():
        mask = region_mask(region, grid)
        assert (mask & brain).sum() / mask.sum() == pytest.approx(COVERED[region.name], abs=0.01)
    t1w = region_means(image[0], template_on(grid), REGIONS.values())
    assert t1w["white_matter"] > t1w["gray_matter"] > t1w["ventricles"]


def test_the_t1w_is_a_t1w_and_a_swapped_pair_is_seen(prepared: PreparedCohort) -> None:
    image = np.asarray(prepared.image(0), dtype=np.float32)
    brain = (image != 0).any(axis=0)
    right, swapped = (contrast_order(*pair, brain, prepared.grid) for pair in ((image[0], image[1]), (image[1], image[0])))
    assert right > 0 > swapped


def test_the_store_normalises_the_scan_and_every_box_holds_it(prepared: PreparedCohort) -> None:
    image = np.asarray(prepared.image(0), dtype=np.float64)
    source = nib.as_closest_canonical(nib.load(str(MNI).format("T1w"))).get_fdata()
    inside = source[source != 0]
    voxel = np.argwhere(source == inside.max())[0]
    world = nib.as_closest_canonical(nib.load(str(MNI).format("T1w"))).affine @ [*voxel, 1]
    at = tuple(np.rint((world[:3] - prepared.grid.origin) / 3).astype(int))
    assert image[(0, *at)] == pytest.approx((inside.max() - inside.mean()) / inside.std(), abs=0.02)
    for region in REGIONS.values():
        mask, box = region_step(region, prepared.grid, "template", 3.0, 8)
        crop = np.asarray(prepared.crop(0, box))
        assert crop.shape == (2, *box.shape)
        shown = crop_to_box((image[0] != 0) & (mask if mask is not None else image[0] != 0), box)
        assert np.array_equal(crop[0][shown], np.asarray(crop_to_box(image[0], box), dtype=crop.dtype)[shown])
        assert shown.sum() == ((image[0] != 0) & (mask if mask is not None else image[0] != 0)).sum()


def test_a_session_without_its_flair_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(PAIR / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_FLAIR.nii.gz").unlink()
    with pytest.raises(ValueError, match="sub-01"):
        read_raw(tmp_path / "raw")
