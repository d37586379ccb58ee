"""Two real scans in MNI152 space, from table to every region's box."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.store.boxes import region_step
from datamodules.store.store import open_store
from regions.atlas import template_on
from regions.catalog import REGIONS

REAL = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "mni"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the two real scans are not on this machine")
def test_real_scans_at_one_millimetre(tmp_path: Path) -> None:
    lines = ["patient\tt1w\tflair\tedss\tmask"]
    for patient, edss in (("sub-07", "0.5"), ("sub-19", "1.0")):
        stem = REAL / patient / "anat" / f"{patient}_space-MNI152_desc-brain"
        lines.append(f"{patient}\t{stem}_T1w.nii.gz\t{stem}_FLAIR.nii.gz\t{edss}\tn/a")
    (tmp_path / "real.tsv").write_text("\n".join(lines) + "\n")
    cohort = read_cohort(tmp_path / "real.tsv", Target(undated="keep"))
    assert [scan.value for scan in cohort.scans] == [0.5, 1.0]
    assert cohort.remarks == ("EDSS 0.5 is not on the scale, its class is certain: kept sub-07",)
    store = open_store(cohort.scans, tmp_path / "store")
    assert store.grid.spacing == (1.0, 1.0, 1.0)
    source = nib.as_closest_canonical(nib.load(cohort.scans[0].reference))
    voxel = np.argwhere(source.get_fdata() > 0).mean(axis=0).astype(int)
    world = source.affine[:3, :3] @ voxel + source.affine[:3, 3]
    there = np.rint(world - store.grid.origin).astype(int)
    values = np.asarray(source.dataobj, dtype=float)
    inside = values[values != 0]
    expected = (values[tuple(voxel)] - inside.mean()) / inside.std()
    assert store.image(0)[(0, *there)] == pytest.approx(expected, abs=0.01)
    for region in REGIONS.values():
        mask, box = region_step(region, store.grid, "template", 3.0, 16)
        for row in range(2):
            crop = store.crop(row, box)
            assert crop.shape == (2, *box.shape)
            filled = (crop != 0).all(axis=0).sum() / (mask if mask is not None else template_on(store.grid) > 0).sum()
            assert filled > 0.5
