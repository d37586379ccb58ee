"""What a training step must cost on a device: its arithmetic at the device's best rate, its traffic at the best bandwidth.

The rates are measured, not taken from a data sheet: a large matrix product in the step's precision, and a large copy.
Traffic counts what every operation reads and writes, each on its own; fused kernels need less, so a step may come out below.

References:
    Williams, Waterman, Patterson 2009, Commun ACM 52(4):65-76, doi 10.1145/1498765.1498785 (the roofline model).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

VIEWS = (
    "view",
    "expand",
    "slice",
    "select",
    "permute",
    "transpose",
    "alias",
    "detach",
    "unsqueeze",
    "squeeze",
    "as_strided",
    "t.",
)


@dataclass(frozen=True)
class Roof:
    """A device's measured rates."""

    flops: float
    """Floating-point operations per second in a matrix product."""
    bytes: float
    """Bytes per second, read plus written, in a copy."""

    def seconds(self, flops: float, traffic: float) -> float:
        """Least time of work with this arithmetic and this traffic."""
        return max(flops / self.flops, traffic / self.bytes)


class Traffic(TorchDispatchMode):
    """Sum the bytes of all tensors that go into and come out of operations, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count."""
        out = func(*args, **(kwargs or {}))
        if not str(func).removeprefix("aten.").startswith(VIEWS):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def measure_roof(device: torch.device, dtype: torch.dtype) -> Roof:
    """Measure a device's best rates; takes about a second."""
    side, length = (8192, 1 << 28) if device.type == "cuda" else (1024, 1 << 24)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(length, device=device)
    target = torch.empty_like(source)
    return Roof(2 * side**3 / best(lambda: a @ b, device), 8 * length / best(lambda: target.copy_(source), device))


def best(work: Callable[[], Any], device: torch.device, tries: int = 10) -> float:
    """Shortest of several runs in seconds, after one that does not count."""
    return min([timed(work, device) for _ in range(tries + 1)][1:])


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one piece of work, until the device has done it."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count(step: Callable[[], Any]) -> tuple[float, float]:
    """Floating-point operations and bytes moved of one step."""
    counter: AbstractContextManager[Any] = FlopCounterMode(display=False)
    with counter as flops, Traffic() as traffic:
        step()
    return float(flops.get_total_flops()), float(traffic.bytes)
