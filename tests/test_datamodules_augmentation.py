"""Random changes of training scans: exact geometry, repeatable randomness, and nothing that depends on batch or box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.batches import augmenter as augmenter_module
from datamodules.batches.augmentation import Augmentation
from datamodules.batches.augmenter import NOISE_OFFSETS, Augmenter, mirror_of, rotation
from regions.grid import Box, Grid

SHAPE = (20, 22, 24)
SPACING = (2.0, 3.0, 2.5)
NOTHING = Augmentation(flip=0, shift_mm=0, noise=0)
EVERYTHING = Augmentation(flip=0.5, shift_mm=6.0, noise=0.1, gamma=0.2, rotate_deg=10.0, scale=0.1)
EXACT = replace(EVERYTHING, rotate_deg=0.0, scale=0.0)
SCANS = 12


def grid_with(zero_at: float, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> Grid:
    """A grid whose plane x = 0 lies at voxel coordinate ``zero_at`` of the first axis."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -zero_at * spacing[0], -33.0, -20.0
    return Grid.of(shape, affine)


GRID = grid_with(9.5)
BOX = Box((4, 5, 6), (16, 17, 18))


def brains(scans: int = SCANS, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """Volumes (scans, 2, *shape): noise in an asymmetric brain that is 0 outside; FLAIR is T1 plus 100."""
    rng = np.random.default_rng(3)
    where = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    inside = (where**2).sum(axis=0) < 0.9 - 0.2 * where[0]
    image = rng.normal(0, 1, (scans, 1, *shape)) + np.array([0, 100.0])[:, None, None, None]
    return torch.from_numpy(np.where(inside, image, 0).astype(np.float32))


def cut(whole: Tensor, box: Box) -> Tensor:
    """Cut a box out of volumes (..., I, J, K), zero where it reaches outside."""
    room = 30
    i, j, k = (slice(a + room, b + room) for a, b in zip(box.start, box.stop, strict=True))
    return F.pad(whole, (room,) * 6)[..., i, j, k]


def augmenter(options: Augmentation, box: Box = BOX, grid: Grid = GRID, seed: int = 0) -> Augmenter:
    return Augmenter(options, box, grid, SCANS, seed)


def run(made: Augmenter, whole: Tensor, rows: list[int], epoch: int = 0) -> Tensor:
    return made(cut(whole, made.read)[rows], torch.tensor(rows), epoch)[0]


def fix(made: Augmenter, **values: object) -> Augmenter:
    """Let epoch 0 have these parameters for every scan."""
    drawn = made.parameters(0)
    full = {name: np.broadcast_to(np.asarray(value), getattr(drawn, name).shape) for name, value in values.items()}
    made._drawn = 0, replace(drawn, **full)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": -0.1}, "augmentation.noise is -0.1; give 0 or more"),
        ({"gamma": float("nan")}, "augmentation.gamma is nan; give 0 or more"),
        ({"shift_mm": float("inf")}, "augmentation.shift_mm is inf; give 0 or more"),
        ({"flip": 1.5}, "augmentation.flip is 1.5; give 1 or less"),
        ({"rotate_deg": 90.0}, "augmentation.rotate_deg is 90.0; give 45 or less"),
        ({"scale": 1.0}, "augmentation.scale is 1.0; give 0.5 or less"),
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**wrong)


def test_nothing_asked_for_changes_nothing() -> None:
    whole = brains()
    assert torch.equal(run(augmenter(NOTHING), whole, [0, 5]), cut(whole, BOX)[[0, 5]])


@pytest.mark.parametrize("options", [EXACT, EVERYTHING], ids=["whole voxels", "interpolating"])
def test_a_seed_repeats_and_seed_0_is_a_seed(options: Augmentation) -> None:
    whole = brains()
    first = run(augmenter(options, seed=0), whole, [1, 2])
    assert torch.equal(first, run(augmenter(options, seed=0), whole, [1, 2]))
    assert not torch.equal(first, run(augmenter(options, seed=1), whole, [1, 2]))


def test_epochs_differ_and_an_epoch_can_be_repeated_later() -> None:
    made, whole = augmenter(EXACT), brains()
    first, second = run(made, whole, [1, 2], epoch=0), run(made, whole, [1, 2], epoch=1)
    assert not torch.equal(first, second)
    assert torch.equal(first, run(made, whole, [1, 2], epoch=0))


def test_scans_differ_within_a_batch_also_where_the_volumes_are_equal() -> None:
    whole = brains(1).expand(SCANS, -1, -1, -1, -1)
    out = run(augmenter(replace(NOTHING, noise=0.1)), whole, [0, 1, 2])
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out[1], out[2])


def test_no_two_scans_of_an_epoch_share_their_noise() -> None:
    made = Augmenter(Augmentation(), BOX, GRID, scans=5000, seed=0)
    assert len(set(made.parameters(0).offset.tolist())) == 5000
    many = Augmenter(Augmentation(), BOX, GRID, scans=NOISE_OFFSETS + 5, seed=0)
    assert len(set(many.parameters(0).offset.tolist())) == NOISE_OFFSETS + 5


@pytest.mark.parametrize("options", [EXACT, EVERYTHING], ids=["whole voxels", "interpolating"])
def test_a_scan_does_not_depend_on_its_batch(options: Augmentation) -> None:
    whole, rows = brains(), [3, 0, 7, 5]
    together = run(augmenter(options), whole, rows)
    alone = torch.cat([run(augmenter(options), whole, [row]) for row in rows])
    backwards = run(augmenter(options), whole, rows[::-1]).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)


def test_switching_one_option_leaves_the_parameters_of_the_others() -> None:
    full, less = augmenter(EVERYTHING).parameters(2), augmenter(replace(EVERYTHING, shift_mm=0, gamma=0)).parameters(2)
    for name in ("flip", "angle", "size", "offset"):
        assert np.array_equal(getattr(full, name), getattr(less, name))
    assert full.noise_seed == less.noise_seed
    assert not less.shift.any()
    assert (less.exponent == 1).all()


def test_noise_does_not_depend_on_whether_a_scan_has_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = brains()
    lacking = whole.clone()
    lacking[3, 0] = 0
    for devices in (("cpu",), ()):
        monkeypatch.setattr(augmenter_module, "ONE_AFTER_ANOTHER", devices)
        made = Augmenter(replace(NOTHING, noise=0.1), BOX, GRID, SCANS, 0, {3: (0,)})
        full, less = run(augmenter(replace(NOTHING, noise=0.1)), whole, [2, 3]), run(made, lacking, [2, 3])
        assert torch.equal(full[0], less[0])
        assert torch.equal(full[1, 1], less[1, 1])
        assert not torch.equal(less[1, 1], cut(whole, BOX)[3, 1])
        assert not less[1, 0].any()


@pytest.mark.parametrize("options", [EXACT, EVERYTHING], ids=["whole voxels", "interpolating"])
def test_channels_stay_in_their_place(options: Augmentation) -> None:
    quiet = replace(options, noise=0.0, gamma=0.0)
    for epoch in range(4):
        out = run(augmenter(quiet), brains(), list(range(SCANS)), epoch)
        inside = out[:, 1] > 99
        assert inside.any()
        assert (out[:, 0].abs() < 6).all()


@pytest.mark.parametrize("zero_at", [9.0, 9.5, 10.0, 10.5])
@pytest.mark.parametrize("sides", [(4, 16), (4, 15)], ids=["even", "odd"])
def test_flip_maps_x_to_minus_x_exactly(zero_at: float, sides: tuple[int, int]) -> None:
    grid, box = grid_with(zero_at), Box((sides[0], 5, 6), (sides[1], 17, 18))
    made, whole = augmenter(replace(NOTHING, flip=1.0), box, grid), torch.zeros(SCANS, 2, *SHAPE)
    marked = [7, 9, 11]
    whole[:, :, marked[0], marked[1], marked[2]] = 5.0
    out = run(made, whole, [0])
    ((_, _, i, j, k),) = (out[:, :1] == 5).nonzero().tolist()
    world = [grid.origin[a] + grid.spacing[a] * (at + box.start[a]) for a, at in enumerate((i, j, k))]
    source = [grid.origin[a] + grid.spacing[a] * at for a, at in enumerate(marked)]
    assert world == pytest.approx([-source[0], source[1], source[2]])


def test_about_half_of_the_scans_are_mirrored() -> None:
    flips = Augmenter(Augmentation(flip=0.5), BOX, GRID, scans=4000, seed=0).parameters(0).flip
    assert 0.46 < flips.mean() < 0.54
    assert Augmenter(Augmentation(flip=1.0), BOX, GRID, scans=50, seed=0).parameters(0).flip.all()


def test_flip_needs_x_0_on_a_voxel_or_between_two() -> None:
    with pytest.raises(ValueError, match=r"it lies 0\.30 voxels beside\. Set --data\.augmentation\.flip 0"):
        mirror_of(grid_with(9.3), Augmentation())
    mirror_of(grid_with(9.3), NOTHING)


def test_shift_moves_by_whole_voxels_of_at_most_shift_mm() -> None:
    made, whole = augmenter(replace(NOTHING, shift_mm=5.0)), brains(5)
    seen = []
    for epoch in range(20):
        shift = made.parameters(epoch).shift
        seen.append(shift)
        moved = Box(*(tuple(int(v) for v in np.array(end) + shift[4]) for end in (BOX.start, BOX.stop)))  # type: ignore[arg-type]
        assert torch.equal(run(made, whole, [4], epoch), cut(whole, moved)[[4]])
    values = np.concatenate(seen)
    assert [sorted(set(values[:, axis].tolist())) for axis in range(3)] == [[-2, -1, 0, 1, 2], [-1, 0, 1], [-2, -1, 0, 1, 2]]


def test_noise_has_the_asked_sd_inside_and_is_zero_outside() -> None:
    whole = brains()
    change = run(augmenter(replace(NOTHING, noise=0.3)), whole, [0, 1, 2, 3]) - cut(whole, BOX)[:4]
    inside = cut(whole, BOX)[:4] != 0
    assert (change[~inside] == 0).all()
    for channel in (0, 1):
        values = change[:, channel][inside[:, channel]]
        assert float(values.std()) == pytest.approx(0.3, rel=0.03)
        assert float(values.mean()) == pytest.approx(0, abs=0.02)
    both = torch.stack([change[:, channel][inside[:, channel]] for channel in (0, 1)])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.05


def test_gamma_keeps_the_order_of_grey_values_and_depends_on_the_voxel_alone() -> None:
    made, whole = (
        augmenter(replace(NOTHING, gamma=0.3)),
        brains() - 100 * torch.tensor([0, 1.0])[:, None, None, None] * (brains() != 0),
    )
    before, after = cut(whole, BOX)[2], run(made, whole, [2])[0]
    order = before.flatten().argsort()
    assert (after.flatten()[order].diff() >= 0).all()
    assert not torch.allclose(before, after)
    assert (after[before == 0] == 0).all()
    exponent = made.parameters(0).exponent[2]
    assert torch.allclose(after, before.sign() * before.abs() ** exponent)


@pytest.mark.parametrize("options", [EXACT, EVERYTHING], ids=["whole voxels", "interpolating"])
def test_a_small_box_shows_what_a_large_one_shows_there(options: Augmentation) -> None:
    whole, small = brains(), Box((6, 9, 2), (12, 13, 8))
    large = run(augmenter(options, Box((0, 0, 0), SHAPE)), whole, [2, 6, 9])
    expected = large[:, :, 6:12, 9:13, 2:8]
    out = run(augmenter(options, small), whole, [2, 6, 9])
    if options.interpolates:
        inside = (out != 0) & (expected != 0)
        assert inside.float().mean() > 0.5
        assert torch.allclose(out[inside], expected[inside], atol=2e-3)
    else:
        assert torch.equal(out, expected)


def test_a_box_that_reaches_outside_the_grid_is_zero_there() -> None:
    out = run(augmenter(EXACT, Box((-2, -3, 16), (22, 5, 28))), brains(), [1])
    assert (out[..., 10:] == 0).all()
    assert (out[:, :, :, :1] == 0).all()


def test_enough_is_read_for_every_rotation() -> None:
    options, whole = replace(NOTHING, flip=0.5, shift_mm=6, rotate_deg=30.0, scale=0.2), brains()
    for epoch in range(3):
        made, generous = augmenter(options), augmenter(options)
        generous.read = Box((-20, -20, -20), (42, 42, 42))
        assert torch.allclose(run(made, whole, [0, 1, 2], epoch), run(generous, whole, [0, 1, 2], epoch), atol=1e-2)


def blob(place_mm: tuple[float, float, float], grid: Grid) -> Tensor:
    """A smooth spot (2, *shape) at a place in mm from the grid's centre."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    where = np.meshgrid(*axes, indexing="ij")
    squared = sum((a - b) ** 2 for a, b in zip(where, place_mm, strict=True))
    return torch.from_numpy(np.exp(-squared / 18.0).astype(np.float32)).expand(2, -1, -1, -1)


def centre_of_mass(image: Tensor, grid: Grid) -> np.ndarray:
    """Centre of a spot (I, J, K) on the grid, in mm from the grid's centre."""
    weights = image.double().numpy()
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    where = np.meshgrid(*axes, indexing="ij")
    return np.array([(weights * a).sum() / weights.sum() for a in where])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [20.0, -20.0])
def test_rotation_turns_right_handed_about_the_named_axis_and_is_rigid_in_mm(axis: int, degrees: float) -> None:
    grid = grid_with(15.5, (32, 24, 28))
    made = augmenter(replace(NOTHING, rotate_deg=45.0), Box((0, 0, 0), grid.shape), grid)
    fix(made, angle=np.deg2rad(degrees) * np.eye(3)[axis])
    i, j = (axis + 1) % 3, (axis + 2) % 3
    start = np.zeros(3)
    start[[axis, i]] = 8.0, 15.0
    whole = blob(tuple(start), grid)[None].expand(SCANS, -1, -1, -1, -1)
    landed = centre_of_mass(run(made, whole, [0])[0, 0], grid)
    expected = np.zeros(3)
    expected[[axis, i, j]] = 8.0, 15 * np.cos(np.deg2rad(degrees)), 15 * np.sin(np.deg2rad(degrees))
    assert landed == pytest.approx(expected, abs=0.2)


def test_three_rotations_follow_each_other_first_axis_first() -> None:
    angle = np.array([np.pi / 2, np.pi / 2, 0])
    assert rotation(angle) @ [0, 1, 0] == pytest.approx([1, 0, 0])
    assert rotation(np.array([0.3, -0.2, 0.1])) @ rotation(np.array([0.3, -0.2, 0.1])).T == pytest.approx(np.eye(3))


def test_scale_makes_the_head_larger() -> None:
    grid = grid_with(15.5, (32, 24, 28))
    made = fix(augmenter(replace(NOTHING, scale=0.3), Box((0, 0, 0), grid.shape), grid), size=1.25)
    whole = blob((8.0, -12.0, 6.0), grid)[None].expand(SCANS, -1, -1, -1, -1)
    assert centre_of_mass(run(made, whole, [0])[0, 0], grid) == pytest.approx([10.0, -15.0, 7.5], abs=0.2)


def test_rotation_by_nothing_gives_the_crop() -> None:
    made, whole = augmenter(replace(EXACT, noise=0, gamma=0, rotate_deg=10.0)), brains()
    fix(made, angle=0.0, size=1.0)
    exact = fix(augmenter(replace(EXACT, noise=0, gamma=0)), shift=made.parameters(0).shift, flip=made.parameters(0).flip)
    assert torch.allclose(run(made, whole, [0, 1, 2]), run(exact, whole, [0, 1, 2]), atol=2e-3)


@pytest.mark.parametrize("options", [EXACT, EVERYTHING, NOTHING], ids=["whole voxels", "interpolating", "nothing"])
@pytest.mark.parametrize("box", [BOX, Box((-3, 5, 6), (23, 17, 28))], ids=["within", "beyond the grid"])
def test_scans_changed_together_equal_those_changed_one_after_another(
    options: Augmentation, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [7, 2, 9, 4, 0]
    whole, labels = brains().half(), torch.arange(SCANS * 20 * 22 * 24).view(SCANS, *SHAPE).to(torch.uint8)
    made = augmenter(options, box)
    assert {bool(flip) for flip in made.parameters(1).flip[rows]} == ({True, False} if options.flip else {False})
    batch = cut(whole, made.read)[rows], torch.tensor(rows), 1, cut(labels, made.read)[rows]
    expected = made(*batch)
    monkeypatch.setattr(augmenter_module, "ONE_AFTER_ANOTHER", ())
    found = augmenter(options, box)(*batch)
    for one, other in zip(expected, found, strict=True):
        assert one is not None
        assert other is not None
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("options", [EXACT, EVERYTHING], ids=["whole voxels", "interpolating"])
def test_the_label_map_moves_with_the_image(options: Augmentation) -> None:
    quiet = replace(options, noise=0.0, gamma=0.0)
    blocks = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    blocks[:, 2:9, 3:12, 4:13], blocks[:, 9:18, 3:12, 4:13], blocks[:, 5:14, 12:19, 11:21] = 10, 41, 255
    made, rows = augmenter(quiet, Box((0, 0, 0), SHAPE)), list(range(SCANS))
    labels = cut(blocks, made.read).expand(SCANS, -1, -1, -1)
    image, moved = made(labels[:, None].float(), torch.tensor(rows), 1, labels)
    assert moved is not None
    assert moved.dtype == torch.uint8
    if not options.interpolates:
        assert torch.equal(moved.float(), image[:, 0])
    assert set(moved.unique().tolist()) == {0, 10, 41, 255}
    pure = torch.zeros_like(image[:, 0], dtype=torch.bool)
    for label in (10, 41, 255):
        pure |= (image[:, 0] - label).abs() < 1e-3
    assert pure.sum() > 0.5 * (moved > 0).sum()
    assert (moved[pure].float() - image[:, 0][pure]).abs().max() < 1e-3


def test_float16_comes_in_and_float32_goes_out() -> None:
    made, whole = augmenter(replace(NOTHING, flip=1.0)), brains().half()
    out = run(made, whole, [0])
    assert out.dtype == torch.float32
    assert torch.equal(out, run(augmenter(replace(NOTHING, flip=1.0)), whole.float(), [0]))


def test_the_batch_that_came_in_is_left_alone() -> None:
    made, whole = augmenter(EVERYTHING), brains()
    batch = cut(whole, made.read)[:2]
    before = batch.clone()
    made(batch, torch.tensor([0, 1]), 0)
    assert torch.equal(batch, before)
