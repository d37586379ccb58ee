"""TorchIO subjects of the data module show what the batches show, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from datamodules.store.boxes import crop_to_box
from datamodules.store.store import PreparedCohort
from experiments.study.study import Study
from regions.atlas import template_on
from regions.catalog import REGIONS
from regions.errors import UserError
from regions.masking import MODES

PLAIN = Augmentation(flip=0, shift_mm=0, noise=0)


@pytest.fixture(scope="module")
def labelled(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The phantom study with the template's labels as each scan's own, moved by a voxel from scan to scan."""
    folder = tmp_path_factory.mktemp("labelled")
    template = template_on(study.prepared.grid)
    for row, key in enumerate(study.prepared.keys):
        target = folder / "volumes" / key
        target.mkdir(parents=True)
        np.save(target / "image.npy", study.prepared.image(row))
        np.save(target / "labels.npy", np.roll(template, 1 - row % 2 * 2, axis=row % 3))
    return replace(study, prepared=PreparedCohort(folder, study.prepared.grid, study.prepared.keys))


def made(study: Study, name: str, **options: Any) -> BrainMRIDataModule:
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    return BrainMRIDataModule(study.prepared, patients, labels, study.splits, 2, REGIONS[name], 8, **options)


def training(data: BrainMRIDataModule, epoch: int = 0, batches: int = 2) -> dict[int, np.ndarray[Any, Any]]:
    """The finished training scans of the first batches of an epoch, by row."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    finished = [data.finish(batch, epoch) for batch, _ in zip(loader, range(batches), strict=False)]
    return {int(row): image.numpy() for b in finished for row, image in zip(b["index"], b["image"], strict=True)}


def bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array, dtype=np.float32).view(np.int32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", REGIONS)
def test_subjects_equal_the_batches_bit_for_bit(labelled: Study, name: str, mode: Any) -> None:
    data = made(labelled, name, mask_mode=mode, augmentation=PLAIN)
    batches = {**training(data, batches=99)}
    for batch in data.predict_dataloader():
        done = data.finish(batch, None)
        batches |= {int(row): image.numpy() for row, image in zip(done["index"], done["image"], strict=True)}
    seen = 0
    for part in ("train", "tuning", "internal_test"):
        for subject in data.subjects(part):  # type: ignore[arg-type]
            volume = np.concatenate([subject["t1w"].numpy(), subject["flair"].numpy()])
            assert np.array_equal(bits(crop_to_box(volume, data.box)), bits(batches[subject["row"]]))
            assert subject["patient"] == labelled.cohort.scans[subject["row"]].patient
            assert subject["label"] == labelled.cohort.scans[subject["row"]].label
            assert np.array_equal(subject["flair"].affine, labelled.prepared.grid.matrix)
            seen += 1
    assert seen == len(batches) == len(labelled.cohort.scans)


def test_an_unknown_part_is_refused(study: Study) -> None:
    with pytest.raises(UserError, match=r"part 'test' does not exist; parts are train, tuning, internal_test"):
        made(study, "brainstem").subjects("test")  # type: ignore[arg-type]
