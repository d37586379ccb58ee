"""The benchmark of registration starts: its offsets, its cut images, its table; and a few of its trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.heads import moved_flair, phantom_pairs, random_offset, real_pairs, summary, trial
from datamodules.files.volumes import Volume
from datamodules.preparation.registration import moved_mm

RAW = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "raw"


def test_offsets_reach_as_far_as_they_say_and_no_further() -> None:
    middle = np.array([10.0, -20, 30])
    offsets = [random_offset(np.random.default_rng(seed), middle) for seed in range(500)]
    shifts = np.array([np.linalg.norm(moved_mm(offset, middle[None])[0] - middle) for offset in offsets])
    turns = np.degrees([Rotation.from_matrix(offset[:3, :3]).magnitude() for offset in offsets])
    for values, most in ((shifts, 60), (turns, 40)):
        assert 0.95 * most < values.max() < most
        assert np.median(values) == pytest.approx(most / 2, rel=0.1)


@pytest.mark.parametrize(("end", "first", "slices"), [(0, 0, 10), (1, 0, 8), (-1, 2, 8)])
def test_a_moved_flair_shows_the_same_at_the_moved_places(end: int, first: int, slices: int) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 10)).astype(np.float32)
    flair = Volume(Path("flair.nii"), array, np.diag([1.0, 1, 3, 1]))
    offset = random_offset(np.random.default_rng(1), np.zeros(3))
    moved = moved_flair(flair, offset, end)
    assert np.array_equal(moved.array, array[:, :, first : first + slices])
    assert np.allclose(moved.affine @ [1, 2, 3 - first, 1], offset @ flair.affine @ [1, 2, 3, 1])


def test_the_table_counts_what_is_wrong_and_what_of_it_is_flagged() -> None:
    names = ("kind", "field", "error_mm", "flagged")
    errors = [("real", "whole", 0.3, False), ("real", "cut", 9.0, True), ("phantom", "whole", 2.5, False)]
    trials = [dict(zip(names, row, strict=True)) | {"seconds": 4.0} for row in [*errors, ("real", "cut", 0.5, False)]]
    rows = {(row["head"], row["field"]): row for row in summary(trials)}
    assert list(rows) == [("phantom", "whole"), ("real", "cut"), ("real", "whole"), ("all", "all")]
    assert (rows["all", "all"]["share_right"], rows["all", "all"]["wrong"], rows["all", "all"]["flagged"]) == (0.5, 2, 1)
    assert (rows["real", "cut"]["median_mm"], rows["real", "cut"]["worst_mm"]) == (4.75, 9.0)


@pytest.mark.long
def test_phantoms_are_found_wherever_they_lie(tmp_path: Path) -> None:
    pairs = [pair for pair, _ in zip(phantom_pairs(tmp_path), range(2), strict=False)]
    trials = [trial(pairs[number % 2], number, tmp_path) for number in range(12)]
    assert max(row["error_mm"] for row in trials) < 2


@pytest.mark.long
@pytest.mark.skipif(not RAW.is_dir(), reason="the raw scans are not on this machine")
def test_real_heads_are_found_wherever_they_lie(tmp_path: Path) -> None:
    pairs = list(real_pairs([RAW]))
    trials = [trial(pairs[number % len(pairs)], number, tmp_path) for number in range(12)]
    assert max(row["error_mm"] for row in trials) < 2
