"""Quality numbers: each moves with the fault that it is for, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from datamodules.quality.header import header_numbers
from datamodules.quality.limits import judge_scans
from datamodules.quality.measure import (
    cover,
    cut_shares,
    noise,
    normalised_mutual_information,
    template_image,
    tissue_contrast,
)
from datamodules.quality.measure import (
    measure as measure_images,
)
from regions.atlas import template_on
from regions.grid import Grid

GRID = Grid.of((50, 61, 47), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))


def measure(t1w: Any, flair: Any, *others: Any, **options: Any) -> dict[str, float]:
    """The numbers of a T1w and a FLAIR."""
    return measure_images({"t1w": t1w, "flair": flair}, *others, **options)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A T1w and a FLAIR made of the template, with noise, and their brain mask."""
    rng = np.random.default_rng(seed)
    labels = template_on(GRID)
    brain = labels > 0
    t1w = np.asarray(template_image(GRID)) * 1.0
    fluid = np.isin(labels, (4, 43, 24, 14, 15))
    white = np.isin(labels, (2, 41))
    flair = np.where(fluid, 20.0, np.where(white, 90.0, 120.0))
    images = [(gaussian_filter(one, 0.4) + rng.normal(0, 4, GRID.shape)) * brain for one in (t1w, flair)]
    return images[0], images[1], brain


def test_a_sound_scan_has_sound_numbers() -> None:
    t1w, flair, brain = pair()
    numbers = measure(t1w, flair, brain, GRID, template_on(GRID))
    assert numbers["template_dice"] == 1
    assert numbers["brain_ml"] == pytest.approx(brain.sum() * 0.064)
    assert numbers["template_nmi"] > 1.2
    assert numbers["contrast_t1w"] > 0.5 > 0 > numbers["contrast_flair"]
    assert numbers["contrast_order"] > 0.5
    assert all(value == 0 for name, value in numbers.items() if name.startswith("cut_"))
    assert numbers["ml_ventricles"] == pytest.approx(
        0.064 * np.isin(template_on(GRID), (4, 5, 14, 15, 31, 43, 44, 63, 72)).sum()
    )
    assert min(numbers["cover_t1w"], numbers["cover_flair"]) > 0.99


def test_numbers_do_not_depend_on_the_unit_of_intensity() -> None:
    t1w, flair, brain = pair()
    before = measure(t1w, flair, brain, GRID)
    after = measure((3 * t1w + 50) * brain, (0.2 * flair - 7) * brain, brain, GRID)
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=0.02, abs=0.01), name


def test_a_moved_scan_resembles_the_template_less() -> None:
    t1w, flair, brain = pair()
    values = [measure(*(np.roll(one, by, 1) for one in (t1w, flair, brain)), GRID) for by in (0, 1, 3)]
    for name in ("template_nmi", "template_dice"):
        assert values[0][name] > values[1][name] > values[2][name]
    assert values[1]["pair_nmi"] == pytest.approx(values[0]["pair_nmi"], abs=0.01)


def test_a_flair_beside_its_t1w_agrees_less() -> None:
    t1w, flair, brain = pair()
    agree = [measure(t1w, np.roll(flair, by, 0), brain, GRID)["pair_nmi"] for by in (0, 1, 2)]
    assert agree[0] > agree[1] > agree[2]


@pytest.mark.parametrize("shift", [(3, 0, 0), (0, 3, 0), (0, 0, -3)])
def test_a_flair_that_lies_elsewhere_is_held_in_a_cohort_of_one(shift: tuple[int, int, int]) -> None:
    t1w, flair, brain = pair()
    assert judge_scans([measure(t1w, flair, brain, GRID)])[0].verdict == "ok"
    numbers = measure(t1w, np.roll(flair, shift, (0, 1, 2)), brain, GRID)
    assert numbers["fluid_flair"] < 0.8 < 2 < measure(t1w, flair, brain, GRID)["fluid_flair"]
    assert {finding.name for finding in judge_scans([numbers])[0].findings} >= {"fluid_flair"}


def test_an_image_with_bright_fluid_is_no_flair() -> None:
    t1w, flair, brain = pair()
    (judged,) = judge_scans([measure(t1w, -flair, brain, GRID)])
    assert "FLAIR is not dark where the T1w shows fluid" in [finding.message for finding in judged.findings]


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_a_t1w_given_as_flair_is_named(sigma: float) -> None:
    t1w, _, brain = pair()
    (judged,) = judge_scans([measure(t1w, gaussian_filter(2 * t1w + 7, sigma), brain, GRID)])
    assert judged.verdict == "held"
    assert "FLAIR is a copy of the T1w, or another T1w" in [finding.message for finding in judged.findings]


def test_a_flair_counts_where_it_was_seen() -> None:
    t1w, flair, brain = pair()
    field = np.ones(GRID.shape, bool)
    field[:, :, 34:] = False
    numbers = measure(t1w, np.where(field, flair, flair[brain & field].mean()) * brain, brain, GRID, field=field)
    seen = measure(t1w, flair, brain & field, GRID, field=field)
    for name in ("pair_nmi", "pair_correlation", "fluid_flair", "contrast_order", "noise_flair", "contrast_flair"):
        assert numbers[name] == seen[name], name
    assert numbers["brain_ml"] > seen["brain_ml"]
    assert numbers["cover_flair"] == pytest.approx((brain & field).sum() / brain.sum(), abs=0.01)
    unseen = measure(t1w, 0 * flair, brain, GRID, field=~brain)
    assert judge_scans([unseen])[0].verdict == "held"


def test_swapped_images_change_the_sign() -> None:
    t1w, flair, brain = pair()
    assert measure(flair, t1w, brain, GRID)["contrast_order"] == pytest.approx(
        -measure(t1w, flair, brain, GRID)["contrast_order"]
    )
    assert np.isnan(tissue_contrast(np.ones(GRID.shape), brain, GRID))


def test_noise_is_that_which_was_added() -> None:
    """Of pure noise the estimate is the standard deviation, and what varies smoothly adds nothing."""
    rng = np.random.default_rng(3)
    brain = np.ones((40, 44, 30), bool)
    assert noise(rng.normal(7, 5, brain.shape), brain) == pytest.approx(1, abs=0.02)
    x, y, _ = np.indices(brain.shape)
    smooth = 100 * np.sin(x / 15) * np.cos(y / 15)
    noisy = smooth + rng.normal(0, 5, brain.shape)
    assert noise(noisy, brain) * noisy.std() == pytest.approx(5, rel=0.05)
    assert noise(smooth, brain) < 0.01


def test_mutual_information_has_its_bounds() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=20_000)
    assert normalised_mutual_information(one, one) == pytest.approx(2)
    assert normalised_mutual_information(one, -3 * one + 1) == pytest.approx(2, abs=0.05)
    assert normalised_mutual_information(one, rng.normal(size=one.size)) < 1.02
    assert np.isnan(normalised_mutual_information(one, np.ones_like(one)))
    assert np.isnan(normalised_mutual_information(one[:10], one[:10]))


def test_a_cut_brain_misses_the_region_that_was_cut() -> None:
    _, _, brain = pair()
    low = int(np.flatnonzero(brain.any(axis=(0, 1)))[0])
    cut = brain.copy()
    cut[:, :, : low + 10] = False
    shares = cut_shares(cut, GRID)
    assert shares["brainstem"] > 0.3
    assert shares["ventricles"] < shares["brainstem"]
    field = np.ones(GRID.shape, bool)
    field[:, :, : low + 10] = False
    assert cut_shares(brain, GRID, field)["brainstem"] == pytest.approx(shares["brainstem"])
    assert cut_shares(brain, GRID)["global"] == 0


def test_what_lies_beyond_the_grid_was_not_seen() -> None:
    short = Grid.of((50, 61, 20), GRID.matrix)
    shares = cut_shares(template_on(short) > 0, short)
    assert shares["global"] > 0.4
    assert shares["brainstem"] < 0.2


def test_an_image_that_ends_inside_the_brain_does_not_cover_it() -> None:
    t1w, flair, brain = pair()
    flair = flair.copy()
    flair[:25] = 0
    numbers = measure(t1w, flair, brain, GRID)
    assert numbers["cover_flair"] < 0.7 < 0.99 < numbers["cover_t1w"]
    assert np.isnan(cover(np.array([])))


def test_arrays_of_different_shapes_are_refused() -> None:
    t1w, flair, brain = pair()
    with pytest.raises(ValueError, match="they must be equal"):
        measure(t1w, flair[1:], brain, GRID)
    with pytest.raises(ValueError, match="brain mask is empty"):
        measure(t1w, flair, brain & False, GRID)


def header(change: Callable[[nib.Nifti1Image], None]) -> dict[str, float]:
    affine = np.array([[1.5, 0, 0, -10], [0, 2, 0, 4], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    change(image)
    return header_numbers(image)


def test_a_header_tells_left_from_right() -> None:
    mirrored = np.diag([-1.5, 2, 2.5, 1.0])
    sound = header(lambda image: None)
    assert (sound["left_right_known"], sound["left_right_contradiction"]) == (1, 0)
    assert sound["sform_qform_mm"] == pytest.approx(0, abs=1e-3)
    assert header(lambda image: image.set_sform(mirrored, code=2))["left_right_contradiction"] == 1
    assert header(lambda image: image.set_sform(None, code=0))["left_right_known"] == 1

    def damaged(image: nib.Nifti1Image) -> None:
        image.set_qform(mirrored, code=2)
        for name in ("quatern_b", "quatern_c", "quatern_d"):
            image.header[name] = 1

    assert header(damaged)["left_right_contradiction"] == 1

    def neither(image: nib.Nifti1Image) -> None:
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)

    assert header(neither)["left_right_known"] == 0
