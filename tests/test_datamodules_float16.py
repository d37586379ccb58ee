import numpy as np
import pytest

from datamodules.files.float16 import PIECE, to_half, to_single


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_values_are_rounded_as_numpy_rounds_them(size: int) -> None:
    rng = np.random.default_rng(size)
    values = (rng.normal(size=size) * 10.0 ** rng.integers(-9, 4, size)).astype(np.float32)
    half = np.empty(size, np.float16)
    to_half(values, half)
    np.testing.assert_array_equal(half.view(np.uint16), values.astype(np.float16).view(np.uint16))
    np.testing.assert_array_equal(to_single(half), half.astype(np.float32))


def test_every_half_comes_back_as_itself() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    single, back = to_single(every), np.empty(every.size, np.float16)
    to_half(single, back)
    np.testing.assert_array_equal(single, every.astype(np.float32))
    np.testing.assert_array_equal(back, every)


def test_a_share_of_an_array_can_be_filled() -> None:
    whole = np.zeros(10, np.float16)
    to_half(np.arange(1, 4, dtype=np.float32), whole[4:7])
    assert whole.tolist() == [0, 0, 0, 0, 1, 2, 3, 0, 0, 0]
