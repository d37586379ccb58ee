"""What a region is: a name and the labels that belong to it.

The six inputs of a study are in `REGIONS`, in the order of every table and figure. Labels are ids of the one scheme
that `regions.labels` describes (FreeSurfer numbering as uint8). A region without labels is the whole brain.

Choices that the field has not settled, and how to choose otherwise:

- `gray_matter` is all gray matter: cerebral cortex, cerebellar cortex and the subcortical nuclei. A study of the cortex
  alone puts a `cortical` region into its own file (see `load_regions`).
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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from regions.errors import UserError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")


class UnknownRegionError(UserError):
    """No region has this name."""


class RegionFileError(UserError):
    """A file of user-defined regions cannot be understood."""


@dataclass(frozen=True)
class Region:
    """A part of the brain that a network is shown.

    Args:
        name: lower-case letters, digits and underscores; it becomes the name of a folder.
        labels: ids in 1 ... 255; empty means the whole brain.
        description: one line for people.
        source: where the definition comes from.
        images: which of the study's images are shown; empty means all.

    Raises:
        UserError: the name cannot name a folder, or a label cannot be an id.
    """

    name: str
    labels: tuple[int, ...]
    description: str
    source: str
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise UserError(f"A region's name has only a-z, 0-9 and _, and starts with a letter; {self.name!r} does not.")
        bad = [label for label in self.labels if type(label) is not int or not 1 <= label <= 255]
        if bad:
            raise UserError(f"Region {self.name!r}: labels are whole numbers from 1 to 255, not {bad}.")
        object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))

    def select(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Return where a label map shows this region.

        Args:
            labels: any shape, integers in 0 ... 255, in the scheme of `regions.labels`.

        Returns:
            bool, in the shape of labels.
        """
        if not self.labels:
            return np.asarray(labels > 0)
        wanted = np.zeros(256, dtype=bool)
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
        regions: further regions; they may not take a name of `REGIONS` (`load_regions` sees to that).

    Raises:
        UnknownRegionError: with the nearest name and all names.
    """
    known = {**REGIONS, **(regions or {})}
    if name in known:
        return known[name]
    near = get_close_matches(str(name).lower().replace("-", "_").replace(" ", "_"), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownRegionError(f"There is no region {name!r}.{hint} Regions: {', '.join(known)}.")


def load_regions(path: Path | str) -> dict[str, Region]:
    """Read user-defined regions from YAML.

    Each entry is a name with either `labels` or `of` (regions to put together, the six or earlier ones in the file),
    and optionally `without` (regions or ids to take away), `images` (those of the study's that are shown), `description` and
    `source`:

        cortical:
          labels: [3, 42]
          description: cerebral cortex only
        cortical_and_cerebellar:
          of: [gray_matter]
          without: [subcortical_gray_matter]
        global_t1w:
          of: [global]
          images: [t1w]

    Returns:
        The regions in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        RegionFileError: an entry that cannot be understood, with its name and the reason.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RegionFileError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise RegionFileError(f"{path} has no regions. Write one as 'name:' with an indented 'labels: [3, 42]' below it.")
    regions: dict[str, Region] = {}
    for name, entry in entries.items():
        try:
            regions[name] = _file_region(name, entry, regions, path)
        except ValueError as error:
            raise RegionFileError(f"{path}, region {name!r}: {error}") from error
    return regions


_KEYS = ("labels", "of", "without", "images", "description", "source")


def _file_region(name: str, entry: Any, regions: Mapping[str, Region], path: Path) -> Region:
    """Make one region from its YAML entry."""
    if name in REGIONS:
        raise UserError("the name is taken by the project; choose another.")
    if not isinstance(name, str) or not isinstance(entry, dict):
        raise UserError("an entry is a name with keys below it, such as 'labels: [3, 42]'.")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise UserError(f"unknown key {unknown[0]!r}; keys are {', '.join(_KEYS)}.")
    if ("labels" in entry) == ("of" in entry):
        raise UserError("give either 'labels' or 'of', and not both.")
    images = entry.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise UserError(f"images are a list such as [t1w, flair], found {images!r}.")
    taken: set[int] = set()
    if not images or entry.get("of") != ["global"]:
        taken = _ids(entry.get("labels", entry.get("of")), regions) - _ids(entry.get("without", []), regions)
        if not taken:
            raise UserError("no label is left.")
    about, source = str(entry.get("description", name)), str(entry.get("source", path.name))
    return Region(name, tuple(sorted(taken)), about, source, tuple(image.lower() for image in images))


def _ids(items: Any, regions: Mapping[str, Region]) -> set[int]:
    """Collect ids from a list of ids and region names."""
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise UserError(f"expected a list such as [3, 42], found {items!r}.")
    ids: set[int] = set()
    for item in items:
        if isinstance(item, str):
            region = get_region(item, regions)
            if not region.labels:
                raise UserError(f"{item!r} is the whole brain and has no list of labels; name the parts that you want.")
            ids |= set(region.labels)
        elif isinstance(item, int):
            ids.add(item)
        else:
            raise UserError(f"a list holds ids and names of regions; {item!r} is neither.")
    return ids
