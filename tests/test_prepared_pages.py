"""The page of what ``prepare`` made: which images it shows, and of which scans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.flagged_scans import read_verdicts
from datamodules.files.tables import CohortError
from experiments.checking import prepared
from experiments.checking.prepared import write_prepared_quality
from experiments.checking.quality import numbers_of_prepare
from regions.atlas import template_on
from regions.grid import Grid

GRID = Grid.of((49, 58, 47), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))


def write_scan(out: Path, derivative: str, images: Mapping[str, float], dice: float = 0.95) -> None:
    """One scan, sub-1, as ``prepare`` leaves it; each image holds one value and twice that, in the template's brain."""
    anat = out / "derivatives" / derivative / "sub-1" / "anat"
    anat.mkdir(parents=True)
    brain = template_on(GRID) > 0
    halves = np.where(np.arange(brain.shape[0])[:, None, None] % 2, 1, 2) * brain
    files: dict[str, Any] = {"desc-brain_mask": brain.astype(np.uint8)}
    files |= {name: (value * halves).astype(np.float32) for name, value in images.items()}
    for name, array in files.items():
        nib.save(nib.Nifti1Image(array, GRID.matrix), anat / f"sub-1_space-MNI152NLin2009aSym_{name}.nii.gz")
    record = {"patient": "sub-1", "session": "", "numbers": {"template_dice": dice}}
    (anat / "sub-1_desc-prepare_qc.json").write_text(json.dumps(record))


def test_each_image_is_drawn_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"desc-preproc_T1w": 1.0, "ce-gadolinium_desc-preproc_T1w": 3.0, "desc-preproc_T2w": 5.0}
    write_scan(tmp_path, "regionwise", names)
    drawn: dict[str, float] = {}
    draw = prepared.write_pictures

    def spy(path: Path, images: Mapping[str, Any], *rest: Any) -> None:
        drawn.update({name: float(image.max()) for name, image in images.items()})
        draw(path, images, *rest)

    monkeypatch.setattr(prepared, "write_pictures", spy)
    found = write_prepared_quality(tmp_path)
    assert drawn == {"t1w": 2.0, "ce-gadolinium_t1w": 6.0, "t2w": 10.0}
    page = found.page.read_text()
    assert "Pictures: T1w, ce-gadolinium_t1w and T2w with the outline" in page
    assert 'alt="T1w, ce-gadolinium_t1w and T2w of sub-1 with outlines"' in page


def test_a_record_whose_images_are_gone_is_named(tmp_path: Path) -> None:
    write_scan(tmp_path, "regionwise", {"desc-preproc_T2w": 1.0})
    with pytest.raises(CohortError, match=r"sub-1_desc-prepare_qc.json has no T1w beside it; delete it as well, or run"):
        write_prepared_quality(tmp_path)


def test_another_derivative_beside_the_prepared_one_is_not_judged(tmp_path: Path) -> None:
    write_scan(tmp_path, "regionwise", {"desc-preproc_T1w": 1.0})
    write_scan(tmp_path, "regionwise_earlier", {"desc-preproc_T1w": 1.0}, dice=0.1)
    assert write_prepared_quality(tmp_path).held == []
    assert read_verdicts(tmp_path) == {("sub-1", ""): ("ok", "", "")}


def test_an_image_that_is_not_read_says_nothing_of_a_scan(tmp_path: Path) -> None:
    t1w = {"brain_ml": 1800.0, "determinant": 1.2, "cover_t1w": 1.0, "noise_t1w": 0.1, "template_nmi": 1.2}
    both = {"cut_brainstem": 0.3, "template_dice": 0.8, "contrast_order": -1.0, "pair_nmi": 1.0, "fluid_flair": 0.1}
    flair = {"cover_flair": 0.5, "noise_flair": 9.0, "flair_moved_mm": 90.0, "bias_range_flair": 5.0}
    (tmp_path / "sub-1_desc-prepare_qc.json").write_text(json.dumps({"numbers": {**t1w, **both, **flair}}))
    image = tmp_path / "sub-1_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz"
    assert numbers_of_prepare(image, ("t1w", "flair")) == {**t1w, **both, **flair}
    assert numbers_of_prepare(image, ("t1w",)) == t1w
    assert numbers_of_prepare(image, ("flair",)) == {"brain_ml": 1800.0, "determinant": 1.2, **flair}
