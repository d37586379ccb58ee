"""One network looked at: SmoothGrad, gradient and occlusion of the internal test scans of its fold.

Each scan's map is brought to a mean |relevance| of 1 over what the scan shows before maps are averaged, so that a scan on which
the output is steep counts no more than another. What is averaged: |relevance| over the images, and the signed relevance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.batches.loading import moved
from datamodules.mri import BrainMRIDataModule
from datamodules.store.boxes import crop_to_box
from experiments.explaining.gradients import gradient, shown_voxels, smooth_gradient
from experiments.explaining.networks import Looked
from experiments.explaining.occlusion import mean_image, occlusion
from experiments.explaining.pieces import Pieces
from experiments.explaining.setup import Method
from experiments.explaining.shares import densities, image_shares, strength
from experiments.runtime.interruption import stop_if_interrupted

OnScan = Callable[[], object]
OnMap = Callable[[int, npt.NDArray[np.float32]], object]
MAPS = ("absolute_0", "absolute_1", "signed_0", "signed_1")
"""Mean |relevance| and mean relevance of the scans of each class."""


@dataclass
class Seen:
    """What was seen of a network.

    Attributes:
        rows: Cohort row of each scan.
        smoothgrad: For each scan the density of every region under SmoothGrad.
        gradient: The same under the plain gradient.
        images: For each scan the share of every image.
        log_odds: For each scan its log odds, and those without each region; empty where regions were not taken away.
        maps: (4, I, J, K) float32 of the box, sums over the scans of each class, see ``MAPS``.
    """

    rows: list[int] = field(default_factory=list)
    smoothgrad: list[list[float]] = field(default_factory=list)
    gradient: list[list[float]] = field(default_factory=list)
    images: list[list[float]] = field(default_factory=list)
    log_odds: list[list[float]] = field(default_factory=list)
    maps: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


def look(
    looked: Looked,
    labels: npt.NDArray[np.int64],
    pieces: Pieces,
    method: Method,
    fold: int,
    device: torch.device,
    occlude: bool,
    on_scan: OnScan,
    on_map: OnMap | None = None,
) -> Seen:
    """Look at the internal test scans of a fold.

    Args:
        looked: The network and its data.
        labels: (scans,) true class of each scan of the cohort.
        pieces: The regions of the input.
        method: How closely.
        fold: Which fold; each scan's noise depends on the method's seed, the fold and the scan alone.
        device: Where it is computed.
        occlude: Also take each region away.
        on_scan: Called after each scan.
        on_map: Called with each scan's row and its signed map (I, J, K) in the box.

    Raises:
        Interrupted: if a signal came.
    """
    module, data = looked.module.to(device), looked.data
    index = torch.from_numpy(crop_to_box(pieces.index, data.box)).to(device)
    average = mean_image(data.training_images()).to(device) if occlude else None
    count, seen = len(pieces.names), Seen(maps=np.zeros((len(MAPS), *data.box.shape), np.float32))
    for row, image, covariates in test_scans(data, device):
        stop_if_interrupted()
        smooth = smooth_gradient(module, image, method.draws, method.sigma, generator_of(method, fold, row, device), covariates)
        shown = shown_voxels(image)[0, 0]
        seen.rows.append(row)
        seen.smoothgrad.append(densities(strength(smooth[0]), shown, index, count).tolist())
        plain = gradient(module, image, covariates)[0]
        seen.gradient.append(densities(strength(plain), shown, index, count).tolist())
        seen.images.append(image_shares(smooth[0], shown).tolist())
        if average is not None:
            seen.log_odds.append(occlusion(module, image, index, count, average, covariates)[0].double().tolist())
        absolute, signed = normalised(smooth[0], shown)
        positive = int(labels[row])
        seen.maps[positive] += absolute
        seen.maps[2 + positive] += signed
        if on_map is not None:
            on_map(row, signed)
        on_scan()
    return seen


def test_scans(data: BrainMRIDataModule, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Cohort row, image (1, C, I, J, K) and covariates (1, V) of each internal test scan, as the network was given it."""
    for read in data.test_dataloader():
        batch: dict[str, Any] = data.finish(moved(read, device), None)
        for at, row in enumerate(batch["index"].tolist()):
            covariates = batch["covariates"][at : at + 1] if "covariates" in batch else None
            yield row, batch["image"][at : at + 1], covariates


def generator_of(method: Method, fold: int, row: int, device: torch.device) -> torch.Generator:
    """Where a scan's noise comes from."""
    seed = np.random.SeedSequence([method.seed, fold, row]).generate_state(1)[0].item()
    return torch.Generator(device).manual_seed(seed)


def normalised(relevance: Tensor, shown: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """|relevance| and relevance of a scan, (I, J, K) each, over their common scale; 0 where the scan shows nothing."""
    strong = strength(relevance) * shown
    scale = strong.sum() / shown.sum()
    scale = scale if scale > 0 else torch.ones_like(scale)
    signed = relevance.mean(dim=0) * shown
    return (strong / scale).float().cpu().numpy(), (signed / scale).float().cpu().numpy()
