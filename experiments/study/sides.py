"""Inputs that lie on one side of the brain, and training scans that are mirrored: the two do not go together.

A mirrored scan shows the network of such an input the tissue of the other side, in the place of its own; what it then reads is
no longer what its name says.
"""

from __future__ import annotations

from collections.abc import Iterable

from experiments.study.settings import Settings
from experiments.study.trainer_options import SettingsError
from regions.atlas import mirrored_share
from regions.catalog import REGIONS

LEAST_SHARE = 0.5
"""Share of an input's voxels that must have their mirror image in it."""


def one_sided(settings: Settings, inputs: Iterable[str]) -> str:
    """Which inputs lie on one side although training scans are mirrored, and the way out; empty where none does."""
    flip = settings.augmentation().flip
    own = [name for name in dict.fromkeys(inputs) if name not in REGIONS and settings.regions[name].labels] if flip else []
    shares = {name: mirrored_share(settings.regions[name]) for name in own}
    told = ", ".join(f"{name} ({100 * share:.0f} %)" for name, share in shares.items() if share < LEAST_SHARE)
    if not told:
        return ""
    return (
        f"{told}: so little of the region has its mirror image in it, and mirrored training scans (data.augmentation.flip "
        f"{flip:g}) would show its network the other side; set --data.augmentation.flip 0"
    )


def refuse_one_sided(settings: Settings, inputs: Iterable[str]) -> None:
    """Refuse to train inputs that lie on one side on mirrored scans.

    Raises:
        SettingsError: naming them.
    """
    if told := one_sided(settings, inputs):
        raise SettingsError(told)
