"""The models of a bundle for other programs: one graph that takes a box of an image and gives what the primary model says.

::

    exports/model.onnx     ONNX
    exports/model.pt2      torch.export; holds tensors and a graph as JSON, no pickled object
    exports/monai/         a MONAI bundle: configs/metadata.json, configs/inference.json, models/model.pt2, docs/README.md

Input ``image`` (batch, C, I, J, K) float32: the images that the networks see, prepared as ``bundle.json`` says, cut to its box.
The region step is part of the graph, unless the region comes from each scan's own label map; then the image must come with it.
Outputs ``primary`` (batch,) float32, the mean of the calibrated probabilities or of the predicted numbers, and ``folds``
(batch, folds), what each fold's model says by itself.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from scipy.special import logit
from torch import Tensor, nn

from datamodules.files.atomic import write_json, write_text
from datamodules.store.boxes import crop_to_box, region_step
from experiments.bundles.bundle import Bundle
from experiments.bundles.errors import BundleError
from experiments.bundles.monai_layout import inference, metadata, readme
from experiments.statistics.calibration import CLIP
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import ResidualCNN
from lightning_modules.numbers import NumberModule

EXPORTS = ("onnx", "torch", "monai")
FOLDER = "exports"
STACK = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What a traced graph remembers of source files and their paths."""


class Exported(nn.Module):
    """All models of a bundle as one, without covariates.

    Args:
        bundle: The bundle.

    Raises:
        BundleError: if its networks are given covariates.
    """

    region: Tensor
    temperature: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        if bundle.covariates:
            given = ", ".join(bundle.covariates)
            raise BundleError(f"exports take an image alone, {bundle.input}'s networks are given {given}; leave out --exports")
        modules = [bundle.module(model.fold) for model in bundle.models]
        self.models = nn.ModuleList(_Said(module) for module in modules)
        mask = bundle.region.mask
        shown, box = region_step(
            bundle.shown_region, bundle.grid, mask.mode, mask.dilate_mm, bundle.multiple_of, bundle.least_side
        )
        inside = torch.ones(box.shape, dtype=torch.bool)
        if shown is not None and mask.mode != "subject":
            inside = torch.from_numpy(crop_to_box(shown, box)).bool()
        self.register_buffer("region", inside)
        self.register_buffer("temperature", torch.tensor([model.temperature for model in bundle.models]))
        self.is_number = bundle.target.is_number
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, I, J, K) to ``primary`` (B,) and ``folds`` (B, folds)."""
        seen = torch.where(self.region, image, torch.zeros_like(image))
        said = torch.stack([model(seen) for model in self.models], dim=1)
        if self.is_number:
            return said.mean(dim=1), said
        most = float(logit(1 - CLIP))
        soft = torch.sigmoid(said.clamp(-most, most) / self.temperature)
        return soft.mean(dim=1), torch.sigmoid(said)


class _Said(nn.Module):
    """The log odds of one model, or its predicted number, (B,) float32."""

    mean: Tensor
    spread: Tensor
    offsets: Tensor

    def __init__(self, module: StratificationModule) -> None:
        super().__init__()
        network = module.network
        self.network = network.as_plain() if isinstance(network, ResidualCNN) else network
        self.steps = module.steps if isinstance(module, NumberModule) else 0
        self.is_value = isinstance(module, NumberModule) and not self.steps
        if isinstance(module, NumberModule):
            self.register_buffer("mean", module.mean)
            self.register_buffer("spread", module.spread)
            self.register_buffer("offsets", module.ordinal.offsets().detach() if self.steps else torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, I, J, K) to (B,)."""
        logits: Tensor = self.network(image).float()
        z = logits[:, 1] - logits[:, 0]
        if self.steps:
            return torch.sigmoid(z[:, None] - self.offsets).sum(1)
        return (self.mean + self.spread * z.double()).float() if self.is_value else z


def check_exports(names: Sequence[str]) -> None:
    """Refuse forms that do not exist, before any work.

    Raises:
        BundleError: naming the first.
    """
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        raise BundleError(f"there is no export {unknown[0]!r}; exports are {', '.join(EXPORTS)}")


def write_exports(bundle: Bundle, folder: Path, names: Sequence[str]) -> None:
    """Write a bundle's models for other programs.

    Args:
        bundle: The bundle.
        folder: Where ``exports/`` is made.
        names: Of ``EXPORTS``.

    Raises:
        BundleError: if a network cannot be traced, or a package is missing.
    """
    check_exports(names)
    module = Exported(bundle).eval()
    out, channels = folder / FOLDER, len(bundle.shown_images)
    example = torch.zeros(2, channels, *bundle.box.shape)
    out.mkdir(parents=True, exist_ok=True)
    with _quiet():
        if "torch" in names or "monai" in names:
            _write_torch(module, example, out / "model.pt2")
        if "onnx" in names:
            _write_onnx(module, example, out / "model.onnx")
    if "monai" in names:
        _write_monai(bundle, out, keep="torch" in names)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notices of the exporters, which concern neither bundle nor user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _dynamic() -> dict[str, dict[int, Any]]:
    return {"image": {0: torch.export.Dim("batch")}}


def _write_torch(module: nn.Module, example: Tensor, path: Path) -> None:
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=_dynamic())
    except Exception as error:  # whatever a foreign network makes the tracer raise
        raise _untraceable("torch", error) from None
    for node in program.graph.nodes:
        for name in STACK:
            node.meta.pop(name, None)
    program._example_inputs = None  # they would be pickled
    torch.export.save(program, path)


def _write_onnx(module: nn.Module, example: Tensor, path: Path) -> None:
    try:
        program = torch.onnx.export(
            module, (example,), dynamo=True, dynamic_shapes=_dynamic(), input_names=["image"],
            output_names=["primary", "folds"], verbose=False,
        )  # fmt: skip
        assert program is not None
        proto = program.model_proto
    except ImportError as error:
        raise BundleError(f"ONNX needs {error.name}; pip install 'regionwise[export]'") from None
    except Exception as error:  # whatever a foreign network makes the tracer raise
        raise _untraceable("onnx", error) from None
    graphs = [proto.graph, *proto.functions]
    for item in (proto, *graphs, *(node for graph in graphs for node in graph.node)):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for graph in graphs:
        for value in (*getattr(graph, "input", ()), *getattr(graph, "output", ()), *graph.value_info):
            if hasattr(value, "metadata_props"):
                value.ClearField("metadata_props")
                value.ClearField("doc_string")
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _untraceable(name: str, error: Exception) -> BundleError:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return BundleError(f"the network cannot be exported as {name} ({reason}); leave {name} out of --exports")


def _write_monai(bundle: Bundle, out: Path, keep: bool) -> None:
    folder = out / "monai"
    (folder / "models").mkdir(parents=True)
    write_json(folder / "configs" / "metadata.json", metadata(bundle))
    write_json(folder / "configs" / "inference.json", inference(bundle))
    write_text(folder / "docs" / "README.md", readme(bundle))
    if keep:
        shutil.copyfile(out / "model.pt2", folder / "models" / "model.pt2")
    else:
        (out / "model.pt2").rename(folder / "models" / "model.pt2")
