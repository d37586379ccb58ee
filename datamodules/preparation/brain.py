"""Where the brain is in a raw T1w image: deepbet, or the template's brain moved onto it.

deepbet (Fisch et al. 2024) is a network whose weights come with its wheel, so that nothing is downloaded; it was trained on
adults with and without disease. The mask of the template serves when it fails or gives a volume that no adult has.

References:
    Fisch et al. 2024, Comput Biol Med 179:108845, doi 10.1016/j.compbiomed.2024.108845 (deepbet).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.files.volumes import ScanError, Volume
from datamodules.preparation.template_brain import registered_mask

Method = Literal["deepbet", "registration"]

PLAUSIBLE_ML = (500.0, 2300.0)
"""Volumes of a brain mask: adults' intracranial volumes are about 1000 to 2000 ml, and a field of view may cut them."""
EXTRACTED_SHARE = 0.6
"""An image with a larger share of non-zero voxels still has its surroundings, or was cut close to the brain."""


@dataclass(frozen=True)
class BrainMask:
    """A brain mask on the image's voxels, how it was made, and why another method was not used.

    Attributes:
        mask: (I, J, K) bool.
        method: ``deepbet``, ``registration``, or ``given`` for an image that came without skull.
        remark: Empty, or why the method asked for was not used.
    """

    mask: NDArray[np.bool_]
    method: str
    remark: str = ""

    def ml(self, affine: NDArray[np.float64]) -> float:
        """Volume in ml."""
        return mask_ml(self.mask, affine)


def mask_ml(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Volume of a mask in ml."""
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def extract_brain(t1w: Volume, method: Method = "deepbet") -> BrainMask:
    """Find the brain.

    Args:
        t1w: The raw image.
        method: What to try first; ``registration`` is also tried when deepbet gives nothing plausible.

    Raises:
        ScanError: if no method gives a plausible brain.
    """
    given = without_skull(t1w)
    if given is not None:
        return BrainMask(given, "given", "the image has no skull: what is not zero is the brain")
    remark = ""
    if method == "deepbet":
        try:
            mask = deepbet_mask(t1w)
        except (AssertionError, ValueError, RuntimeError) as error:  # deepbet asserts that it sees a brain
            remark = f"deepbet failed ({(str(error).splitlines() or [type(error).__name__])[0][:120]})"
        else:
            remark = implausible(mask, t1w, "deepbet")
            if not remark:
                return BrainMask(mask, "deepbet")

    mask = registered_mask(t1w)
    wrong = implausible(mask, t1w, "registration to the template")
    if wrong:
        reasons = f"{remark}; {wrong}" if remark else wrong
        raise ScanError(f"{t1w.path}: no brain was found ({reasons}); look at the image, is it a T1w scan of a head?")
    return BrainMask(mask, "registration", remark)


def implausible(mask: NDArray[np.bool_], t1w: Volume, method: str) -> str:
    """Why a mask cannot be a brain, empty when it can."""
    volume = mask_ml(mask, t1w.affine)
    low, high = PLAUSIBLE_ML
    return "" if low <= volume <= high else f"{method} gave {volume:.0f} ml, {low:.0f} to {high:.0f} ml are plausible"


def without_skull(t1w: Volume) -> NDArray[np.bool_] | None:
    """The brain of an image whose surroundings are exactly 0 already, else None.

    A brain differs from a head whose background was set to 0 by its volume and by its outline: a brain is one part, ends
    before the volume does on both sides and in front and behind, and does not reach down to a neck.
    """
    from scipy.ndimage import binary_fill_holes, label

    filled = t1w.array != 0
    if filled.mean() > EXTRACTED_SHARE or implausible(filled, t1w, ""):
        return None
    parts, number = label(filled)
    if number > 1:
        sizes = np.bincount(parts.ravel())[1:]
        if sizes.max() < 0.99 * sizes.sum():
            return None
    touched = [filled.any(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    if sum(bool(line[0] or line[-1]) for line in touched) > 1:
        return None
    return np.asarray(binary_fill_holes(filled), dtype=bool)


def deepbet_mask(t1w: Volume) -> NDArray[np.bool_]:
    """Brain mask by deepbet on the CPU, (I, J, K) bool.

    Raises:
        AssertionError: by deepbet, if it sees no brain.
        RuntimeError: by torch.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deepbet's networks are TorchScript, which torch is giving up
        from deepbet.bet import BrainExtraction

        torch.set_num_threads(1)
        network = BrainExtraction(no_gpu=True)
        _, mask, _ = network.run(nib.Nifti1Image(t1w.array, t1w.affine))
    return np.asarray(mask.dataobj) > 0
