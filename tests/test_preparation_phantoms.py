"""A phantom that was moved by a known affine comes back to where it was, on every path from raw file to cohort."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from raw_fixtures import MovedPhantom, write_moved_phantom

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.preparation.agreement import rotation_degrees
from datamodules.preparation.images import PREPARED_GRID, prepared_grid
from datamodules.preparation.registration import moved_mm
from datamodules.store.prepare import prepare_scan, study_grid
from experiments.__main__ import main

STRUCTURES = {
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "lateral ventricles": (4, 43),
    "brainstem": (16,),
    "putamen": (12, 51),
    "hippocampus": (17, 53),
    "cerebellum": (8, 47),
}
SIDES = {"left": (10, 11, 12, 4), "right": (49, 50, 51, 43)}


def centroid(labels: np.ndarray[Any, Any], affine: np.ndarray[Any, Any], wanted: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return moved_mm(affine, np.argwhere(np.isin(labels, wanted)).mean(axis=0, keepdims=True))[0]


def prepared(folder: Path, what: str) -> nib.Nifti1Image:
    anat = folder / "derivatives" / "regionwise" / "sub-P01" / "ses-1" / "anat"
    return nib.load(anat / f"sub-P01_ses-1_space-MNI152NLin2009aSym_{what}.nii.gz")


def worst_mm(first: tuple[Any, Any], second: tuple[Any, Any]) -> float:
    """The largest distance of a structure's centroids in two label maps, each an array with its affine."""
    wanted = (*STRUCTURES.values(), *SIDES.values())
    return max(float(np.linalg.norm(centroid(*first, one) - centroid(*second, one))) for one in wanted)


def dice(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def labels_of(out: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    image = prepared(out, "seg-freesurfer_dseg")
    return np.asarray(image.dataobj), image.affine


def told_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(next(out.rglob("*_qc.json")).read_text())
    return content


def turned(matrix: np.ndarray[Any, Any]) -> float:
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return rotation_degrees(left @ right)


def check_flair(told: dict[str, Any], truth: MovedPhantom) -> None:
    beside = np.linalg.inv(truth.t1w_to_flair) @ np.array(told["t1w_to_flair"])
    brain = moved_mm(
        truth.to_t1w, np.array([[-60.0, -20, 10], [60, -20, 10], [0, -90, 10], [0, 60, 10], [0, -20, 70], [0, -20, -40]])
    )
    assert np.linalg.norm(moved_mm(beside, brain) - brain, axis=1).max() < 1
    assert rotation_degrees(beside) < 1


def check_place(out: Path, truth: MovedPhantom) -> dict[str, Any]:
    """Every structure lies within 1 mm and 2 degrees of where it was, by its labels; returns what was told of the scan."""
    labels, affine = labels_of(out)
    assert worst_mm((labels, affine), (truth.labels, truth.affine)) < 1
    assert centroid(labels, affine, SIDES["left"])[0] < 0 < centroid(labels, affine, SIDES["right"])[0]
    voxels = np.rint(moved_mm(truth.affine, np.indices(truth.labels.shape).reshape(3, -1).T) - affine[:3, 3]).astype(int)
    there = ((voxels >= 0) & (voxels < labels.shape)).all(axis=1)
    back = np.zeros(truth.labels.size, np.uint8)
    back[there] = labels[tuple(voxels[there].T)]
    for wanted in STRUCTURES.values():
        assert dice(np.isin(back, wanted), np.isin(truth.labels.ravel(), wanted)) > 0.95
    told = told_of(out)
    assert turned(np.linalg.inv(truth.to_t1w) @ np.array(told["template_to_t1w"])) < 2
    assert told["numbers"]["determinant"] == pytest.approx(1 / np.linalg.det(truth.to_t1w[:3, :3]), rel=0.05)
    return told


@pytest.mark.slow
def test_a_moved_phantom_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, out = write_moved_phantom(tmp_path / "raw"), tmp_path / "cohort"
    assert main(["prepare", "--bids", str(truth.folder), "--out", str(out)]) == 0
    assert "1 prepared, 0 finished before, 0 left out, 0 failed" in capsys.readouterr().out
    told = check_place(out, truth)
    assert told["numbers"]["dice_in_field"] > 0.95
    assert told["brain_method"] == "given"
    check_flair(told, truth)

    t1w, flair, mask = (prepared(out, what) for what in ("desc-preproc_T1w", "desc-preproc_FLAIR", "desc-brain_mask"))
    inside = np.asarray(mask.dataobj) > 0
    for image in (t1w, flair):
        values = np.asarray(image.dataobj)
        assert image.get_data_dtype() == np.float32
        assert image.shape == PREPARED_GRID.shape
        assert np.array_equal(image.affine, PREPARED_GRID.matrix)
        assert (values[~inside] == 0).all()
        assert (values[inside] > 0).mean() > 0.99
        assert bytes(image.header["descrip"]).strip(b"\0") == b""

    written = [path for path in out.rglob("*") if path.is_file()]
    contents = {path: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in written}
    assert not [path for path, content in contents.items() if b"Roehampton" in content]

    cohort = read_cohort(out, Target())
    (scan,) = cohort.scans
    assert (scan.value, scan.covariates["age"], scan.covariates["vendor"]) == (2.5, "41", "Siemens")
    stored = prepare_scan(scan, study_grid([scan.reference]))
    assert stored.template_dice > 0.9
    assert stored.labels is not None
    assert np.mean(stored.labels[stored.image[0] != 0] > 0) > 0.95

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert main(["prepare", "--bids", str(truth.folder), "--out", str(out)]) == 0
    assert "0 prepared, 1 finished before" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}


@pytest.mark.long
def test_a_t1w_alone_and_a_further_contrast_come_back(tmp_path: Path) -> None:
    truth, out = write_moved_phantom(tmp_path / "raw"), tmp_path / "cohort"
    (path,) = truth.folder.rglob("*_FLAIR.nii*")
    image: Any = nib.load(path)
    array = np.asarray(image.dataobj).astype(np.float32)
    beside = np.eye(4)
    beside[:3, 3] = (2.0, -1.0, 1.5)
    t2w = np.where(array > 0, 1.2 * array.max() - array, 0).astype(np.float32)
    nib.save(nib.Nifti1Image(t2w, beside @ image.affine), str(path).replace("_FLAIR", "_T2w"))
    path.unlink()
    for names in ("t1w,t2w", "t1w"):
        words = ["prepare", "--bids", str(truth.folder), "--out", str(out), "--spacing", "3", "--images", names]
        assert main(words) == 0
        told = told_of(out)
        assert {name for name in told if name.startswith("t1w_to_")} == ({"t1w_to_t2w"} if "t2w" in names else set())
        assert not {"pair_nmi", "fluid_flair", "flair_moved_mm"} & set(told["numbers"])
        made = {path.name.split("_desc-preproc_")[1] for path in out.rglob("*_desc-preproc_*.nii.gz")}
        assert made == {f"{suffix}.nii.gz" for suffix in (("T1w", "T2w") if "t2w" in names else ("T1w",))}
        (scan,) = read_cohort(out, Target(), images=tuple(names.split(","))).scans
        assert prepare_scan(scan, study_grid([scan.reference])).template_dice > 0.9
        if "t2w" in names:
            check_flair({"t1w_to_flair": np.linalg.inv(beside) @ np.array(told["t1w_to_t2w"])}, truth)


@pytest.mark.long
def test_larger_voxels_hold_the_same_brain(tmp_path: Path) -> None:
    truth, out = write_moved_phantom(tmp_path / "raw"), tmp_path / "cohort"
    assert main(["prepare", "--bids", str(truth.folder), "--out", str(out), "--spacing", "3"]) == 0
    t1w, flair, mask = (prepared(out, what) for what in ("desc-preproc_T1w", "desc-preproc_FLAIR", "desc-brain_mask"))
    grid = prepared_grid(3.0)
    for image in (t1w, flair, mask):
        assert image.shape == grid.shape
        assert np.array_equal(image.affine, grid.matrix)
    assert worst_mm(labels_of(out), (truth.labels, truth.affine)) < 1.5
    ml = {name: np.isin(labels, wanted).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
          for name, (labels, affine) in {"prepared": labels_of(out), "true": (truth.labels, truth.affine)}.items()
          for wanted in [STRUCTURES["lateral ventricles"]]}  # fmt: skip
    assert ml["prepared"] == pytest.approx(ml["true"], rel=0.1)
    sidecar = json.loads(next(out.rglob("*desc-preproc_T1w.json")).read_text())
    assert sidecar["Resolution"] == "3 mm"
    (scan,) = read_cohort(out, Target()).scans
    assert prepare_scan(scan, study_grid([scan.reference])).template_dice > 0.9


@pytest.mark.parametrize("side", ["0.5", "5", "nan"])
def test_voxels_of_other_sides_are_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str], side: str) -> None:
    assert main(["prepare", "--bids", "nowhere", "--spacing", side]) == 2
    assert f"--spacing {side}: prepared voxels are 1 to 4 mm wide" in capsys.readouterr().err


@pytest.mark.long
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    truth = write_moved_phantom(tmp_path / "raw")
    for name in ("first", "second"):
        assert main(["prepare", "--bids", str(truth.folder), "--out", str(tmp_path / name), "--nonlinear"]) == 0
    files = [
        path for path in (tmp_path / "first" / "derivatives").rglob("sub-P01*") if path.is_file() and path.suffix != ".log"
    ]
    assert len(files) == 10
    for path in files:
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes(), path


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_heads_of_every_size_come_back(tmp_path: Path, seed: int) -> None:
    truth, out = write_moved_phantom(tmp_path / "raw", 1.5, seed), tmp_path / "cohort"
    assert main(["prepare", "--bids", str(truth.folder), "--out", str(out)]) == 0
    check_flair(check_place(out, truth), truth)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_moved_patient_comes_back_to_where_it_comes_unmoved(tmp_path: Path, seed: int) -> None:
    found = []
    for moved in (False, True):
        folder = tmp_path / f"moved-{moved}"
        truth = write_moved_phantom(folder / "raw", 1.5, seed, deformation_mm=2.0, moved=moved)
        assert main(["prepare", "--bids", str(truth.folder), "--out", str(folder / "cohort")]) == 0
        told = told_of(folder / "cohort")
        check_flair(told, truth)
        found.append((np.linalg.inv(truth.to_t1w) @ np.array(told["template_to_t1w"]), *labels_of(folder / "cohort")))
    assert turned(found[0][0] @ np.linalg.inv(found[1][0])) < 2
    assert worst_mm(found[0][1:], found[1][1:]) < 1
    assert dice(found[0][1] > 0, found[1][1] > 0) > 0.97
