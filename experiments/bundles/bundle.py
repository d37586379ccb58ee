"""A bundle: everything that turns images into decisions, in one folder.

::

    <bundle>/
      bundle.json            what was trained, on what grid, how scores become decisions; see ``Bundle``
      models/fold-<k>.safetensors   weights of each fold's model
      label_map.nii.gz       the label map that the region's ids are those of
      MODEL_CARD.md          for people
      exports/               the same networks in the forms of other programs, where asked for
      SHA256SUMS             of every file

Nothing here is pickled, and nothing that a file says is run: classes come from ``experiments.bundles.networks``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datamodules.cohort.target import Target
from experiments.bundles.errors import BundleError
from experiments.bundles.networks import NetworkSpec, make_network
from experiments.bundles.sums import WAY_OUT
from experiments.study.covariates import Covariate
from experiments.study.record import ShownRegion
from lightning_modules.classifier import StratificationModule
from lightning_modules.numbers import NumberModule
from regions.atlas import template_sha256
from regions.catalog import Atlas, Region
from regions.grid import Box, Grid

FORMAT = 1
"""Raised whenever an older reader would misread a newer bundle."""
FACTS = "bundle.json"
LABEL_MAP = "label_map.nii.gz"
CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class FoldModel:
    """The model of one fold, and how its output is read.

    Attributes:
        fold: The fold whose internal test part it never saw.
        weights: Its safetensors file.
        sha256: Of that file.
        temperature: Its log odds are divided by this; 1 where a number is predicted.
        threshold: On the raw probability; NaN where a number is predicted.
        calibrated_threshold: The same after the temperature.
        prevalence: Share of positive scans in its training part; NaN where a number is predicted.
        mean: Mean of what is predicted over its training part; NaN where a class is predicted.
        covariates: What it is given beside the image, scaled as in its training part.
    """

    fold: int
    weights: Path
    sha256: str
    temperature: float
    threshold: float
    calibrated_threshold: float
    prevalence: float
    mean: float
    covariates: tuple[Covariate, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Its weights by name, as the Lightning module has them.

        Raises:
            BundleError: if the file is not what was written.
        """
        try:
            content = self.weights.read_bytes()
            if hashlib.sha256(content).hexdigest() != self.sha256:
                raise ValueError("SHA-256 differs")
            return load(content)
        except (OSError, ValueError, SafetensorError) as error:
            raise BundleError(f"{self.weights} is damaged ({error}); {WAY_OUT}") from None


@dataclass(frozen=True)
class Running:
    """How the networks are run, so that another machine repeats what this one did."""

    batch_size: int
    channels_last: bool
    precision: str | None
    """As Lightning's Trainer takes it; None: what suits the device."""
    threads: int


@dataclass(frozen=True)
class Bundle:
    """A trained input, apart from its study.

    Attributes:
        folder: Where it lies.
        study: Name of the study that it comes from.
        input: Name of the input.
        region: What the networks are shown.
        label_map: The label map that the region's ids are those of, and that ``quality`` measures with.
        images: What is read of each scan, in order; ``region.images`` are those that the networks see, empty for all.
        optional: Those that a scan may lack.
        grid: The voxels that networks see.
        scan_grid: The voxels of scans; the same where ``voxel_mm`` is 0.
        voxel_mm: Side that scans' voxels are put together to; 0: their own.
        multiple_of: Each side of what a network takes is a multiple of this.
        least_side: And is at least this.
        box: The part of ``grid`` that a network takes.
        target: What is told from the images.
        network: How the network is made.
        objective: What it learned from.
        running: How it is run.
        models: One for each fold, in ascending order.
        threshold: Mean of the models' calibrated thresholds: the primary model's; NaN where a number is predicted.
        prevalence: Share of positive scans in the training parts; NaN where a number is predicted.
        conformal: Scores of the tuning parts, see ``experiments.bundles.summaries``.
        quality: What the quality numbers of the training cohort's scans were, see there.
        features: What entered the heads of the networks, see there.
        training_scans: By what a scan of the training cohort is known again, see ``experiments.bundles.training_scans``.
        preparation: How scans were prepared, and what the cohort says of it.
        scores: Of the internal test, and of external ones.
        provenance: Versions, commit, split and settings that the models were made with.
    """

    folder: Path
    study: str
    input: str
    region: ShownRegion
    label_map: Path
    images: tuple[str, ...]
    optional: tuple[str, ...]
    grid: Grid
    scan_grid: Grid
    voxel_mm: float
    multiple_of: int
    least_side: int
    box: Box
    target: Target
    network: NetworkSpec
    objective: str
    running: Running
    models: tuple[FoldModel, ...]
    threshold: float
    prevalence: float
    conformal: Mapping[str, Any]
    quality: Mapping[str, Any]
    features: Mapping[str, Any]
    training_scans: Mapping[str, Any]
    preparation: Mapping[str, Any]
    scores: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def shown_images(self) -> tuple[str, ...]:
        """The images that networks see, in the order of their channels."""
        return self.region.images or self.images

    @property
    def shown_region(self) -> Region:
        """The region as masks are made of it; its ids are those of the bundle's label map where that is not the shipped one."""
        digest = self.region.mask.label_map
        atlas = None if digest == template_sha256() else Atlas(self.label_map, digest)
        return Region(self.input, self.region.labels, "input of a bundle", FACTS, atlas, self.region.images)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of what the networks are given beside the image."""
        return tuple(covariate.name for covariate in self.models[0].covariates)

    def model(self, fold: int) -> FoldModel:
        """The model of a fold.

        Raises:
            BundleError: if there is none.
        """
        known = {model.fold: model for model in self.models}
        if fold not in known:
            raise BundleError(f"bundle {self.folder} has no fold {fold}; it has {', '.join(map(str, known))}")
        return known[fold]

    def module(self, fold: int) -> StratificationModule:
        """The model of a fold with its weights, to be run: a ``NumberModule`` where a number is predicted.

        Raises:
            BundleError: if its class is not allowed, or its weights are not the bundle's.
        """
        tensors = self.model(fold).tensors()
        own = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        network = make_network(self.network, {name: tuple(value.shape) for name, value in own.items()})
        options: dict[str, Any] = {"channels_last": self.running.channels_last}
        number = self.target.is_number
        module = NumberModule(network, self.target.steps, **options) if number else StratificationModule(network, **options)
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"{self.model(fold).weights} does not fit the network ({reason}); {WAY_OUT}") from None
        return module.eval()
