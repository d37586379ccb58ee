"""Regions of the brain: what they are, where they lie, how much of them there is."""

from typing import Any

from regions.catalog import REGIONS, Region, get_region
from regions.own import load_regions

__all__ = ["REGIONS", "KeepRegion", "Region", "get_region", "load_regions"]


def __getattr__(name: str) -> Any:
    """Import KeepRegion, and with it TorchIO, only when it is asked for."""
    if name == "KeepRegion":
        from regions.masking import KeepRegion

        return KeepRegion
    raise AttributeError(f"module 'regions' has no attribute {name!r}")
