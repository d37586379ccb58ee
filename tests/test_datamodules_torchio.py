"""TorchIO in the data module: subjects with one region, and transforms of training scans that all inputs see alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio

from datamodules.batches.augmentation import Augmentation
from datamodules.mri import BrainMRIDataModule
from datamodules.store.boxes import crop_to_box, within
from experiments.study.settings import parse_settings
from experiments.study.study import Study
from experiments.study.trainer_options import SettingsError
from regions.catalog import REGIONS
from regions.errors import UserError
from regions.grid import Box
from regions.masking import MODES

PLAIN = Augmentation(flip=0, shift_mm=0, noise=0)
TRANSFORMS = {
    "bias": tio.RandomBiasField(),
    "motion": tio.RandomMotion(),
    "affine": tio.RandomAffine(),
}


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


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("mode", ["template", "subject"])
def test_a_regional_run_sees_the_transformed_scan_of_the_global_run(labelled: Study, kind: str, mode: Any) -> None:
    options: dict[str, Any] = {"transforms": [TRANSFORMS[kind]], "augmentation": PLAIN, "seed": 3}
    regional = made(labelled, "brainstem", mask_mode=mode, **options)
    whole = made(labelled, "global", batch_size=5, **options)
    part, full = training(regional, 1), training(whole, 1, 9)
    plain = training(made(labelled, "brainstem", mask_mode=mode, augmentation=PLAIN, seed=3), 1)
    box = within(regional.box, whole.box)
    assert len(part) > 3
    for row, image in part.items():
        inside = image != 0
        assert inside.sum() > 100
        assert np.array_equal(bits(crop_to_box(full[row], box))[inside], bits(image)[inside])
        assert not np.array_equal(image, plain[row])
        if mode == "template":
            assert regional.mask is not None
            assert not bits(image)[:, ~regional.mask[0, 0].numpy()].any()
            assert np.array_equal(image, np.where(regional.mask[0, 0], crop_to_box(full[row], box), 0))


def test_outside_the_brain_transformed_scans_are_exactly_zero(study: Study) -> None:
    data = made(study, "global", transforms=[tio.RandomMotion(), tio.RandomNoise()], augmentation=PLAIN)
    for row, image in training(data).items():
        brain = data.prepared.crop(row, data.box)[0] != 0
        assert not bits(image)[:, ~brain].any()
        assert (image[:, brain] != 0).mean() > 0.99


def test_transforms_depend_on_seed_epoch_and_row_alone_and_leave_the_random_state_as_it_is(study: Study) -> None:
    options: dict[str, Any] = {"transforms": [tio.RandomNoise(std=(0.2, 0.3)), tio.RandomAffine()]}
    torch.manual_seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1]
    first = training(made(study, "brainstem", batch_size=3, **options), 0, 99)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    torch.manual_seed(2)
    again = training(made(study, "brainstem", batch_size=5, **options), 0, 99)
    assert first.keys() == again.keys()
    assert all(np.array_equal(bits(image), bits(again[row])) for row, image in first.items())
    for other in (training(made(study, "brainstem", **options), 1), training(made(study, "brainstem", seed=1, **options), 0)):
        assert all(not np.array_equal(image, first[row]) for row, image in other.items())


def test_tuning_and_test_scans_are_left_alone(study: Study) -> None:
    plain, changed = made(study, "brainstem"), made(study, "brainstem", transforms=[tio.RandomMotion()])
    for left, right in zip(plain.predict_dataloader(), changed.predict_dataloader(), strict=True):
        assert torch.equal(plain.finish(left, None)["image"], changed.finish(right, None)["image"])


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (tio.Pad(2), r"^data.transforms: Pad changes the shape from .* to .*; leave it out$"),
        (tio.Lambda(np.linalg.inv), r"^data.transforms: Lambda fails: [^\n]*$"),
    ],
    ids=["shape", "failure"],
)
def test_a_transform_that_cannot_be_used_is_refused_before_the_first_batch(study: Study, transform: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        training(made(study, "brainstem", transforms=[transform]))


def test_the_box_may_reach_outside_the_grid(study: Study) -> None:
    data = made(study, "global", transforms=[tio.RandomBiasField()])
    assert isinstance(data.augmenter.read, Box)
    assert all(image.shape[1:] == data.box.shape for image in training(data, batches=1).values())


def test_transforms_come_from_the_command_line_and_from_a_file(tmp_path: Any) -> None:
    given = parse_settings(["--data.transforms+=torchio.RandomBiasField", "--data.transforms.coefficients", "0.3"])
    file = tmp_path / "config.yaml"
    file.write_text(given.yaml())
    assert parse_settings(["--config", str(file)]).hash() == given.hash() != parse_settings([]).hash()
    short = tmp_path / "short.yaml"
    short.write_text("data: {transforms: [{class_path: torchio.RandomBiasField, init_args: {coefficients: 0.3}}]}")
    assert parse_settings(["--preset", "demo", "--config", str(short)]).hash() == given.hash()
    (transform,) = given.instantiated().data.transforms
    assert isinstance(transform, tio.RandomBiasField)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.transforms+=torch.nn.ReLU"], "torch.nn.ReLU is not a TorchIO transform"),
        (
            ["--data.transforms+=torchio.RandomBiasField", "--data.transforms.coeficients", "0.3"],
            "data.transforms.coeficients is not an argument of RandomBiasField; did you mean data.transforms.coefficients?",
        ),
        (["--data.transforms+=torchio.RandomBias"], "torchio.RandomBias"),
    ],
)
def test_a_wrong_transform_is_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_settings(words)
    assert "\n" not in str(caught.value)
