"""The network of a bundle, made from the name of its class and plain arguments; a bundle cannot name anything that runs code.

Only classes of ``ALLOWED`` packages that are networks are made, and no argument may make one read a file or fetch weights.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bundles.errors import BundleError
from lightning_modules.covariates import covariate_names
from lightning_modules.weights import RANDOM

ALLOWED = ("lightning_modules", "monai.networks", "torch.nn")
CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
FETCHING = re.compile(r"pretrained|weights|url|path|file|ckpt|checkpoint|cache|progress_bar", re.IGNORECASE)
"""Names of arguments whose text may be that of a file."""
MOST_ARGUMENTS = 1000
"""Values, those of lists counted singly."""


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is made: the import path of its class, and its arguments as JSON holds them."""

    class_path: str
    init_args: Mapping[str, Any]


def network_class(class_path: str) -> type[nn.Module]:
    """The class of a network.

    Raises:
        BundleError: if it is not a network of an allowed package, or that package is not installed.
    """
    allowed = f"networks of {', '.join(ALLOWED)} are allowed"
    if not CLASS_PATH.fullmatch(class_path) or not _is_allowed(class_path):
        raise BundleError(f"network {class_path[:100]!r} cannot be in a bundle; {allowed}")
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise BundleError(f"network {class_path}: {error}; install what it needs, for example: pip install monai") from None
    except AttributeError:
        raise BundleError(f"network {class_path}: {module} has no {name}; {allowed}") from None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and _is_allowed(kind.__module__ + ".")):
        raise BundleError(f"network {class_path} is not a torch.nn.Module of these packages; {allowed}")
    return kind


def _is_allowed(path: str) -> bool:
    return any(path.startswith(package + ".") for package in ALLOWED)


def check_arguments(spec: NetworkSpec) -> None:
    """Refuse arguments that are not plain, or that could make a network read a file or fetch weights.

    Raises:
        BundleError: naming the argument.
    """
    for count, (name, value) in enumerate(_values(spec.init_args), start=1):
        fetches = isinstance(value, str) and FETCHING.search(name) and not value.startswith(RANDOM)
        if count > MOST_ARGUMENTS or fetches or _is_pathlike(value) or (name == "pretrained" and value) or name == "class_path":
            raise BundleError(f"network {spec.class_path}: argument {name} = {str(value)[:80]!r} cannot be in a bundle")
        if not isinstance(value, str | int | float | bool | None):
            raise BundleError(f"network {spec.class_path}: argument {name} is no plain value")


def _is_pathlike(value: object) -> bool:
    return isinstance(value, str) and bool(re.search(r"[/\\\0]|://", value) or len(value) > 200)


def covariates_argument(covariates: str) -> str:
    """The argument by which a network knows how many covariates it is given.

    Their names, or numbers where these look like a path; what each is called stands beside the models.
    """
    count = len(covariate_names(covariates))
    return ",".join(map(str, range(1, count + 1))) if _is_pathlike(covariates) else covariates


def _values(arguments: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        inner = value if isinstance(value, list | tuple) else [value]
        for item in inner:
            if isinstance(item, Mapping):
                yield from _values(item, name)
            elif isinstance(item, list | tuple):
                yield from _values({str(name): item})
            else:
                yield str(name), item


def make_network(spec: NetworkSpec, shapes: Mapping[str, tuple[int, ...]] | None = None) -> nn.Module:
    """The network, with weights that are still to be loaded.

    Args:
        spec: Its class and arguments.
        shapes: Shape of each of its weights and buffers; compared on the meta device before any memory is taken.

    Raises:
        BundleError: if the class or an argument is not allowed, or it has other weights.
    """
    kind, arguments = network_class(spec.class_path), dict(spec.init_args)
    check_arguments(spec)
    if "pretrained" in inspect.signature(kind).parameters:
        arguments["pretrained"] = False
    try:
        if shapes is not None:
            with torch.device("meta"):
                _check_shapes(spec, kind(**arguments).state_dict(), shapes)
        return kind(**arguments)
    except BundleError:
        raise
    except (TypeError, ValueError, RuntimeError, NotImplementedError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise BundleError(f"network {spec.class_path} cannot be made from its arguments ({reason})") from None


def _check_shapes(spec: NetworkSpec, made: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    own = {name: tuple(value.shape) for name, value in made.items()}
    odd = sorted(name for name in own.keys() | shapes.keys() if own.get(name) != shapes.get(name))
    if odd:
        what = f"{odd[0]} is {shapes.get(odd[0], 'missing')}, the network has {own.get(odd[0], 'no such weight')}"
        raise BundleError(f"network {spec.class_path} has other weights than the bundle: {what}")
