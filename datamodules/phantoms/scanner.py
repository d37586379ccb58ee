"""The scanners of a synthetic cohort and what they do to an image: contrast, point spread, bias field, noise, gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from datamodules.phantoms.anatomy import Anatomy
from datamodules.phantoms.levels import random_field

EXTERNAL_SITES = 5


@dataclass(frozen=True)
class Scanner:
    """How one scan was measured.

    Args:
        manufacturer: an invented name.
        field_t: field strength in tesla.
        gain: stored units per unit of signal, white matter on T1w being 100 units of signal.
        gamma: exponent on the signal, for T1w and FLAIR.
        bias: standard deviation of the log of the smooth multiplicative field.
        noise: standard deviation of the noise, in units of signal.
        blur_mm: standard deviation of the point spread.
    """

    manufacturer: str
    field_t: float
    gain: float
    gamma: tuple[float, float]
    bias: float
    noise: float
    blur_mm: float


def draw_scanner(high: bool, rng: np.random.Generator, site: int, habits: np.random.Generator) -> Scanner:
    """Draw how a scan is measured.

    Args:
        high: 3 T rather than 1.5 T.
        rng: the scan's generator.
        site: 0 in-house, where one vendor stands; 1 to `EXTERNAL_SITES` outside.
        habits: the generator of an outside site, in the same state for each of its scans.
    """
    gain = float(6 * np.exp(rng.normal(0, 0.2)))
    noise = float(rng.uniform(0.9, 1.1)) * (2.2 if high else 3.4)
    bias = 0.09 if high else 0.05
    gamma = (0.93, 1.06) if high else (1.0, 1.0)
    if not site:
        return Scanner("Vendor A", 3.0 if high else 1.5, gain, gamma, bias, noise, 0.55)
    vendor = ("Vendor B", "Vendor C", "Vendor D")[site % 3]
    t1, flair = (float(base * value) for base, value in zip(gamma, habits.normal(1, 0.12, 2), strict=True))
    blur, more = float(habits.uniform(0.6, 1.3)), float(habits.uniform(1.0, 2.0))
    scale = float(np.exp(habits.normal(0, 0.6)))
    return Scanner(vendor, 3.0 if high else 1.5, gain * scale, (t1, flair), bias * more, noise * more**0.5, blur)


def measured(
    signal: NDArray[np.float32],
    mask: NDArray[np.bool_],
    anatomy: Anatomy,
    scanner: Scanner,
    channel: int,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Apply contrast, point spread, bias field, Rician noise and gain, and cut the brain out."""
    blurred = gaussian_filter(signal, scanner.blur_mm / anatomy.grid.spacing[0], mode="constant", truncate=3.0)
    seen = np.maximum(blurred[mask], 0) / 100
    seen = 100 * seen ** np.float32(scanner.gamma[channel])
    seen *= np.exp(np.float32(scanner.bias) * random_field(anatomy.bias_knots, rng)[mask])
    noise = rng.standard_normal((2, len(seen)), np.float32) * np.float32(scanner.noise)
    seen = np.hypot(seen + noise[0], noise[1]) * np.float32(scanner.gain)
    picture = np.zeros(signal.shape, np.int16)
    picture[mask] = np.clip(np.rint(seen), 1, 32000)
    return picture
