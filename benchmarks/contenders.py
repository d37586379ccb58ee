"""The same training data, made ready by different tools: regionwise, Lightning + TorchIO, MONAI's caches.

All contenders start from the same .nii.gz files and hand out the same batches: T1w and FLAIR, z-scored in the brain mask,
mirrored with probability 0.5, shifted by up to 2 mm, with Gaussian noise of standard deviation 0.02, zero outside the region.
They train the same network with the same optimiser in float32: the peers as plain PyTorch layers (``ResidualCNN.as_plain``),
two of them also with regionwise's own step (``-fast-step``), which tells the gain of the data from that of the step.

What differs is how: regionwise reads a box from its store; TorchIO reads whole volumes from disk each epoch and shifts by
resampling (``RandomAffine``, it has no other random shift); MONAI caches the cut box and shifts by cropping
(``RandSpatialCropd``, whole voxels as regionwise does) or by resampling (``RandAffined``). Wherever a choice was open, the peer
got the quicker one: its region mask is kept in memory, its volumes lose what a stride of 8 cannot take, its cached tensors
carry no metadata.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.scans import SCRATCH, Bench
from datamodules.batches.augmentation import Augmentation
from datamodules.batches.augmenter import grown
from datamodules.mri import BrainMRIDataModule
from datamodules.store.boxes import crop_to_box, region_step
from regions.atlas import region_mask
from regions.catalog import REGIONS
from regions.grid import Grid

MULTIPLE = 8
AUGMENTATION = Augmentation(flip=0.5, shift_mm=2.0, noise=0.02)


class PeerData(pl.LightningDataModule):
    """A peer's loader; the region is the last step, one multiplication on the batch, as a user would write it.

    The whole brain needs none. Only then a peer's noise reaches voxels outside the brain, which costs it nothing.
    """

    def __init__(self, loader: DataLoader[Any], mask: np.ndarray[Any, Any] | None) -> None:
        super().__init__()
        self.loader, self.mask = loader, None if mask is None else torch.from_numpy(mask.copy())[None, None]

    def train_dataloader(self) -> DataLoader[Any]:
        """The same loader each time."""
        return self.loader

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Zero outside the region."""
        return batch if self.mask is None else batch | {"image": batch["image"] * self.mask}


def regionwise(bench: Bench, name: str, batch: int, workers: int) -> pl.LightningDataModule:
    """This project, as a run uses it."""
    return BrainMRIDataModule(
        bench.prepared, bench.patients, bench.labels, bench.splits, 0, REGIONS[name], MULTIPLE, batch, augmentation=AUGMENTATION
    )


def torchio_from_disk(bench: Bench, name: str, batch: int, workers: int) -> PeerData:
    """Lightning + TorchIO ``SubjectsDataset`` from disk: the whole volume, zero outside the region."""
    import torchio as tio

    subjects = [
        tio.Subject(
            **{name: tio.ScalarImage(path) for name, path in scan.images.items()}, brain=tio.LabelMap(scan.mask), label=row % 2
        )
        for row, scan in enumerate(bench.training)
    ]  # fmt: skip
    steady = [tio.ToCanonical(), tio.EnsureShapeMultiple(MULTIPLE, method="crop"), tio.ZNormalization(masking_method="brain")]
    shift = AUGMENTATION.shift_mm
    chance = [
        tio.RandomFlip(axes=0, flip_probability=AUGMENTATION.flip),
        tio.RandomAffine(scales=0, degrees=0, translation=shift),
        tio.RandomNoise(mean=0, std=(AUGMENTATION.noise, AUGMENTATION.noise)),
    ]
    dataset = tio.SubjectsDataset(subjects, transform=tio.Compose([*steady, *chance]))
    first: Any = tio.Compose(steady[:2])(tio.Subject(t1w=tio.ScalarImage(bench.training[0].images["t1w"])))
    region = REGIONS[name]
    mask = region_mask(region, Grid.of(first.spatial_shape, first["t1w"].affine)) if region.labels else None
    return PeerData(_loader(DataLoader, dataset, batch, workers, _collate_subjects), mask)


def _collate_subjects(subjects: Sequence[Any]) -> dict[str, Tensor]:
    image = torch.stack([torch.cat([subject["t1w"].data, subject["flair"].data]) for subject in subjects])
    return {"image": image.float(), "label": torch.tensor([subject["label"] for subject in subjects])}


def _loader(
    kind: type[DataLoader[Any]], dataset: Any, batch: int, workers: int, collate: Callable[..., dict[str, Tensor]]
) -> DataLoader[Any]:
    shuffled = torch.Generator().manual_seed(0)
    return kind(dataset, batch_size=batch, shuffle=True, num_workers=workers, collate_fn=collate, generator=shuffled)


def _collate_dicts(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    return {"image": torch.stack([item["image"] for item in items]), "label": torch.tensor([item["label"] for item in items])}


def _monai_transforms(bench: Bench, name: str, affine: bool) -> tuple[Any, np.ndarray[Any, Any] | None]:
    """MONAI's own steps: those before the first random one are cached. Returns them and the region's mask in its box."""
    import monai.transforms as mt

    image = nib.Nifti1Image.from_filename(bench.training[0].images["t1w"])
    grid = Grid.of(image.shape, image.affine)
    mask, box = region_step(REGIONS[name], grid, "template", 0.0, MULTIPLE)
    room = grown(box, AUGMENTATION, grid)
    low, high = np.maximum(room.start, 0), np.minimum(room.stop, grid.shape)
    keys = ["t1w", "flair", "brain"]
    steps = [
        mt.LoadImaged(keys, image_only=True),
        mt.EnsureChannelFirstd(keys),
        mt.Orientationd(keys, axcodes="RAS", labels=None),
        mt.MaskIntensityd(["t1w", "flair"], mask_key="brain"),
        mt.NormalizeIntensityd(["t1w", "flair"], nonzero=True),
        mt.ConcatItemsd(["t1w", "flair"], name="image"),
        mt.SpatialCropd("image", roi_start=low.tolist(), roi_end=high.tolist()),
        mt.SpatialPadd("image", spatial_size=room.shape),
        mt.SelectItemsd(["image", "label"]),
        mt.EnsureTyped("image", dtype=torch.float32, track_meta=False),
        mt.RandFlipd("image", prob=AUGMENTATION.flip, spatial_axis=0),
    ]
    if affine:
        shift = [AUGMENTATION.shift_mm / side for side in grid.spacing]
        steps += [
            mt.CenterSpatialCropd("image", roi_size=box.shape),
            mt.RandAffined("image", prob=1.0, translate_range=shift, mode="bilinear", padding_mode="zeros"),
        ]
    else:
        steps.append(mt.RandSpatialCropd("image", roi_size=box.shape, random_size=False))
    steps.append(mt.RandGaussianNoised("image", prob=1.0, mean=0.0, std=AUGMENTATION.noise, sample_std=False))
    return mt.Compose(steps), None if mask is None else crop_to_box(mask, box)


def _monai(bench: Bench, name: str, batch: int, workers: int, affine: bool, cached: bool) -> PeerData:
    from monai.data import CacheDataset, PersistentDataset, set_track_meta
    from monai.data import DataLoader as MonaiLoader

    set_track_meta(True)
    transforms, mask = _monai_transforms(bench, name, affine)
    items = [
        {"t1w": str(scan.images["t1w"]), "flair": str(scan.images["flair"]), "brain": str(scan.mask), "label": row % 2}
        for row, scan in enumerate(bench.training)
    ]
    if cached:
        dataset: Any = CacheDataset(items, transforms, cache_rate=1.0, num_workers=2, progress=False, copy_cache=False)
    else:
        SCRATCH.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=SCRATCH, prefix="monai-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        dataset = PersistentDataset(items, transforms, cache_dir=folder)
        for row in range(len(items)):
            dataset[row]
    set_track_meta(False)
    return PeerData(_loader(MonaiLoader, dataset, batch, workers, _collate_dicts), mask)


def monai_cache(bench: Bench, name: str, batch: int, workers: int) -> PeerData:
    """MONAI ``CacheDataset`` of the cut box; shifts by whole voxels, as regionwise does."""
    return _monai(bench, name, batch, workers, affine=False, cached=True)


def monai_affine(bench: Bench, name: str, batch: int, workers: int) -> PeerData:
    """MONAI ``CacheDataset`` of the cut box; shifts by resampling, the common recipe."""
    return _monai(bench, name, batch, workers, affine=True, cached=True)


def monai_persistent(bench: Bench, name: str, batch: int, workers: int) -> PeerData:
    """MONAI ``PersistentDataset`` of the cut box; shifts by whole voxels."""
    return _monai(bench, name, batch, workers, affine=False, cached=False)


Make = Callable[[Bench, str, int, int], pl.LightningDataModule]

CONTENDERS: dict[str, Make] = {
    "regionwise": regionwise,
    "torchio": torchio_from_disk,
    "monai-cache": monai_cache,
    "monai-affine": monai_affine,
    "monai-persistent": monai_persistent,
    "torchio-fast-step": torchio_from_disk,
    "monai-cache-fast-step": monai_cache,
}
"""Every way to make the batches, by name."""
OWN_STEP = ("regionwise", "torchio-fast-step", "monai-cache-fast-step")
"""Those that train with regionwise's network, and with freed memory kept, as ``make fold`` does."""
