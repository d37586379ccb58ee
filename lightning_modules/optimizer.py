"""Which numbers an optimiser can train with; asked before any work is done, so that this needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_modules.errors import ModelError


def check_optimizer(
    learning_rate: float,
    lr_decay: float,
    warmup_epochs: int,
    betas: Sequence[float],
    weight_decay: float,
    class_weights: Sequence[float] | None,
) -> None:
    """Refuse numbers with which nothing is learned, or the loss is climbed.

    Raises:
        ModelError: naming the setting, its value and what is allowed.
    """
    allowed = (
        ("learning_rate", learning_rate, _above_0(learning_rate), "a number above 0"),
        ("lr_decay", lr_decay, _above_0(lr_decay), "a number above 0, such as 0.99"),
        ("warmup_epochs", warmup_epochs, warmup_epochs >= 0, "0 or more"),
        ("betas", list(betas), all(0 <= beta < 1 for beta in betas), "two numbers from 0 to below 1"),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "a number from 0 on"),
        ("class_weights", list(class_weights or ()), all(map(_above_0, class_weights or ())), "two numbers above 0"),
    )
    for name, value, fits, example in allowed:
        if not fits:
            raise ModelError(f"model.{name} is {value}; give {example}")


def _above_0(number: float) -> bool:
    return 0 < number < math.inf
