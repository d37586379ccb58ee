"""Which images a network sees, and how many channels it therefore has; ``--channels`` as inputs of a study."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.cohort.images import indicator, parse_images, titles
from datamodules.files.atomic import write_text
from experiments.study.record import RECORD, known_regions
from experiments.study.runs import named_like
from experiments.study.trainer_options import SettingsError
from lightning_modules.covariates import covariate_names
from regions.catalog import REGIONS, Region
from regions.files import read_yaml

ARGUMENTS = ("in_channels", "in_chans", "n_input_channels", "input_channels", "img_channels")
"""What classes call the number of channels of their input."""
OPTION = "--channels"
FILE = "channels.yaml"


def fit_channels(network: Any, images: Sequence[str]) -> None:
    """Set the channels of a network that was given none: its own default then stands for the study's number.

    Args:
        network: ``class_path`` and ``init_args``; changed in place.
        images: The study's images.

    Raises:
        SettingsError: if another number was given.
    """
    for argument, given, default in _arguments(network):
        if given == default:
            network["init_args"][argument] = len(images)
        elif given != len(images):
            reads = f"the study reads {len(images)} image{'s' if len(images) > 1 else ''} ({titles(images)})"
            raise SettingsError(f"network.{argument} is {given}, and {reads}; give --network.{argument} {len(images)}")


def show_images(network: Any, images: Sequence[str], optional: Iterable[str]) -> None:
    """Let a network see some of the study's images: it gets as many channels, and is told nothing of the others.

    Args:
        network: ``class_path`` and ``init_args``; changed in place.
        images: What it sees.
        optional: The images of the study that scans may lack.
    """
    for argument, _, _ in _arguments(network):
        network["init_args"][argument] = len(images)
    options = (network or {}).get("init_args") or {}
    if options.get("covariates"):
        options["covariates"] = told_of(options["covariates"], images, optional)


def told_of(covariates: str, images: Sequence[str], optional: Iterable[str]) -> str:
    """Covariates, separated by commas, without those that tell whether a scan has an image which is not shown."""
    hidden = {indicator(name) for name in optional if name not in images}
    return ",".join(name for name in covariate_names(covariates) if name not in hidden)


def tell_of_missing(network: Any, optional: Iterable[str]) -> None:
    """Add what tells whether a scan has an optional image to the covariates of a network; one that takes none sees zeros.

    Args:
        network: ``class_path`` and ``init_args``; changed in place.
        optional: The images that scans may lack.
    """
    options = (network or {}).get("init_args") or {}
    if "covariates" in options:
        names = [*covariate_names(options["covariates"]), *map(indicator, optional)]
        options["covariates"] = ",".join(dict.fromkeys(names))


def _arguments(network: Any) -> Iterator[tuple[str, Any, Any]]:
    """The argument that holds the number of channels, what it is, and its default."""
    options = (network or {}).get("init_args") or {}
    if options:
        module, _, name = network["class_path"].rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        for argument in ARGUMENTS:
            if argument in parameters and argument in options:
                yield argument, options[argument], parameters[argument].default


def refuse_unread(regions: Mapping[str, Region], images: Sequence[str]) -> None:
    """Refuse an input of images that the study does not read.

    Raises:
        SettingsError: naming the input and the image.
    """
    for region in regions.values():
        for image in region.images:
            if image not in images:
                reads = f"the study reads {titles(images)}; add it to --images"
                raise SettingsError(f"region {region.name!r} shows the image {image!r}, and {reads}")


def with_channels(words: Sequence[str]) -> list[str]:
    """Replace ``--channels "t1w flair t1w,flair"`` by inputs of these images, in a file of regions beside the study.

    Every region is shown with each set of images, as ``global_t1w`` and the like; a set of all images is the region itself.

    Raises:
        CohortError: if a name cannot be that of an image.
        SettingsError: if no set of images is given, or a study that was begun would lose inputs.
        RegionFileError: if the file of regions cannot be understood.
    """
    rest, given = _without(words, OPTION)
    sets = [parse_images(text) for text in given.replace(";", " ").split()]
    if not sets:
        raise SettingsError(f'{OPTION} is empty; give sets of images, for example {OPTION} "t1w flair t1w,flair"')
    _, images = _without(rest, "--images")
    every = parse_images(images) if images else tuple(dict.fromkeys(name for names in sets for name in names))
    rest, own = _without(rest, "--regions")
    known = known_regions(Path(own) if own else None)
    if any(region.atlas for region in known.values()):
        reads = "give each an entry of a YAML file, with `atlas`, `labels` and `images`"
        raise SettingsError(f"{OPTION} shows the shipped regions in sets of images, and {own} has those of an atlas; {reads}")
    entries: dict[str, Any] = read_yaml(Path(own)) if own else {}
    for names in sets:
        for region in REGIONS.values() if set(names) != set(every) else ():
            name = re.sub(r"[^a-z0-9]+", "_", f"{region.name}_{'_'.join(names)}")
            entries[name] = {"of": [region.name], "images": list(names)}
    (_, study), (_, cohort), (_, studies) = (_without(rest, option) for option in ("--study", "--cohort", "--studies"))
    path = Path(studies or "studies") / named_like(study, Path(cohort or "demo")) / FILE
    _refuse_lost(path, entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(entries, sort_keys=False))
    return [*rest, *([] if images else ["--images", ",".join(every)]), "--regions", str(path)]


def _refuse_lost(path: Path, entries: Mapping[str, Any]) -> None:
    """Refuse to take inputs from a study that was begun; more may be added."""
    if not path.is_file() or not path.with_name(RECORD).is_file():
        return
    gone = [name for name in known_regions(path) if name not in REGIONS and name not in entries]
    if gone:
        raise SettingsError(f"{path.parent} has an input {gone[0]!r}; name its images in {OPTION} too, or use another STUDY")


def _without(words: Sequence[str], option: str) -> tuple[list[str], str]:
    """A command line without an option, and what that was; empty where it was not given."""
    rest: list[str] = []
    value = ""
    left = iter(words)
    for word in left:
        if word == option or word.startswith(f"{option}="):
            value = word.partition("=")[2] or next(left, "")
        else:
            rest.append(word)
    return rest, value
