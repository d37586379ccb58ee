"""KeepRegion, the one step in which a regional run differs from a global one.

Where the region lies comes from one of three places:

- `template`: from the template label map. Images must be in MNI152 space, RAS+ and axis-aligned; all subjects share one
  mask.
- `template-dilated`: the same, grown by `dilate_mm` to forgive what registration leaves over.
- `subject`: from the subject's own label map, in the scheme of `regions.labels`.

Images are (C, I, J, K), and every channel is masked alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from warnings import warn

import numpy as np
import torch
import torchio as tio

from regions.atlas import EmptyRegionError, Grid, SpaceError, region_coverage, region_mask, space_gap_mm
from regions.catalog import Region, get_region
from regions.errors import UserError
from regions.step import keep_inside

MODES = ("template", "subject", "template-dilated")
MINIMUM_COVERAGE = 0.9


class MissingLabelMapError(UserError):
    """A subject has no label map of this name."""


class KeepRegion(tio.IntensityTransform):
    """Set every intensity image of a subject to exactly 0 outside one region, and leave the inside as it is.

    The step is deterministic; a subject's history holds all its arguments, so replaying repeats it.

    Args:
        region: a region, or the name of one of the six.
        mode: where the region comes from, one of `MODES`.
        labels_key: name of the subject's label map; used by mode `subject` alone.
        dilate_mm: growth in mm; used by mode `template-dilated` alone.
        tolerance_mm: how far the corners of two volumes may lie apart and still count as one grid.
        include: names of the images to mask; all intensity images when None.
        exclude: names of the images to leave alone.
        copy: work on a copy of the subject.

    Raises:
        UserError: unknown mode, or a negative distance.
        UnknownRegionError: no region has this name.
        SpaceError: when applied, for images that disagree with each other, with their labels or with template space.
        EmptyRegionError: when applied, for a region that has no voxel, or where an image is 0 throughout.
        MissingLabelMapError: when applied, for a label map that is absent.
    """

    def __init__(
        self,
        region: Region | str,
        mode: str = "template",
        labels_key: str = "labels",
        dilate_mm: float = 3.0,
        tolerance_mm: float = 0.1,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        copy: bool = True,
    ) -> None:
        super().__init__(include=include, exclude=exclude, copy=copy)
        if mode not in MODES:
            raise UserError(f"Unknown mode {mode!r} of KeepRegion. Use {', '.join(MODES)}.")
        if dilate_mm < 0 or tolerance_mm < 0:
            raise UserError(f"dilate_mm ({dilate_mm:g}) and tolerance_mm ({tolerance_mm:g}) are 0 mm or more.")
        self.region = get_region(region) if isinstance(region, str) else region
        self.mode = mode
        self.labels_key = labels_key
        self.dilate_mm = dilate_mm
        self.tolerance_mm = tolerance_mm
        self.args_names = ["region", "mode", "labels_key", "dilate_mm", "tolerance_mm"]

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Mask the images of one subject."""
        images = self.get_images_dict(subject)
        if not images:
            raise UserError("KeepRegion found no intensity image in the subject. Are the images tio.ScalarImage?")
        first, *others = images
        for other in others:
            self._same_grid(f"image {first!r}", images[first], f"image {other!r}", images[other])
        mask = self._from_subject(subject, first) if self.mode == "subject" else self._from_template(first, images[first])
        inside = torch.from_numpy(mask.copy())
        for name, image in images.items():
            kept = keep_inside(image.data, inside)
            if not kept.any():
                raise EmptyRegionError(
                    f"Image {name!r} is 0 everywhere in region {self.region.name!r}. "
                    "Is it in the same space as the regions, and did brain extraction keep this part?"
                )
            image.set_data(kept)
        return subject

    def _from_template(self, name: str, image: tio.ScalarImage) -> np.ndarray:
        """Return the template's region on the grid of an image, (I, J, K) bool."""
        try:
            grid = Grid.of(image.spatial_shape, image.affine, self.tolerance_mm)
            mask = region_mask(self.region, grid, self.dilate_mm if self.mode == "template-dilated" else 0.0)
        except (SpaceError, EmptyRegionError) as error:
            raise type(error)(f"Image {name!r}: {error}") from error
        coverage = region_coverage(self.region, grid)
        if coverage < MINIMUM_COVERAGE:
            warn(f"Image {name!r} covers {coverage:.0%} of region {self.region.name!r} only.", stacklevel=2)
        return mask

    def _from_subject(self, subject: tio.Subject, name: str) -> np.ndarray:
        """Return the region in the subject's own label map, (I, J, K) bool."""
        label_map = subject.get(self.labels_key)
        if not isinstance(label_map, tio.LabelMap):
            present = [
                key for key, image in subject.get_images_dict(intensity_only=False).items() if isinstance(image, tio.LabelMap)
            ]
            raise MissingLabelMapError(
                f"The subject has no label map {self.labels_key!r}; its label maps: {', '.join(present) or 'none'}. "
                "Give labels_key, or use mode 'template'."
            )
        self._same_grid(f"image {name!r}", subject.get_image(name), f"label map {self.labels_key!r}", label_map)
        labels = label_map.data[0].numpy()
        if labels.min() < 0 or labels.max() > 255:
            raise UserError(
                f"Label map {self.labels_key!r} has ids from {labels.min():g} to {labels.max():g}; the scheme ends at "
                "255. Apply regions.labels.to_scheme first."
            )
        mask = self.region.select(labels.astype(np.uint8))
        if not mask.any():
            listed = ", ".join(str(label) for label in np.unique(labels.astype(np.uint8))[:40])
            raise EmptyRegionError(
                f"Label map {self.labels_key!r} has no voxel of region {self.region.name!r} "
                f"(labels {', '.join(map(str, self.region.labels)) or 'above 0'}); it has {listed}."
            )
        return mask

    def _same_grid(self, name_a: str, a: tio.Image, name_b: str, b: tio.Image) -> None:
        """Refuse two images that do not lie on one grid."""
        if a.spatial_shape != b.spatial_shape:
            raise SpaceError(f"{name_a} has shape {a.spatial_shape}, {name_b} {b.spatial_shape}: resample them to one grid.")
        gap = space_gap_mm(a.spatial_shape, a.affine, b.affine)
        if gap > self.tolerance_mm:
            raise SpaceError(
                f"{name_a} and {name_b} lie up to {gap:.2f} mm apart, {self.tolerance_mm:g} mm are allowed: "
                "their affines differ, perhaps mirrored. Register or reorient them first."
            )
