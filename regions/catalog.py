"""What a region is: a name and the labels that belong to it.

The six inputs of a study are in `REGIONS`, in the order of every table and figure. Labels are ids of the one scheme
that `regions.labels` describes (FreeSurfer numbering as uint8). A region without labels is the whole brain.

Choices that the field has not settled, and how to choose otherwise:

- `gray_matter` is all gray matter: cerebral cortex, cerebellar cortex and the subcortical nuclei. A study of the cortex
  alone puts a `cortical` region into its own file (see `regions.own`).
- `white_matter` is cerebral: with the corpus callosum and with lesions, which would otherwise be holes in the shape of
  the lesion load; without cerebellar white matter (7, 46).
- `subcortical_gray_matter` leaves out the ventral diencephalon (28, 60), a mixture of gray and white matter.
- `ventricles` include the choroid plexus (31, 63), which lies in them; cerebrospinal fluid around the brain (24) does
  not count.

References:
    Fischl et al. 2002, Neuron 33:341-355, doi 10.1016/s0896-6273(02)00569-x (the structures and their numbering).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regions.errors import UserError, did_you_mean

LAST_OF_SCHEME = 255
"""Highest id of the shipped label map."""
LAST_OF_ATLAS = 65535
"""Highest id of an atlas."""
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")


class UnknownRegionError(UserError):
    """No region has this name."""


@dataclass(frozen=True)
class Atlas:
    """A label map of the user's own in MNI152 space, which regions can come from instead of the shipped one.

    Args:
        path: the label map, a NIfTI file.
        sha256: of the file, so that regions of a changed file are other regions.
    """

    path: Path
    sha256: str


@dataclass(frozen=True)
class Region:
    """A part of the brain that a network is shown.

    Args:
        name: lower-case letters, digits and underscores; it becomes the name of a folder.
        labels: ids in 1 ... 255, of an atlas 1 ... 65535; empty means the whole brain.
        description: one line for people.
        source: where the definition comes from.
        atlas: the label map that the ids are those of; None for the shipped one.
        images: which of the study's images are shown; empty means all.

    Raises:
        UserError: the name cannot name a folder, or a label cannot be an id.
    """

    name: str
    labels: tuple[int, ...]
    description: str
    source: str
    atlas: Atlas | None = None
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise UserError(f"A region's name has only a-z, 0-9 and _, and starts with a letter; {self.name!r} does not.")
        last = LAST_OF_SCHEME if self.atlas is None else LAST_OF_ATLAS
        bad = [label for label in self.labels if type(label) is not int or not 1 <= label <= last]
        if bad:
            raise UserError(f"Region {self.name!r}: labels are whole numbers from 1 to {last}, not {bad}.")
        object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))

    def select(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Return where a label map shows this region.

        Args:
            labels: any shape, integers from 0, in the scheme of `regions.labels` or in that of the atlas.

        Returns:
            bool, in the shape of labels.
        """
        if not self.labels:
            return np.asarray(labels > 0)
        wanted = np.zeros(256 if self.atlas is None else LAST_OF_ATLAS + 1, dtype=bool)
        wanted[list(self.labels)] = True
        return np.asarray(wanted[labels])


LESIONS = (77, 78, 79, 99, 100, 109)
WHITE_MATTER = (2, 41, 186, *range(251, 256))
CORTEX = (3, 42, 188)
CEREBELLAR_CORTEX = (8, 47)
SUBCORTICAL = (10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58, 189)
UNSPECIFIED_GRAY_MATTER = (187,)
VENTRICLES = (4, 5, 14, 15, 31, 43, 44, 63, 72)
BRAINSTEM = (16, 170, 171, 173, 174, 175, 178)

_ASEG = "FreeSurfer aseg"
_SIX = (
    Region("global", (), "the whole brain, with the fluid inside its outline", "brain mask"),
    Region("white_matter", WHITE_MATTER + LESIONS, "cerebral white matter, corpus callosum and lesions", _ASEG),
    Region(
        "gray_matter",
        CORTEX + CEREBELLAR_CORTEX + SUBCORTICAL + UNSPECIFIED_GRAY_MATTER,
        "cortical, cerebellar and subcortical gray matter",
        _ASEG,
    ),
    Region(
        "subcortical_gray_matter",
        SUBCORTICAL,
        "thalamus, caudate, putamen, pallidum, accumbens, hippocampus and amygdala",
        _ASEG,
    ),
    Region("ventricles", VENTRICLES, "lateral, third, fourth and fifth ventricle with choroid plexus", _ASEG),
    Region("brainstem", BRAINSTEM, "midbrain, pons and medulla", _ASEG),
)
REGIONS: Mapping[str, Region] = MappingProxyType({region.name: region for region in _SIX})
"""The six inputs of a study, the whole brain first."""


def get_region(name: str, regions: Mapping[str, Region] | None = None) -> Region:
    """Return the region of a name.

    Args:
        name: one of `REGIONS`, or of the further regions.
        regions: further regions; they may not take a name of `REGIONS` (`regions.own` sees to that).

    Raises:
        UnknownRegionError: with the nearest name and all names.
    """
    known = {**REGIONS, **(regions or {})}
    if name in known:
        return known[name]
    hint = did_you_mean(str(name), known, likeness=0.5)
    raise UnknownRegionError(f"There is no region {name!r}{hint}. Regions: {', '.join(known)}.")
