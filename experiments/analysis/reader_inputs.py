"""What a linear reader sees of each scan: the voxels that an input shows its network, or what an encoder makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datamodules.files.float16 import to_single
from datamodules.store.boxes import crop_to_box, region_step
from datamodules.store.prepared import PreparedCohort
from experiments.analysis.linear_readers import Chunk
from experiments.study.settings import Settings
from lightning_modules.head_inputs import head_input
from lightning_modules.networks import multiple_of, smallest_side
from lightning_modules.pretrained import PretrainedEncoder
from regions.catalog import Region
from regions.grid import Box, Grid
from regions.step import inside_labels, keep_inside

VOXELS = 8192
"""Voxels that are read at once, of all scans: 25 MB a hundred scans with what is computed from them."""
Encoder = Callable[[Tensor], Tensor]
"""Images (B, C, I, J, K) float32, zero outside the region -> features (B, F) on the CPU."""


@dataclass(frozen=True)
class Shown:
    """Which voxels an input shows.

    Attributes:
        box: What its batches hold.
        mask: (I, J, K) bool on the grid; None where each scan's own labels decide, or the whole box is shown.
        labels: (256,) bool, the labels that are shown of each scan's own map; None where all scans show the same voxels.
    """

    box: Box
    mask: npt.NDArray[np.bool_] | None
    labels: npt.NDArray[np.bool_] | None

    def voxels(self, grid: Grid) -> npt.NDArray[np.bool_]:
        """(I * J * K,) the voxels of the grid that any scan can show."""
        inside = np.zeros(grid.shape, dtype=np.bool_)
        inside[tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(self.box.start, self.box.stop, strict=True))] = True
        return (inside if self.mask is None else inside & self.mask).ravel()


def shown_by(region: Region, grid: Grid, settings: Settings, network: nn.Module) -> Shown:
    """The voxels that an input shows the settings' network."""
    data = settings.values.data
    least_side = smallest_side(network, len(settings.images), data.batch_size)
    mask, box = region_step(region, grid, data.mask_mode, data.dilate_mm, multiple_of(network), least_side)
    if data.mask_mode != "subject" or mask is None:
        return Shown(box, mask, None)
    labels = np.zeros(256, dtype=np.bool_)
    labels[list(region.labels)] = True
    return Shown(box, None, labels)


@dataclass(frozen=True)
class Piece:
    """Some voxels, flat indices of the grid, and the inputs that show all of them."""

    names: tuple[str, ...]
    voxels: npt.NDArray[np.intp]
    labels: npt.NDArray[np.bool_] | None


def pieces_of(inputs: Mapping[str, Shown], grid: Grid) -> list[Piece]:
    """All voxels of all inputs; a voxel that all scans show alike lies in one piece, whatever number of inputs shows it."""
    groups: dict[tuple[str, ...], npt.NDArray[np.intp]] = {(): np.arange(int(np.prod(grid.shape)))}
    whole: list[Piece] = []
    for name, shown in inputs.items():
        inside = shown.voxels(grid)
        if shown.labels is not None:
            whole.append(Piece((name,), np.flatnonzero(inside), shown.labels))
            continue
        split = {names: (voxels, inside[voxels]) for names, voxels in groups.items()}
        groups = {(*names, name): voxels[within] for names, (voxels, within) in split.items()}
        groups |= {names: voxels[~within] for names, (voxels, within) in split.items()}
    whole += [Piece(names, voxels, None) for names, voxels in groups.items() if names]
    return [
        Piece(piece.names, piece.voxels[start : start + VOXELS], piece.labels)
        for piece in whole
        for start in range(0, piece.voxels.size, VOXELS)
    ]


def voxel_chunks(prepared: PreparedCohort, pieces: Sequence[Piece], on_piece: Callable[[int, int], None]) -> Iterator[Chunk]:
    """The voxels of all scans, one image after the other, piece by piece.

    Args:
        prepared: Volumes of the study.
        pieces: What is read.
        on_piece: Called with (done, to do).
    """
    scans = range(len(prepared.keys))
    images = [[np.asarray(volume).reshape(-1) for volume in prepared.maps(row)] for row in scans]
    by_subject = any(piece.labels is not None for piece in pieces)
    labels = [np.asarray(prepared.labels(row)).ravel() for row in scans] if by_subject else []
    for done, piece in enumerate(pieces, start=1):
        values = np.empty((len(images), len(prepared.names) * piece.voxels.size), dtype=np.float32)
        for row, image in enumerate(images):
            half = np.stack([volume[piece.voxels] for volume in image])
            if piece.labels is not None:
                half = np.where(piece.labels[labels[row][piece.voxels]], half, np.float16(0))
            values[row] = to_single(half.ravel())
        yield piece.names, values
        on_piece(done, len(pieces))


def _untrained(settings: Settings) -> nn.Module:
    network: nn.Module = settings.instantiated().network
    return network


ENCODERS: Mapping[str, Callable[[Settings], nn.Module]] = MappingProxyType(
    {
        "untrained": _untrained,
        "hd-bet": lambda settings: PretrainedEncoder("hd-bet", "frozen", in_channels=len(settings.images)),
        "deepbet": lambda settings: PretrainedEncoder("deepbet", "frozen", in_channels=len(settings.images)),
    }
)
"""Name -> makes a network, from what enters whose head a reader reads: the settings' own, or a pretrained encoder."""


def drawn_network(name: str, settings: Settings) -> nn.Module:
    """The network of ``ENCODERS`` as the settings' seed draws it.

    Raises:
        ModelError: if its weights are not there.
    """
    return drawn(ENCODERS[name], settings)


def drawn(make: Callable[[Settings], nn.Module], settings: Settings) -> nn.Module:
    """A network as the settings' seed draws it, to be read and not trained; torch's own generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.values.seed)
        return make(settings).eval()


def encoder_of(network: nn.Module, settings: Settings) -> Encoder:
    """What enters the head of a network, computed on the GPU where the settings use one."""
    gpu = torch.cuda.is_available() and settings.values.trainer.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if gpu else "cpu")
    network = network.to(device)

    def encode(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return head_input(network, images.to(device))

    return encode


def encoded(
    prepared: PreparedCohort, shown: Shown, encoder: Encoder, batch_size: int, on_scan: Callable[[int, int], None]
) -> npt.NDArray[np.float32]:
    """(scans, features) of an encoder, from the images that an input's network is given, with nothing random.

    Args:
        prepared: Volumes of the study.
        shown: What the input shows.
        encoder: What reads the images.
        batch_size: Scans that are encoded at once.
        on_scan: Called with (done, to do).
    """
    mask = None if shown.mask is None else torch.from_numpy(crop_to_box(shown.mask, shown.box)).bool()
    features: list[npt.NDArray[Any]] = []
    scans = range(len(prepared.keys))
    for start in scans[::batch_size]:
        rows = scans[start : start + batch_size]
        images = torch.from_numpy(np.stack([prepared.crop(row, shown.box) for row in rows])).float()
        if shown.labels is not None:
            labels = torch.from_numpy(np.stack([prepared.crop(row, shown.box, "labels") for row in rows]))
            images = keep_inside(images, inside_labels(labels, torch.from_numpy(shown.labels))[:, None])
        elif mask is not None:
            images = keep_inside(images, mask)
        features.append(encoder(images).numpy())
        on_scan(rows.stop, len(scans))
    return np.concatenate(features).astype(np.float32)
