"""A scan of a training cohort is known again from a hash and a signature, another person's is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.store.duplicates import fingerprint
from datamodules.store.prepared import PreparedCohort
from datamodules.store.signatures import BITS, MOST_BITS, KnownScans, directions, known_scans, signature
from datamodules.store.store import open_store
from experiments.study.study import Study


@pytest.fixture(scope="module")
def known(study: Study) -> KnownScans:
    return KnownScans.of(known_scans(study.prepared).plain())


def images(prepared: PreparedCohort, row: int) -> dict[str, np.ndarray]:
    return dict(zip(prepared.names, prepared.image(row), strict=True))


def test_every_scan_of_the_cohort_is_known_by_its_voxels(study: Study, known: KnownScans) -> None:
    for row in range(len(study.prepared.scans)):
        match = known.match(images(study.prepared, row), study.prepared.grid)
        assert match is not None
        assert (match.how, match.correlation) == ("the same voxels", 1.0)


@pytest.mark.parametrize("change", ["scaled", "noisy", "ramp", "one contrast"])
def test_a_scan_that_was_saved_again_is_known_by_its_signature(study: Study, known: KnownScans, change: str) -> None:
    rng = np.random.default_rng(0)
    for row in range(len(study.prepared.scans)):
        image = study.prepared.image(row).astype(np.float32)
        brain = image != 0
        ramp = np.linspace(-0.3, 0.3, image.shape[2])[None, None, :, None]
        noise = rng.normal(0, 0.1, image.shape)
        changed = {"scaled": 1.01 * image, "noisy": image + noise, "ramp": image + ramp, "one contrast": image + noise}[change]
        seen = dict(zip(study.prepared.names, (changed * brain).astype(np.float16), strict=True))
        if change == "one contrast":
            del seen["flair"]
        match = known.match(seen, study.prepared.grid)
        assert match is not None
        assert match.how == "nearly the same brain"
        assert 0.8 <= match.correlation <= 1


def test_other_people_are_not_known(external_cohort: Path, study: Study, known: KnownScans, store_folder: Path) -> None:
    scans = read_cohort(external_cohort, Target()).scans
    prepared = open_store(scans, store_folder, 1, grid=study.prepared.grid)
    assert [known.match(images(prepared, row), prepared.grid) for row in range(len(scans))] == [None] * len(scans)


def test_the_share_of_differing_bits_is_the_angle() -> None:
    rng = np.random.default_rng(1)
    mean = np.zeros(3000)
    for correlation in (0.0, 0.5, 0.8, 0.95):
        first = rng.normal(size=(40, 3000))
        second = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=(40, 3000))
        bits = [
            (int(signature(a, mean), 16) ^ int(signature(b, mean), 16)).bit_count() for a, b in zip(first, second, strict=True)
        ]
        assert np.mean(bits) / BITS == pytest.approx(np.arccos(correlation) / np.pi, abs=0.015)
    assert round(BITS * np.arccos(0.8) / np.pi) == MOST_BITS


def test_directions_never_change() -> None:
    assert directions(10)[0].tolist() == [-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0]
    assert abs(directions(4000).mean()) < 0.005


def test_the_order_of_signatures_says_nothing_of_the_order_of_scans(study: Study, known: KnownScans) -> None:
    name = known.names[0]
    assert list(known.signatures[name]) == sorted(known.signatures[name])
    assert list(known.voxels[name]) == sorted(known.voxels[name])
    blocks = [fingerprint(study.prepared.image(row), study.prepared.grid)[0] for row in range(len(study.prepared.scans))]
    assert [signature(row, np.asarray(known.mean[name])) for row in blocks] != list(known.signatures[name])


def test_with_too_few_scans_only_voxels_are_kept(study: Study) -> None:
    few = known_scans(replace(study.prepared, scans=study.prepared.scans[:4]))
    assert (few.signatures, few.mean) == ({}, {})
    assert few.match(images(study.prepared, 2), study.prepared.grid) is not None
    assert few.match(images(study.prepared, 8), study.prepared.grid) is None
