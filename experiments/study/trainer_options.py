"""Which options of Lightning's Trainer a user can set, and why not the others."""

from __future__ import annotations

import inspect
import math
from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

import yaml

from regions.errors import UserError

TRAINER_OPTIONS = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "max_epochs", "min_epochs", "max_steps", "min_steps",
    "max_time", "limit_train_batches", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm",
    "deterministic", "benchmark", "inference_mode", "sync_batchnorm", "detect_anomaly", "profiler", "enable_progress_bar",
    "enable_model_summary",
)  # fmt: skip
CHOOSING = (
    "fast_dev_run", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches", "val_check_interval",
    "check_val_every_n_epoch", "num_sanity_val_steps", "reload_dataloaders_every_n_epochs", "use_distributed_sampler",
)  # fmt: skip
"""Options that change which scans are trained on, choose the epoch or are predicted."""


class SettingsError(UserError):
    """A setting that does not exist or has a value that is not allowed."""


def refusal(name: str) -> SettingsError:
    """What is said about an option of the Trainer that cannot be set."""
    why = "every epoch is chosen by all tuning scans, and all tuning and test scans are predicted once"
    if name not in CHOOSING:
        why = "the run's folder, its checkpoints and its logs are the run's own"
    return SettingsError(f"trainer.{name} cannot be set: {why}; options of the Trainer are {', '.join(TRAINER_OPTIONS)}")


def refused_options() -> dict[str, Any]:
    """The Trainer's own options that cannot be set, with Lightning's defaults."""
    from pytorch_lightning import Trainer

    parameters = inspect.signature(Trainer).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name not in TRAINER_OPTIONS}


def check_trainer(options: Mapping[str, Any]) -> None:
    """Refuse options that cannot be set, and numbers that would train nothing.

    Raises:
        SettingsError: naming the first, its value and what is allowed.
    """
    defaults = refused_options()
    for name, value in options.items():
        if name in defaults and value != defaults[name]:
            raise refusal(name)
    for name in ("max_epochs", "accumulate_grad_batches"):
        if not options[name] or options[name] < 1:
            raise SettingsError(f"trainer.{name} is {options[name]}; give 1 or more")
    steps, clip = options["max_steps"], options["gradient_clip_val"]
    if steps != -1 and steps < 1:
        raise SettingsError(f"trainer.max_steps is {steps}; give 1 or more, or -1 for as many as the epochs have")
    if clip is not None and not 0 <= clip < math.inf:
        raise SettingsError(f"trainer.gradient_clip_val is {clip}; give a number from 0 on, or null for no limit")


def batch_limit(value: Any) -> int | float | None:
    """``limit_train_batches`` as Lightning means it, which an annotation cannot say: 1 is one batch, 1.0 all of them.

    Raises:
        ArgumentTypeError: if it is neither a number of batches nor a share.
    """
    try:
        given = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        given = value
    whole, share = type(given) is int and given >= 1, type(given) is float and 0 < given <= 1
    if given is not None and not whole and not share:
        raise ArgumentTypeError(
            f"{value} is neither a whole number of batches, such as 1, nor a share, such as 0.5 or 1.0 for all"
        )
    return given


def trainer_options(values: Any) -> dict[str, Any]:
    """The user's options of instantiated settings, as Lightning's Trainer takes them."""
    return {name: value for name, value in values.trainer.as_dict().items() if name in TRAINER_OPTIONS}
