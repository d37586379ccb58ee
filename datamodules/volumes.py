"""Reading one NIfTI file: float32, finite, three-dimensional, in a known place; all else is an error that names the file."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort import CohortError
from regions.grid import TOLERANCE_MM, Grid, space_gap_mm

MOST_VOXELS = 2**29
"""More than 0.2 mm voxels for a whole head; a damaged header can ask for far more memory than there is."""


MOST_CONTRADICTION_MM = 1.0
"""By which sform and qform of one space may differ; a qform is rounded, and cannot hold a shear."""
NEAR_LIMIT = 32000
"""Values beyond plus and minus this in one int16 image: they were larger than the type holds and came out at its other end."""


class ScanError(CohortError):
    """One scan whose files cannot be used; the message names the file."""


@dataclass(frozen=True)
class Volume:
    """One image file: (I, J, K) float32 as stored, and its affine (voxel to mm)."""

    path: Path
    array: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]


def load_header(path: Path) -> Any:
    """Open an image without reading its voxels, and check its sides, type and affine.

    Raises:
        ScanError: if the file is damaged, not a single 3D volume of numbers, or says nothing of where it lies.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nib.load(path)
    except (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError, KeyError, OverflowError) as error:
        raise unreadable(path, error) from None
    shape = tuple(int(side) for side in image.shape)
    if len(shape) < 3 or min(shape[:3]) < 2 or set(shape[3:]) - {1} or np.prod(shape, dtype=float) > MOST_VOXELS:
        raise ScanError(f"{path} has shape {shape}; a single 3D volume is needed")
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError(f"{path} holds {image.get_data_dtype()} voxels; plain numbers are needed")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_codes(path, image)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ScanError(f"{path} does not say where its voxels lie (affine {affine[:3].round(3).tolist()}); export it again")
    return image


def _check_codes(path: Path, image: Any) -> None:
    """Refuse a NIfTI header that says nothing of where the voxels lie, or two things of the same space.

    sform and qform may differ where they tell of different spaces, such as the template's and the scanner's; the sform counts.
    """
    codes = [int(image.header[name]) for name in ("sform_code", "qform_code") if name in image.header.keys()]  # noqa: SIM118
    if codes and not any(codes):
        raise ScanError(f"{path} does not say where its voxels lie (no sform, no qform); export it again")
    if len(codes) == 2 and codes[0] == codes[1]:
        try:
            gap = space_gap_mm(image.shape[:3], image.get_sform(), image.get_qform())
        except ValueError as error:
            raise unreadable(path, error) from None
        if gap > MOST_CONTRADICTION_MM:
            raise ScanError(
                f"{path} says two things of where its voxels lie: sform and qform are {gap:.1f} mm apart; mend its header"
            )


def read_volume(path: Path) -> Volume:
    """Read one NIfTI file.

    Raises:
        ScanError: if the file is damaged, not a single volume, holds values that are not finite, or one value only.
    """
    image = load_header(path)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.asarray(_whole(path, image).dataobj, dtype=np.float32).reshape(image.shape[:3])
    except (EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise unreadable(path, error) from None
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ScanError(f"{path} holds {bad} voxels that are not finite (NaN or infinite); export it again")
    if _overflown(image, array):
        told = f"from {array.min():g} to {array.max():g}, both ends of int16: larger ones have overflown"
        raise ScanError(f"{path} holds values {told}; export it again as float32 or uint16")
    if array.min() == array.max():
        raise ScanError(f"{path} holds nothing but the value {array.flat[0]:g}; export it again")
    return Volume(path, array, np.asarray(image.affine, dtype=np.float64))


def _overflown(image: Any, array: npt.NDArray[np.float32]) -> bool:
    scaled = (getattr(image.dataobj, "slope", 1), getattr(image.dataobj, "inter", 0)) != (1, 0)
    whole = image.get_data_dtype().kind == "i" and image.get_data_dtype().itemsize == 2 and not scaled
    return whole and bool(array.min() < -NEAR_LIMIT and array.max() > NEAR_LIMIT)


def _whole(path: Path, image: Any) -> Any:
    """The image, where compressed out of memory: unpacked once, to its end, where gzip's checksum stands.

    nibabel itself stops at the last voxel and would miss a flipped bit.
    """
    name = path.name.lower()
    if name.endswith((".nii.gz", ".mgz")):
        return type(image).from_bytes(gzip.decompress(path.read_bytes()))
    if name.endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(2**22):
                pass
    return image


def unreadable(path: Path, error: Exception) -> ScanError:
    """The error for a file that is damaged, cut off or not to be opened."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ScanError(f"{path} cannot be read ({reason}); restore the file or take the scan out")


def check_same_space(reference: Volume, other: Volume, tolerance_mm: float = TOLERANCE_MM) -> None:
    """Refuse an image that does not lie voxel for voxel on another.

    Raises:
        ScanError: naming both files, and the shapes or the largest distance in mm.
    """
    if reference.array.shape != other.array.shape:
        shapes = f"has shape {other.array.shape}, {reference.path.name} {reference.array.shape}"
        raise ScanError(f"{other.path} {shapes}; register them")
    gap = space_gap_mm(reference.array.shape, reference.affine, other.affine)
    if gap > tolerance_mm:
        told = f"lies up to {gap:.2f} mm from {reference.path.name}, {tolerance_mm:g} mm are allowed"
        raise ScanError(f"{other.path} {told}; register them, or store both in one orientation")


def canonical_grid(path: Path) -> Grid:
    """The RAS+ grid of an image, from its header alone.

    Raises:
        ScanError: if the header cannot be used.
        SpaceError: if the voxel axes are oblique.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation

    image = load_header(path)
    turns = io_orientation(image.affine)
    sides = tuple(int(image.shape[axis]) for axis in np.argsort(turns[:, 0]))
    return Grid.of(sides, image.affine @ inv_ornt_aff(turns, image.shape[:3]))
