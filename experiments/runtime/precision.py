"""The number format a device computes in."""

from __future__ import annotations

import torch

TENSOR_CORES = (7, 0)
"""Compute capability from which GPUs (V100, T4, ...) multiply matrices in fp16 several times as fast as in float32."""


def best_precision(accelerator: str) -> str:
    """bf16 on a GPU that computes in it, fp16 with a scaled loss on older GPUs with tensor cores, else float32.

    A CPU computes in float32 also where it has bf16 instructions: the steps of ``lightning_modules.cpu`` are faster than
    bf16 there. ``trainer.precision`` overrules.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed"
        return "16-mixed" if torch.cuda.get_device_capability() >= TENSOR_CORES else "32-true"
    return "32-true"
