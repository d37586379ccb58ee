"""Tensors by name in the safetensors format: 8 bytes with the length of a JSON header, the header, the tensors' bytes.

Nothing in such a file is run. What a damaged or hostile header says is compared with the file before memory is taken.

References:
    https://github.com/huggingface/safetensors, section Format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LENGTH, ALIGNED = 8, 8
"""Bytes of the header's length; the tensors begin at a multiple of this."""
MOST_HEADER = 2**27
"""Bytes of a header, at most, as the format has it."""


def read_tensors(content: bytes) -> dict[str, Tensor]:
    """Read all tensors.

    Args:
        content: The file.

    Raises:
        ValueError: if it is not in the format, or its header does not describe its bytes from the first to the last.
    """
    length = int.from_bytes(content[:LENGTH], "little")
    if len(content) < LENGTH or not 2 <= length <= min(len(content) - LENGTH, MOST_HEADER):
        raise ValueError(f"{len(content)} bytes do not hold a header of {length}")
    header = json.loads(content[LENGTH : LENGTH + length])
    if not isinstance(header, dict):
        raise ValueError("the header is no table of tensors")
    header.pop("__metadata__", None)
    data = memoryview(content)[LENGTH + length :]
    _check_spans(header, len(data))
    return {name: _tensor(entry, data) for name, entry in header.items()}


def _check_spans(header: Mapping[str, Any], size: int) -> None:
    """Refuse tensors that overlap, leave bytes out or reach beyond the file."""
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: list(_span(*item))):
        first, last = _span(name, entry)
        shape, dtype = entry.get("shape"), DTYPES.get(entry.get("dtype"))
        if dtype is None or not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"tensor {name!r} has type {entry.get('dtype')!r} and shape {shape!r}")
        if first != at or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name!r} of shape {shape} does not fill bytes {first} to {last}")
        at = last
    if at != size:
        raise ValueError(f"tensors end at byte {at} of {size}")


def _span(name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(end) is int for end in offsets):
        raise ValueError(f"tensor {name!r} does not say where it lies")
    return offsets[0], offsets[1]


def _tensor(entry: Mapping[str, Any], data: memoryview) -> Tensor:
    first, last = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    values = torch.frombuffer(bytearray(data[first:last]), dtype=dtype) if last > first else torch.empty(0, dtype=dtype)
    return values.reshape(entry["shape"])


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file, the same bytes for the same tensors in any order.

    Args:
        tensors: By name, of the types in ``DTYPES``; each is brought to the CPU and written in C order.
        metadata: Texts by name.

    Raises:
        ValueError: if a tensor has another type.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, at = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in NAMES:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, which a safetensors file does not hold")
        part = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return b"".join([len(text).to_bytes(LENGTH, "little"), text, *parts])
