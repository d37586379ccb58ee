"""A network's passes over volumes of one shape, recorded as CUDA graphs. Needs torch alone.

A step on a small volume costs the host several times what it costs the GPU: hundreds of kernels are launched one by one. A
recorded pass is launched as one. It computes what was recorded, kernel by kernel, so its numbers are the network's own.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WARM_UP = 3
"""Passes before the recorded one, in which libraries choose their kernels and take their memory."""


class Recorder:
    """Call a network on a CUDA device: each pass over volumes of a shape seen before is a replay.

    The network must do the same work for all volumes of a shape, without looking at a value on the host. Its parameters and
    buffers must stay where they are in memory; ``clear`` after they have moved.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._recordings: dict[Any, Recording | None] = {}
        self._pool: Any = None

    def clear(self) -> None:
        """Forget all recordings."""
        self._recordings.clear()
        self._pool = None

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to what the network makes of it, in training with gradients for its parameters alone."""
        cast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = image.shape, image.stride(), image.dtype, image.device, cast, self.network.training
        if key not in self._recordings:
            self._recordings[key] = self._recorded(image, cast)
        recording = self._recordings[key]
        if recording is None:
            out: Tensor = self.network(image)
            return out
        if recording.parameters:
            out = Replay.apply(recording, image, *recording.parameters)
            return out
        return recording.forward(image)

    def _recorded(self, image: Tensor, cast: torch.dtype | None) -> Recording | None:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        own = torch.cuda.current_stream(image.device)
        try:
            return Recording(self.network, image, cast, self._pool)
        except RuntimeError as error:
            torch.cuda.set_stream(own)  # a recording that fails leaves its own stream in place
            torch.cuda.synchronize(image.device)
            self._pool = None
            shape, reason = "x".join(map(str, image.shape)), str(error).partition("\n")[0]
            warnings.warn(
                f"batches of {shape} are trained without a CUDA graph, slower where they are small: {reason}", stacklevel=2
            )
            return None


class Recording:
    """One shape's pass, and in training its way back.

    Args:
        network: On a CUDA device; with gradients if it is in training, else without.
        image: (B, C, I, J, K), as the passes to come will be given.
        cast: The number type of autocast, None without.
        pool: Memory that all recordings of a network share; they are replayed one after another.
    """

    def __init__(self, network: nn.Module, image: Tensor, cast: torch.dtype | None, pool: Any) -> None:
        self._network, self._cast, self._image = network, cast, image.detach().clone()
        self.parameters = [one for one in network.parameters() if one.requires_grad] if network.training else []
        buffers = list(network.buffers())
        kept, randomness = [one.clone() for one in buffers], torch.cuda.get_rng_state(image.device)
        self._flat = torch.zeros(sum(one.numel() for one in self.parameters), device=image.device)
        try:
            self._warm_up()
            self._record(pool)
        finally:
            for one, value in zip(buffers, kept, strict=True):
                one.copy_(value)
            torch.cuda.set_rng_state(randomness, image.device)

    def _record(self, pool: Any) -> None:
        self._forward = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._forward, pool=pool, capture_error_mode="thread_local"):
            out = self._run()
        self._out = out.detach()
        if self.parameters:
            self._gradient = torch.zeros_like(self._out)
            self._backward = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._backward, pool=pool, capture_error_mode="thread_local"):
                self._way_back(out, self._gradient)

    def _run(self) -> Tensor:
        with torch.autocast("cuda", self._cast, enabled=self._cast is not None, cache_enabled=False):
            out: Tensor = self._network(self._image)
        return out

    def _way_back(self, out: Tensor, gradient: Tensor) -> None:
        found = torch.autograd.grad(out, self.parameters, gradient)
        torch._foreach_copy_(self._parts(self._flat), list(found))

    def _warm_up(self) -> None:
        own, other = torch.cuda.current_stream(), torch.cuda.Stream()
        other.wait_stream(own)
        with torch.cuda.stream(other):
            for _ in range(WARM_UP):
                out = self._run()
                if self.parameters:
                    self._way_back(out, torch.zeros_like(out))
        own.wait_stream(other)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """A parameter-like view of each parameter's stretch of a flat tensor."""
        parts, at = [], 0
        for one in self.parameters:
            parts.append(flat.as_strided(one.size(), one.stride(), at))
            at += one.numel()
        return parts

    def forward(self, image: Tensor) -> Tensor:
        """Replay the pass."""
        self._image.copy_(image)
        self._forward.replay()
        return self._out.clone()

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """Replay the way back; the gradients lie in memory of their own, which later replays leave alone."""
        self._gradient.copy_(gradient)
        self._backward.replay()
        return self._parts(self._flat.clone())


class Replay(torch.autograd.Function):
    """A recorded pass in the place of the network."""

    @staticmethod
    def forward(ctx: Any, recording: Recording, image: Tensor, *parameters: Tensor) -> Tensor:
        """Replay the pass."""
        ctx.recording = recording
        return recording.forward(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Replay the way back."""
        return None, None, *ctx.recording.backward(gradient)
