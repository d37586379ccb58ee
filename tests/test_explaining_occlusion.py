"""Region occlusion is captum's feature ablation, region sums are those of a loop over voxels, regions are disjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from small_networks import close, made, plain_log_odds, scans

from experiments.explaining.occlusion import mean_image, occluded, occlusion
from experiments.explaining.pieces import pieces_of
from experiments.explaining.shares import densities, image_shares, strength
from regions.atlas import load_template, region_mask
from regions.catalog import REGIONS, Region
from regions.errors import UserError
from regions.grid import Grid

COARSE = Grid.of(
    (26, 32, 28), np.diag([6.0, 6.0, 6.0, 1.0]) + np.array([[0, 0, 0, -75.0], [0, 0, 0, -110], [0, 0, 0, -70], [0] * 4])
)


def numbered(shape: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.randint(0, count + 1, shape, generator=torch.Generator().manual_seed(3))


def test_occlusion_is_captums_feature_ablation() -> None:
    module, image, index = made(), scans(), numbered((8, 12, 16), 4)
    average = mean_image([image, image * 0.5])
    ablation = FeatureAblation(plain_log_odds(module))
    changes = ablation.attribute(image, baselines=average[None].expand_as(image), feature_mask=index[None, None])
    values = occlusion(module, image, index, 4, average)
    for number in range(1, 5):
        expected = torch.stack([change[:, index == number].flatten()[0] for change in changes])
        assert close(values[:, 0] - values[:, number], expected)
    assert close(values[:, 0], plain_log_odds(module)(image).detach())


def test_a_region_is_replaced_and_nothing_else_is_touched() -> None:
    image, region = scans(), numbered((8, 12, 16), 1) == 1
    average = torch.full((2, 8, 12, 16), 7.0)
    changed = occluded(image, region, average)
    assert torch.equal(changed[:, :, region], torch.full_like(changed[:, :, region], 7.0))
    assert torch.equal(changed[:, :, ~region], image[:, :, ~region])


def test_the_mean_image_is_that_of_all_scans_whatever_the_batches() -> None:
    image = scans()
    assert torch.allclose(mean_image([image[:1], image[1:]]), image.mean(dim=0), atol=1e-6)
    with pytest.raises(UserError, match="no training scan"):
        mean_image([])


def test_a_region_that_the_network_does_not_see_changes_nothing() -> None:
    module, image = made(), scans()
    index = torch.zeros(8, 12, 16, dtype=torch.int64)
    index[0, 0, 0] = 1
    image[:] = image[:1]
    assert torch.allclose(*occlusion(module, image, index, 1, image[0]).T)


def test_region_sums_are_those_of_a_loop_over_voxels() -> None:
    relevance, index = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)), numbered((4, 5, 6), 3)
    shown = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.3
    sums, counts, images = [0.0] * 4, [0] * 4, [0.0, 0.0]
    for i in range(4):
        for j in range(5):
            for k in range(6):
                if shown[i, j, k]:
                    both = [abs(float(relevance[c, i, j, k])) for c in range(2)]
                    sums[int(index[i, j, k])] += sum(both) / 2
                    counts[int(index[i, j, k])] += 1
                    images = [total + value for total, value in zip(images, both, strict=True)]
    everywhere = sum(sums) / sum(counts)
    expected = [sums[number] / counts[number] / everywhere for number in (1, 2, 3)]
    assert densities(strength(relevance), shown, index, 3).tolist() == pytest.approx(expected, rel=1e-6)
    assert image_shares(relevance, shown).tolist() == pytest.approx([images[0] / sum(images), images[1] / sum(images)])


def test_a_region_that_a_scan_does_not_show_has_no_density() -> None:
    index = torch.tensor([[[1, 1, 2]]])
    found = densities(torch.ones(1, 1, 3), torch.tensor([[[True, True, False]]]), index, 2)
    assert found[0] == 1
    assert torch.isnan(found[1])
    assert torch.isnan(densities(torch.zeros(1, 1, 3), torch.ones(1, 1, 3, dtype=torch.bool), index, 2)).all()


def test_the_whole_brain_shows_five_regions_that_share_no_voxel() -> None:
    pieces = pieces_of(REGIONS["global"], REGIONS.values(), COARSE)
    assert set(pieces.names) == set(REGIONS) - {"global"}
    assert dict(zip(pieces.names, pieces.without, strict=True))["gray_matter"] == ("subcortical_gray_matter",)
    for number, name in enumerate(pieces.names, 1):
        own = region_mask(REGIONS[name], COARSE)
        taken = region_mask(REGIONS["subcortical_gray_matter"], COARSE) if name == "gray_matter" else np.zeros_like(own)
        assert np.array_equal(pieces.index == number, own & ~taken)
    assert pieces.voxels == [int((pieces.index == number).sum()) for number in range(1, 6)]


def test_a_part_of_an_input_stands_alone_and_the_input_itself_does_not() -> None:
    pieces = pieces_of(REGIONS["gray_matter"], REGIONS.values(), COARSE)
    assert pieces.names == ("subcortical_gray_matter",)
    assert not pieces.several
    assert pieces_of(REGIONS["brainstem"], REGIONS.values(), COARSE).names == ()


def test_own_regions_join_and_a_region_of_which_little_is_left_goes() -> None:
    own = [Region("left_cortex", (3,), "left", "own"), Region("right_cortex", (42,), "right", "own")]
    again = Region("stem", REGIONS["brainstem"].labels, "the same voxels", "own")
    flair = Region("stem_flair", REGIONS["brainstem"].labels, "another set of images", "own", images=("flair",))
    pieces = pieces_of(REGIONS["global"], [*REGIONS.values(), *own, again, flair], COARSE)
    assert "gray_matter" not in pieces.names
    assert {"left_cortex", "right_cortex", "brainstem", "subcortical_gray_matter"} <= set(pieces.names)
    assert not {"stem", "stem_flair", "global"} & set(pieces.names)


def test_pieces_differ_in_their_digest_where_a_voxel_does() -> None:
    labels, grid = load_template()
    pieces = pieces_of(REGIONS["global"], REGIONS.values(), COARSE)
    moved = type(pieces)(pieces.names, pieces.without, np.roll(pieces.index, 1, axis=0))
    assert labels.shape == grid.shape
    assert pieces.digest == pieces_of(REGIONS["global"], REGIONS.values(), COARSE).digest != moved.digest
