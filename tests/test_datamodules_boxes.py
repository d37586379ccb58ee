"""Boxes cut out of volumes, and the mask and box of each input."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.store.boxes import SUBJECT_ROOM_MM, crop_to_box, region_step
from regions.catalog import REGIONS, get_region
from regions.grid import Box, Grid

GRID = Grid.of((30, 37, 31), np.array([[5.0, 0, 0, -72.5], [0, 5, 0, -110], [0, 0, 5, -75], [0, 0, 0, 1]]))


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((1, 2, 3), (5, 4, 6)),
        ((-2, -1, -3), (4, 5, 6)),
        ((3, 2, 1), (9, 11, 10)),
        ((-1, -1, -1), (7, 8, 9)),
        ((0, 0, 0), (5, 6, 7)),
    ],
)
def test_crop_agrees_with_padding_first(start: tuple[int, int, int], stop: tuple[int, int, int], lead: tuple[int, ...]) -> None:
    whole = np.random.default_rng(0).integers(1, 99, (*lead, 5, 6, 7)).astype(np.uint8)
    padded = np.pad(whole, [(0, 0)] * len(lead) + [(9, 9)] * 3)
    expected = padded[(..., *(slice(a + 9, b + 9) for a, b in zip(start, stop, strict=True)))]
    found = crop_to_box(whole, Box(start, stop))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == whole.dtype


@pytest.mark.parametrize(("start", "stop"), [((5, 0, 0), (9, 3, 3)), ((-4, 0, 0), (0, 3, 3)), ((0, 90, 0), (2, 93, 3))])
def test_crop_beside_the_array_is_zero(start: tuple[int, int, int], stop: tuple[int, int, int]) -> None:
    box = Box(start, stop)
    found = crop_to_box(np.ones((5, 6, 7), bool), box)
    assert found.shape == box.shape
    assert not found.any()


def test_crop_is_a_copy() -> None:
    whole = np.ones((5, 6, 7))
    crop_to_box(whole, Box((0, 0, 0), (5, 6, 7)))[:] = 0
    assert whole.all()


@pytest.mark.parametrize("name", REGIONS)
def test_box_holds_the_whole_region(name: str) -> None:
    mask, box = region_step(get_region(name), GRID, "template", 3.0, 4)
    assert all(side % 4 == 0 for side in box.shape)
    if name == "global":
        assert mask is None
    else:
        assert mask is not None
        assert crop_to_box(mask, box).sum() == mask.sum() > 0


def test_modes_differ_in_room_only() -> None:
    region = get_region("brainstem")
    template, dilated, subject = (
        region_step(region, GRID, mode, 6.0, 1) for mode in ("template", "template-dilated", "subject")
    )
    assert template[0] is not None
    assert dilated[0] is not None
    assert subject[0] is not None
    assert (template[0] <= dilated[0]).all()
    assert template[0].sum() < dilated[0].sum() < subject[0].sum()
    room = np.array(template[1].start) - subject[1].start
    assert (room >= SUBJECT_ROOM_MM / 5.0 - 1e-9).all()


def test_whole_brain_has_one_box_in_all_modes() -> None:
    boxes = {region_step(get_region("global"), GRID, mode, 6.0, 4)[1] for mode in ("template", "template-dilated", "subject")}
    assert len(boxes) == 1


@pytest.mark.parametrize("name", ["global", "brainstem"])
def test_unknown_mode_names_the_modes(name: str) -> None:
    with pytest.raises(ValueError, match=r"mask mode 'own' does not exist; modes are template, template-dilated, subject"):
        region_step(get_region(name), GRID, "own", 3.0, 4)
