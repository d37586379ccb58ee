"""Tiny cohorts and hand-made scans for all tests. Whatever lives for the session must not be changed: copy it first."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.store.prepared import PreparedCohort, StoredScan
from datamodules.store.writing import write_volume
from experiments.study.study import Study, StudyOptions, open_study
from regions.atlas import template_on
from regions.grid import Grid

MADE_AFFINE = np.array([[8.0, 0, 0, -76], [0, 8, 0, -114], [0, 0, 8, -74], [0, 0, 0, 1]])
MADE_SHAPE = (20, 25, 22)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no process is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@dataclass(frozen=True)
class MadeScan:
    """The files of one hand-made scan, what stands in them, and where: MNI152, 8 mm, no two sides equal."""

    t1w: Path
    flair: Path
    mask: Path
    labels: Path
    arrays: dict[str, np.ndarray[Any, Any]]
    affine: np.ndarray[Any, Any]

    @property
    def images(self) -> dict[str, Path]:
        """T1w and FLAIR, as a scan holds them."""
        return {"t1w": self.t1w, "flair": self.flair}


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS folder at 6 mm: 21 patients, 8 of them positive, 25 scans, one site."""
    folder = tmp_path_factory.mktemp("phantoms") / "cohort"
    return write_phantom_cohort(folder, PhantomOptions(patients=21, scans=25, spacing_mm=6.0, seed=11))


@pytest.fixture(scope="session")
def external_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another BIDS folder on the same voxels: 10 patients, 11 scans, five sites."""
    folder = tmp_path_factory.mktemp("phantoms") / "external"
    return write_phantom_cohort(folder, PhantomOptions(patients=10, scans=11, spacing_mm=6.0, seed=11, external=True))


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the session's studies share; adding to it is fine, changing what is there is not."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def study_options(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyOptions:
    """Options of ``study``."""
    return StudyOptions(cohort=phantom_cohort, folder=tmp_path_factory.mktemp("studies") / "study", store=store_folder)


@pytest.fixture(scope="session")
def study(study_options: StudyOptions) -> Study:
    """A study of the phantom cohort, split seven-fold and prepared."""
    return open_study(study_options)


@pytest.fixture(scope="session")
def labelled(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The phantom study with label maps that show every region at 6 mm: the template's, moved by a voxel from scan to scan."""
    template = template_on(study.prepared.grid)
    maps = [np.roll(template, 1 - row % 2 * 2, axis=row % 3) for row in range(len(study.prepared.scans))]
    return replace(study, prepared=restored(study.prepared, tmp_path_factory.mktemp("labelled"), maps))


def volume_of(prepared: PreparedCohort, row: int, kind: str = "image", channel: int = 0) -> Path:
    """The folder of one of a scan's images, or of its label map."""
    scan = prepared.scans[row]
    return prepared.folder / "volumes" / (scan.labels if kind == "labels" else scan.images[channel])


def restored(
    prepared: PreparedCohort,
    folder: Path,
    labels: Sequence[np.ndarray[Any, Any] | None],
    images: Sequence[np.ndarray[Any, Any]] | None = None,
) -> PreparedCohort:
    """The same scans in another store, with other label maps, and with other images (C, I, J, K) if they are given."""
    scans = []
    for row, (stored, own) in enumerate(zip(prepared.scans, labels, strict=True)):
        scan = StoredScan(stored.images, "" if own is None else f"labels-{row}")
        files = [*zip(scan.images, prepared.image(row) if images is None else images[row], strict=True)]
        for key, array in files + ([] if own is None else [(scan.labels, own)]):
            target = folder / "volumes" / key
            target.mkdir(parents=True)
            write_volume(target, key, {"labels" if key == scan.labels else "image": array}, prepared.facts(row))
        scans.append(scan)
    return replace(prepared, folder=folder, scans=tuple(scans))


@pytest.fixture
def phantom_copy(phantom_cohort: Path, tmp_path: Path) -> Path:
    """The phantom cohort, to be changed."""
    return Path(shutil.copytree(phantom_cohort, tmp_path / "copy"))


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    """``write_nifti(path, array, affine=MADE_AFFINE)`` writes one NIfTI file with the array's own type."""

    def write(path: Path, array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any] = MADE_AFFINE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    return write


@pytest.fixture(scope="session")
def make_scan(write_nifti: Callable[..., Path]) -> Callable[..., MadeScan]:
    """``make_scan(folder, name="sub-a", seed=0)`` writes T1w, FLAIR, brain mask and FreeSurfer label map of one scan.

    The brain is the template's without its leftmost slice, so that left and right differ; tissues differ by their label.
    """

    def make(folder: Path, name: str = "sub-a", seed: int = 0) -> MadeScan:
        rng = np.random.default_rng(seed)
        labels = template_on(Grid.of(MADE_SHAPE, MADE_AFFINE)).copy()
        labels[:3] = 0
        brain = labels > 0
        arrays = {"labels": labels, "mask": brain.astype(np.uint8)}
        for kind, level in (("t1w", 400), ("flair", 250)):
            image = (level + 2.0 * labels + rng.normal(0, 10, MADE_SHAPE)) * brain
            arrays[kind] = image.astype(np.float32)
        paths = {kind: write_nifti(folder / f"{name}_{kind}.nii.gz", array) for kind, array in arrays.items()}
        return MadeScan(paths["t1w"], paths["flair"], paths["mask"], paths["labels"], arrays, MADE_AFFINE)

    return make


@pytest.fixture(scope="session")
def made_scan(make_scan: Callable[..., MadeScan], tmp_path_factory: pytest.TempPathFactory) -> MadeScan:
    """One hand-made scan that no test changes."""
    return make_scan(tmp_path_factory.mktemp("made"))
