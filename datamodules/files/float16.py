"""Conversion between float16 and float32 by PyTorch, which is up to twenty times as fast as NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PIECE = 2**15
"""Values converted at once: above this size PyTorch starts a team of threads for each calling thread."""


def to_half(values: npt.NDArray[np.float32], out: npt.NDArray[np.float16]) -> None:
    """Round (n,) values to float16, into ``out`` (n,)."""
    _convert(values, out)


def to_single(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """The (n,) values as float32."""
    single = np.empty(values.shape, np.float32)
    _convert(values, single)
    return single


def _convert(values: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    import torch

    source, target = torch.from_numpy(values), torch.from_numpy(out)
    for start in range(0, values.size, PIECE):
        target[start : start + PIECE].copy_(source[start : start + PIECE])
