"""What can be chosen for a preparation, and everything else that decides what its files hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.preparation import bias, brain, images, registration
from regions.grid import Grid

CODE_VERSION = 2
"""Raised whenever prepared files change, so that older ones are rebuilt."""
PACKAGES = ("antspyx", "deepbet", "torch", "nilearn", "nibabel", "numpy", "scipy")


@dataclass(frozen=True)
class PrepareOptions:
    """Choices of the user.

    Attributes:
        brain: The first method of brain extraction, ``deepbet`` or ``registration``.
        nonlinear: Bend the T1w onto the template (SyN) after the affine step.
        samseg: The program ``run_samseg`` of SAMSEG's own environment, or None.
        lesion: Let SAMSEG find lesions as well.
        spacing_mm: Side of the prepared voxels; beyond 1 mm images are smoothed before they are read.
        images: What is prepared of each session, the T1w first.
    """

    brain: str = "deepbet"
    nonlinear: bool = False
    samseg: Path | None = None
    lesion: bool = False
    spacing_mm: float = 1.0
    images: tuple[str, ...] = DEFAULT_IMAGES

    @property
    def grid(self) -> Grid:
        """The prepared voxels."""
        return images.prepared_grid(self.spacing_mm)

    def parameters(self) -> dict[str, Any]:
        """All numbers that decide what is written, for sidecars and for the key of a scan."""
        chosen = asdict(self) | {"samseg": self.samseg is not None, "images": list(self.images)}
        if self.images == DEFAULT_IMAGES:
            del chosen["images"]  # as it was before there was a choice: what is prepared already stays finished
        return {
            **chosen,
            "space": images.SPACE,
            "grid_shape": list(self.grid.shape),
            "grid_origin_mm": list(self.grid.origin),
            "brain_plausible_ml": list(brain.PLAUSIBLE_ML),
            "n4_iterations": list(bias.ITERATIONS),
            "n4_tolerance": bias.TOLERANCE,
            "n4_voxel_mm": bias.COARSE_MM,
            "registration_voxel_mm": registration.SIDE_MM,
            "registration_seed": registration.SEED,
            "linear": _listed(registration.LINEAR),
            "nonlinear_steps": _listed(registration.NONLINEAR) | {"fluid_weight": registration.FLUID_WEIGHT}
            if self.nonlinear
            else None,
            "interpolation": "cubic B-spline, once; masks linear at 0.5, label maps nearest neighbour",
        }


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of all packages that determine the voxels."""
    installed = {name: version(name) for name in ("regionwise", *PACKAGES)}
    return installed | {"preparation": str(CODE_VERSION)}
