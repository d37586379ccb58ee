"""Volumes, means and shares of attribution."""

from math import isnan

import numpy as np
import pytest

from regions.catalog import REGIONS, Region
from regions.measure import attribution_share, region_means, region_volumes

SHAPE = (20, 22, 24)


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:12, 3:13, 4:14] = 2
    labels[2:7, 3:5, 4:14] = 16
    return labels


def test_volumes_count_voxels_and_millilitres(labels: np.ndarray) -> None:
    volumes = region_volumes(labels, 8.0, REGIONS.values())
    assert list(volumes) == list(REGIONS)
    assert volumes["global"] == (1000, 8.0)
    assert volumes["brainstem"] == (100, 0.8)
    assert volumes["white_matter"].voxels == 900
    assert volumes["ventricles"] == (0, 0.0)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_a_voxel_without_volume_is_refused(labels: np.ndarray, size: float) -> None:
    with pytest.raises(ValueError, match="volume of a voxel is positive"):
        region_volumes(labels, size, REGIONS.values())


def test_means_are_taken_inside_each_region_and_undefined_without_voxels(labels: np.ndarray) -> None:
    image = np.where(labels == 16, 3.0, np.where(labels == 2, 1.0, 99.0)).astype(np.float16)
    means = region_means(image, labels, REGIONS.values())
    assert means["brainstem"] == 3.0
    assert means["white_matter"] == 1.0
    assert means["global"] == pytest.approx(1.2)
    assert isnan(means["ventricles"])


def test_an_even_map_has_ratio_one_in_every_region(labels: np.ndarray) -> None:
    shares = attribution_share(np.full(SHAPE, -2.0), labels, [REGIONS["brainstem"], REGIONS["white_matter"]])
    assert shares["brainstem"] == pytest.approx((0.1, 0.1, 1.0))
    assert shares["white_matter"] == pytest.approx((0.9, 0.9, 1.0))


def test_a_map_on_one_region_has_the_inverse_volume_as_ratio(labels: np.ndarray) -> None:
    attribution = np.where(labels == 16, -1.0, 0.0)
    attribution[labels == 0] = 1000.0
    shares = attribution_share(attribution, labels, [*REGIONS.values(), Region("none", (255,), "", "")])
    assert shares["brainstem"] == pytest.approx((1.0, 0.1, 10.0))
    assert shares["white_matter"].ratio == 0
    assert shares["global"] == pytest.approx((1.0, 1.0, 1.0))
    assert isnan(shares["none"].ratio)


def test_a_map_of_zeros_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="0 in the whole brain"):
        attribution_share(np.zeros(SHAPE), labels, REGIONS.values())


def test_a_map_with_nan_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="nan or infinite values in the brain"):
        attribution_share(np.full(SHAPE, np.nan), labels, REGIONS.values())


def test_an_image_on_another_grid_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="different shapes"):
        region_means(np.zeros((2, 3, 4)), labels, REGIONS.values())
