"""Reading one NIfTI file: finite, three-dimensional, in a known space; everything else is an error that names the file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError

from datamodules.files.tables import CohortError
from regions.grid import TOLERANCE_MM, Grid, space_gap_mm

MOST_VOXELS = 2**29
"""More than 0.2 mm voxels for a whole head; a damaged header can ask for far more memory than there is."""


MOST_CONTRADICTION_MM = 1.0
"""By which sform and qform of one space may differ; a qform is rounded, and cannot hold a shear."""
NEAR_LIMIT = 32000
"""Values beyond plus and minus this in one int16 image: they were larger than the type holds and came out at its other end."""


MOST_PACKED = 1032
"""Bytes that deflate can pack into one; a damaged header can ask for far more than a file holds."""
KEPT_TYPES = ("int8", "uint8", "int16", "uint16", "float32")
"""Types of which float32 holds every value."""


PLATEAU = 0.8
"""Share of a mask's highest value from which on a voxel counts as wholly inside."""
LEAST_SCALE = 100
"""Highest value of a soft mask in percent or of 0 to 255; a label map has most of its voxels below its highest ids."""


class ScanError(CohortError):
    """One scan whose files cannot be used; the message names the file."""


@dataclass(frozen=True)
class Volume:
    """One image file: (I, J, K) voxels and its affine (voxel to mm)."""

    path: Path
    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]


def load_header(path: Path) -> Any:
    """Open an image without reading its voxels, and check its sides, type and affine.

    Raises:
        ScanError: if the file is damaged, not a single 3D volume of numbers, or has no position in its header.
    """
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
    """Refuse a NIfTI header without sform and qform, or with two that contradict each other within one space.

    sform and qform may differ if they describe different spaces, such as the template's and the scanner's; the sform counts.
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
            raise ScanError(f"{path} gives two positions of its voxels: sform and qform are {gap:.1f} mm apart; fix its header")


def read_volume(path: Path) -> Volume:
    """Read one NIfTI file as float32.

    Raises:
        ScanError: if the file is damaged, not a single volume, holds values that are not finite, or one value only.
    """
    volume = read_stored(path)
    return replace(volume, array=volume.array.astype(np.float32, copy=False))


def read_stored(path: Path, may_be_even: bool = False) -> Volume:
    """Read one NIfTI file in the type that it is stored in, where that is one of ``KEPT_TYPES``; else as float32.

    Args:
        path: The file.
        may_be_even: Whether all voxels may hold one value, as in the mask of lesions where there are none.

    Returns:
        The volume; its array may be read-only, and in any order in memory.

    Raises:
        ScanError: as ``read_volume``.
    """
    image = load_header(path)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            array = _voxels(path, image).reshape(image.shape[:3])
    except (EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise unreadable(path, error) from None
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ScanError(f"{path} holds voxels that are not finite (NaN or infinite): {bad}; export it again")
    if low < -NEAR_LIMIT and high > NEAR_LIMIT and _int16(image):
        span = f"from {low:g} to {high:g}, both ends of int16: larger ones have overflown"
        raise ScanError(f"{path} holds values {span}; export it again as float32 or uint16")
    if low == high and not may_be_even:
        raise ScanError(f"{path} holds nothing but the value {low:g}; export it again")
    return Volume(path, array, np.asarray(image.affine, dtype=np.float64))


def _int16(image: Any) -> bool:
    return image.get_data_dtype().kind == "i" and image.get_data_dtype().itemsize == 2 and not _scaled(image)


def _scaled(image: Any) -> bool:
    return (getattr(image.dataobj, "slope", 1), getattr(image.dataobj, "inter", 0)) != (1, 0)


def _voxels(path: Path, image: Any) -> npt.NDArray[Any]:
    """The voxels of an image, scaled as its header says.

    A compressed file is unpacked once, to its end, where gzip's checksum stands; nibabel itself stops at the last voxel and
    would miss a flipped bit.
    """
    kept = not _scaled(image) and image.get_data_dtype().name in KEPT_TYPES
    name = path.name.lower()
    if name.endswith((".nii.gz", ".mgz")):
        content = _unpacked(path, _size(image))
        if kept and len(content) == _size(image):
            stored = image.get_data_dtype()
            array = np.frombuffer(content, stored, offset=image.dataobj.offset).reshape(image.shape, order="F")
            return array.astype(stored.newbyteorder("="), copy=False)
        image = type(image).from_bytes(content)
    elif name.endswith(".gz"):
        _unpacked(path, 0)
    dtype = image.get_data_dtype().newbyteorder("=") if kept else np.float32
    return np.asarray(image.dataobj, dtype=dtype)


def _size(image: Any) -> int:
    """The bytes of an unpacked file up to its last voxel."""
    return int(image.dataobj.offset + np.prod(image.shape, dtype=np.int64) * image.get_data_dtype().itemsize)


def _unpacked(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of what a gzip file holds, which is read to its end.

    Raises:
        OSError: for a file that is damaged; EOFError for one that is cut off.
    """
    broken = cast("type[Exception]", igzip_lib.error)  # isal's stubs call the class an instance
    most = path.stat().st_size * MOST_PACKED
    try:
        with igzip.open(path) as file:
            content: bytes = file.read(min(size, most))
            while file.read(2**20):
                pass
    except broken as error:
        raise OSError(str(error)) from None
    return content


def unreadable(path: Path, error: Exception) -> ScanError:
    """The error for a file that is damaged, cut off or not to be opened."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ScanError(f"{path} cannot be read ({reason}); restore the file or take the scan out")


def marked(mask: Volume) -> npt.NDArray[np.bool_]:
    """The voxels that a mask marks, (I, J, K), the same for every form in which it can be stored.

    A mask of two values marks the higher, be it 1, 255 or scaled by the header. A soft mask marks more than half of its scale,
    which is 1, or the value of most of its voxels where that is `LEAST_SCALE` or more. A label map marks all its labels.
    """
    values = mask.array
    high = float(values.max())
    if high == 1 and values.dtype.kind in "iu":
        return np.asarray(values > 0)
    positive = values[values > 0]
    top = positive[positive > PLATEAU * high]
    if top.size == positive.size or (high >= LEAST_SCALE and 2 * top.size >= positive.size):
        return np.asarray(values > np.median(top) / 2)
    return np.asarray(values > 0.5)


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
        distance = f"lies up to {gap:.2f} mm from {reference.path.name}, {tolerance_mm:g} mm are allowed"
        raise ScanError(f"{other.path} {distance}; register them, or store both in one orientation")


def canonical_grid(path: Path) -> Grid:
    """The RAS+ grid of an image, from its header alone.

    Raises:
        ScanError: if the header cannot be used.
        SpaceError: if the voxel axes are oblique.
    """
    image = load_header(path)
    return turned_grid(image.shape[:3], image.affine)[1]


def turned_grid(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], Grid]:
    """How the voxel axes of an image are turned to RAS+ (nibabel's orientation, axis and sign of each), and its grid then.

    Raises:
        SpaceError: if the voxel axes are oblique.
    """
    turns = io_orientation(affine)
    sides = tuple(int(shape[axis]) for axis in np.argsort(turns[:, 0]))
    return turns, Grid.of(sides, affine @ inv_ornt_aff(turns, shape))
