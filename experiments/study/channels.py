"""A network takes as many channels as a study has images."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from datamodules.cohort.images import titles
from experiments.study.trainer_options import SettingsError

ARGUMENTS = ("in_channels", "in_chans", "n_input_channels", "input_channels", "img_channels")
"""What classes call the number of channels of their input."""


def fit_channels(network: Any, images: Sequence[str]) -> None:
    """Set the channels of a network that was given none: its own default then stands for the study's number.

    Args:
        network: ``class_path`` and ``init_args``; changed in place.
        images: The study's images.

    Raises:
        SettingsError: if another number was given.
    """
    if not network:
        return
    module, _, name = network["class_path"].rpartition(".")
    options = network.get("init_args") or {}
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    for argument in (name for name in ARGUMENTS if name in parameters and name in options):
        given = options[argument]
        if given == parameters[argument].default:
            options[argument] = len(images)
        elif given != len(images):
            reads = f"the study reads {len(images)} image{'s' if len(images) > 1 else ''} ({titles(images)})"
            raise SettingsError(f"network.{argument} is {given}, and {reads}; give --network.{argument} {len(images)}")
