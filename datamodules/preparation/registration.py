"""Where each voxel of the template lies in a scan: rigid FLAIR to T1w, affine and if wanted SyN T1w to template, by ANTs.

Transforms are estimated on copies of 2 mm and applied to the full images. A transform here is the one that resampling needs:
it takes a point of the target, in RAS+ millimetres, to the point of the moving image that belongs there.

References:
    Avants et al. 2011, NeuroImage 54:2033-2044, doi 10.1016/j.neuroimage.2010.09.025 (ANTs).
    Avants et al. 2008, Med Image Anal 12:26-41, doi 10.1016/j.media.2007.06.004 (SyN).
    Mattes et al. 2003, IEEE Trans Med Imaging 22:120-128, doi 10.1109/TMI.2003.809072 (the similarity).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.preparation.images import LPS, from_ants, isotropic, to_ants

SIDE_MM = 2.0
SEED = 1
LINEAR = {
    "aff_metric": "mattes",
    "aff_sampling": 32,
    "aff_random_sampling_rate": 0.2,
    "aff_iterations": (200, 100, 20),
    "aff_shrink_factors": (4, 2, 1),
    "aff_smoothing_sigmas": (2, 1, 0),
}
"""Settings of the rigid and the affine step; shrink factors and widths count voxels of 2 mm."""
DEFORMABLE = {"syn_metric": "mattes", "syn_sampling": 32, "reg_iterations": (40, 20, 10), "grad_step": 0.2}
"""Settings of SyN where a template's brain is laid on a head."""
NONLINEAR = {
    "syn_metric": "mattes",
    "syn_sampling": 32,
    "reg_iterations": (60, 40, 20),
    "grad_step": 0.4,
    "flow_sigma": 2,
    "total_sigma": 0,
}
"""Settings of SyN where a brain is laid on the template's; widths count voxels of 2 mm."""
FLUID_WEIGHT = 3.0
"""Weight of the maps of fluid, by mean squares, beside the T1w images', by mutual information."""

Image = tuple["NDArray[np.float32]", "NDArray[np.float64]"]
"""Voxels and affine."""
Kind = Literal["Rigid", "Affine"]


@dataclass(frozen=True)
class Transform:
    """From points of the target to points of the moving image.

    Attributes:
        matrix: (4, 4), RAS+ mm to RAS+ mm.
        warp: An ITK displacement field on the target's points, applied before the matrix, or None.
    """

    matrix: NDArray[np.float64]
    warp: Path | None = None

    def then(self, matrix: NDArray[np.float64]) -> Transform:
        """Go on from the moving image's points by another matrix."""
        return Transform(matrix @ self.matrix, self.warp)


@contextmanager
def plainly_named(folder: Path) -> Iterator[Path]:
    """A folder by a path that ANTs can be given: commas and brackets are lists to it, stars and question marks patterns."""
    if not re.search(r"[,*?[\]]", str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="regionwise-", dir="/tmp") as place:
        link = Path(place) / "work"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def make_repeatable() -> None:
    """Let ANTs give the same bytes each time: one thread, and a fixed seed for the points where the similarity is sampled."""
    import ants.config

    ants.config.set_ants_deterministic(True, SEED)


def linear(
    kind: Kind, fixed: Image, moving: Image, work: Path, start: NDArray[np.float64] | None = None, mask: Any = None
) -> NDArray[np.float64]:
    """Register two images without bending.

    Args:
        kind: ``Rigid`` or ``Affine``.
        fixed: Where the result shall lie.
        moving: What is moved; both at about 2 mm.
        work: Folder for ANTs' files.
        start: Where to start, (4, 4) in RAS+ mm from fixed to moving; None puts the centres of mass on each other.
        mask: (I, J, K) on the fixed image: where the similarity counts.

    Returns:
        (4, 4), fixed RAS+ mm to moving RAS+ mm.

    Raises:
        RuntimeError: by ANTs.
    """
    import ants

    make_repeatable()
    extra: dict[str, Any] = {}
    if mask is not None:
        extra = {"mask": to_ants(mask, fixed[1]), "mask_all_stages": True}
    if start is not None:
        extra["initial_transform"] = str(write_matrix(start, work / "start.mat"))
    result = ants.registration(
        to_ants(*fixed), to_ants(*moving), kind, outprefix=f"{work}/{kind}-", singleprecision=False, **LINEAR, **extra
    )
    return read_matrix(Path(result["fwdtransforms"][0]))


def deformable(
    fixed: Image,
    moving: Image,
    work: Path,
    start: NDArray[np.float64],
    mask: Any = None,
    fluid: tuple[Image, Image] | None = None,
) -> Transform:
    """Bend an image onto another with SyN, from an affine start.

    Args:
        fixed: Where the result shall lie.
        moving: What is bent; both at about 2 mm.
        work: Folder for ANTs' files.
        start: (4, 4) in RAS+ mm from fixed to moving.
        mask: (I, J, K) on the fixed image: where the similarity counts.
        fluid: Maps of the fluid in both images, laid on each other too; ``NONLINEAR`` then takes the place of ``DEFORMABLE``.

    Raises:
        RuntimeError: by ANTs.
    """
    import ants

    make_repeatable()
    extra: dict[str, Any] = dict(DEFORMABLE if fluid is None else NONLINEAR)
    if mask is not None:
        extra["mask"] = to_ants(mask, fixed[1])
    if fluid is not None:
        extra["multivariate_extras"] = [("meansquares", *(to_ants(*image) for image in fluid), FLUID_WEIGHT, 0)]
    begin = str(write_matrix(start, work / "start.mat"))
    result = ants.registration(
        to_ants(*fixed), to_ants(*moving), "SyNOnly", initial_transform=begin, outprefix=f"{work}/SyN-", **extra
    )
    (warp,) = [Path(path) for path in result["fwdtransforms"] if path.endswith("Warp.nii.gz")]
    return Transform(start, warp)


def coarse(array: NDArray[Any], affine: NDArray[np.float64]) -> Image:
    """The 2 mm copy on which transforms are estimated."""
    return isotropic(array, affine, SIDE_MM)


def resample(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    transform: Transform,
    shape: tuple[int, ...],
    where: NDArray[np.float64],
    work: Path,
    interpolation: Literal["bSpline", "linear", "nearestNeighbor"] = "bSpline",
) -> NDArray[np.float32]:
    """Read an image once at the points that belong to another image's voxels.

    Args:
        array: (I, J, K), the moving image.
        affine: (4, 4) voxel to mm.
        transform: From the wanted points to points of the image.
        shape: Sides of the result.
        where: (4, 4) voxel to mm of the result.
        work: Folder for ANTs' files.
        interpolation: ``bSpline`` is cubic. Beyond the image the result is 0.

    Returns:
        float32 in the wanted shape, within the image's own range.
    """
    import ants

    chain = [str(write_matrix(transform.matrix, work / "resample.mat"))]
    if transform.warp is not None:
        chain.insert(0, str(transform.warp))
    target = to_ants(np.zeros(shape, np.float32), where)
    moved, _ = from_ants(ants.apply_transforms(target, to_ants(array, affine), chain, interpolator=interpolation))
    return np.clip(moved, min(float(array.min()), 0.0), float(array.max()))


def write_matrix(matrix: NDArray[np.float64], path: Path) -> Path:
    """Write a RAS+ matrix as the ITK transform that ANTs reads."""
    import ants

    turned = LPS @ matrix @ LPS
    made = ants.create_ants_transform(
        transform_type="AffineTransform", precision="double", dimension=3,
        parameters=[*turned[:3, :3].ravel(), *turned[:3, 3]], fixed_parameters=[0.0, 0.0, 0.0],
    )  # fmt: skip
    ants.write_transform(made, str(path))
    return path


def read_matrix(path: Path) -> NDArray[np.float64]:
    """Read an ITK transform without bending as a (4, 4) RAS+ matrix."""
    import ants

    read = ants.read_transform(str(path))
    numbers, centre = np.asarray(read.parameters, float), np.asarray(read.fixed_parameters, float)
    turned = np.eye(4)
    turned[:3, :3] = numbers[:9].reshape(3, 3)
    turned[:3, 3] = numbers[9:12] + centre - turned[:3, :3] @ centre
    return LPS @ turned @ LPS


def moved_mm(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) in mm after a matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
