"""The record of a study: what it is made of, in ``studies/<name>/study.yaml``.

Written when the study begins and read by every command: cohort, label rule, split, and what each input shows. The paths may
change when data moves; label rule, split and mask mode may not once a run has begun. A region that was changed since a run was
trained is found by comparing three places: the run's own ``run.json``, this record, and the region's definition today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.splits import SplitRule
from datamodules.cohort.target import Target
from datamodules.files.atomic import file_sha256, write_text
from datamodules.files.sealed import sealed, unsealed
from datamodules.files.tables import CohortError
from lightning_modules.decision import Decision
from regions.atlas import MASK_VERSION, template_sha256
from regions.catalog import REGIONS, Atlas, Region
from regions.own import load_regions

RECORD = "study.yaml"
OLDEST_DECISION: Decision = "balanced_accuracy"
"""The threshold's rule of studies and baselines that do not name one."""
HEAD = "# What this study is made of. Written when it began, read by every command; not to be edited.\n"


@dataclass(frozen=True)
class Mask:
    """How a region becomes a mask: the mode, the label map behind the template's regions, the version of the code."""

    mode: str = "template"
    dilate_mm: float = 0.0
    """How far ``template-dilated`` grows; 0 in the other modes."""
    label_map: str = field(default_factory=lambda: template_sha256())
    """SHA-256 of the template's label map."""
    version: int = MASK_VERSION

    @classmethod
    def of(cls, mode: str, dilate_mm: float) -> Mask:
        """The mask of a mode, made by the code and the label map of today."""
        return cls(mode, float(dilate_mm) if mode == "template-dilated" else 0.0)


@dataclass(frozen=True)
class ShownRegion:
    """What an input shows: labels, how they become a mask, and which images. Part of a run's fingerprint."""

    name: str
    labels: tuple[int, ...]
    mask: Mask
    images: tuple[str, ...] = ()
    """Some of the study's; empty: all."""

    @classmethod
    def of(cls, region: Region, mask: Mask) -> ShownRegion:
        """A region under a study's mask; that of an atlas comes from the atlas's label map."""
        label_map = region.atlas.sha256 if region.atlas else mask.label_map
        return cls(region.name, region.labels, replace(mask, label_map=label_map), region.images)

    def plain(self) -> dict[str, Any]:
        """As it stands in run.json."""
        content = {"name": self.name, "labels": list(self.labels), "mask": asdict(self.mask)}
        return content | ({"images": list(self.images)} if self.images else {})

    def changed_since(self, recorded: Mapping[str, Any] | None) -> str:
        """How the region differs from what a run.json holds; empty where it does not."""
        if recorded == self.plain():
            return ""
        if not recorded:
            return f"region {self.name!r}, which it did not record"
        before, now = list(recorded.get("labels", ())), list(self.labels)
        if before != now:
            return f"region {self.name!r} (labels {_listed(before)}, now {_listed(now)})"
        shown = list(recorded.get("images", ()))
        if shown != list(self.images):
            return f"region {self.name!r} (images {', '.join(shown) or 'all'}, now {', '.join(self.images) or 'all'})"
        mask = asdict(self.mask)
        parts = [name for name, value in mask.items() if recorded.get("mask", {}).get(name) != value]
        names = {"label_map": "the template's label map", "version": "the mask code", "mode": "the mask mode"}
        return f"region {self.name!r} ({', '.join(names.get(part, part) for part in parts)} changed)"


def _listed(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels)) or "all"


@dataclass(frozen=True)
class StudyRecord:
    """Content of study.yaml."""

    cohort: Path
    store: Path
    label: Target
    broken: str
    folds: int
    split_seed: int
    split_hash: str
    cohort_hash: str
    mask: Mask
    regions: Mapping[str, tuple[int, ...]]
    """Input -> its labels."""
    regions_file: Path | None = None
    """The YAML file that the user's own regions came from."""
    alike_ids: AlikeIds = "refuse"
    voxel_mm: float = 0.0
    """Side of a voxel that networks see; 0: the scans' own."""
    atlas: Atlas | None = None
    """The label map that the user's own regions come from, if it is not the shipped one."""
    split: SplitRule = SplitRule()
    images: tuple[str, ...] = DEFAULT_IMAGES
    """What is read of each scan."""
    optional: tuple[str, ...] = ()
    """Images that a scan may lack."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the study's files that later commands read."""

    def check_files(self, folder: Path, *names: str) -> None:
        """Look that files of the study are what it was begun with.

        Args:
            folder: The study's folder.
            names: Which files; all by default.

        Raises:
            CohortError: naming the file that was changed or is gone.
        """
        for name in names or self.files:
            path = folder / name
            if name in self.files and (not path.is_file() or file_sha256(path) != self.files[name]):
                state = "was changed after the study began" if path.is_file() else "is missing"
                raise CohortError(f"{path} {state}; restore it, or use another STUDY")

    def today(self, name: str) -> ShownRegion:
        """The same region as catalogue, regions file, label map and mask code define it today."""
        known = known_regions(self.regions_file if self.regions_file and self.regions_file.is_file() else None)
        mask = Mask.of(self.mask.mode, self.mask.dilate_mm)
        return ShownRegion.of(known[name], mask) if name in known else ShownRegion(name, self.regions.get(name, ()), mask)


def known_regions(path: Path | None) -> Mapping[str, Region]:
    """The six regions, and those of a user's own file or atlas; the only reader of such files.

    Raises:
        RegionFileError: if the file cannot be understood.
    """
    return REGIONS if path is None else MappingProxyType({**REGIONS, **load_regions(path)})


def read_record(folder: Path) -> StudyRecord | None:
    """The record of a study; None where it has none yet.

    Raises:
        CohortError: if the file is damaged.
    """
    path = folder / RECORD
    try:
        content = unsealed(path, yaml.safe_load(path.read_text(encoding="utf-8")), "restore it, or use another STUDY")
        return _record(content)
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CohortError(f"{path} is damaged ({' '.join(str(error).split())}); restore it, or use another STUDY") from None


def decision_of(folder: Path) -> Decision:
    """The rule of the thresholds of a study's networks and baselines.

    Raises:
        CohortError: if the record is damaged.
    """
    record = read_record(folder)
    return record.label.decision if record else OLDEST_DECISION


def _record(content: Mapping[str, Any]) -> StudyRecord:
    split = content["split"]
    return StudyRecord(
        cohort=Path(content["cohort"]),
        store=Path(content["store"]),
        label=Target(**{"decision": OLDEST_DECISION, **content["label"]}),
        broken=str(content["broken"]),
        folds=int(split["folds"]),
        split_seed=int(split["seed"]),
        split_hash=str(split["hash"]),
        cohort_hash=str(split["cohort_hash"]),
        mask=Mask(**content["mask"]),
        regions={str(name): tuple(map(int, labels)) for name, labels in content["regions"].items()},
        regions_file=Path(content["regions_file"]) if content["regions_file"] else None,
        files={str(name): str(digest) for name, digest in content["files"].items()},
        alike_ids=content["alike_ids"],
        voxel_mm=float(content.get("voxel_mm", 0.0)),
        atlas=Atlas(Path(atlas["path"]), str(atlas["sha256"])) if (atlas := content.get("atlas")) else None,
        split=SplitRule(**split.get("rule", {})),
        images=tuple(map(str, content.get("images", DEFAULT_IMAGES))),
        optional=tuple(map(str, content.get("optional_images", ()))),
    )


def write_record(folder: Path, record: StudyRecord) -> None:
    """Write study.yaml, atomically; nothing is written where it says the same already."""
    content: dict[str, Any] = {
        "cohort": str(record.cohort),
        "store": str(record.store),
        "broken": record.broken,
        "label": record.label.plain(),
        "split": {
            "folds": record.folds,
            "seed": record.split_seed,
            "hash": record.split_hash,
            "cohort_hash": record.cohort_hash,
        },
        "mask": asdict(record.mask),
        "regions_file": str(record.regions_file) if record.regions_file else None,
        "regions": {name: list(labels) for name, labels in record.regions.items()},
        "files": dict(record.files),
        "alike_ids": record.alike_ids,
    }
    if record.split != SplitRule():
        content["split"]["rule"] = asdict(record.split)
    if record.voxel_mm:
        content["voxel_mm"] = record.voxel_mm
    if record.atlas:
        content["atlas"] = {"path": str(record.atlas.path), "space": "MNI152", "sha256": record.atlas.sha256}
    if record.images != DEFAULT_IMAGES:
        content["images"] = list(record.images)
    if record.optional:
        content["optional_images"] = list(record.optional)
    text = HEAD + yaml.safe_dump(sealed(content), sort_keys=False, default_flow_style=None, width=120)
    path = folder / RECORD
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def joined(recorded: StudyRecord | None, wanted: StudyRecord, begun: set[str], study: str) -> StudyRecord:
    """What study.yaml says from now on.

    Args:
        recorded: What it says.
        wanted: What a command asks for, with the regions of today.
        begun: Inputs with a run.
        study: The study's name, for messages.

    Raises:
        CohortError: if label rule or mask mode are others than those that runs were begun with.
    """
    if recorded is None or not begun:
        return wanted
    for before, now, group in ((recorded.label, wanted.label, "label"), (recorded.mask, wanted.mask, "mask")):
        differing = [
            name
            for name, value in asdict(before).items()
            if getattr(now, name) != value and name not in ("label_map", "version")
        ]
        if differing:
            name = differing[0]
            option = {"mode": "data.mask_mode", "dilate_mm": "data.dilate_mm"}.get(name, f"{group}.{name}")
            values = f"{getattr(before, name)!r}, not {getattr(now, name)!r}"
            raise CohortError(f"study {study} was begun with --{option} {values}; use another STUDY")
    kept = {name: labels for name, labels in recorded.regions.items() if name in begun}
    regions = {name: kept.get(name, labels) for name, labels in {**kept, **wanted.regions}.items()}
    ordered = {name: regions[name] for name in dict.fromkeys([*REGIONS, *recorded.regions, *regions]) if name in regions}
    return replace(
        wanted,
        mask=recorded.mask,
        regions=ordered,
        regions_file=wanted.regions_file or recorded.regions_file,
        atlas=wanted.atlas or recorded.atlas,
        files=recorded.files,
    )


def with_region(record: StudyRecord, shown: ShownRegion) -> StudyRecord:
    """The record after a run of an input has begun."""
    return replace(record, mask=shown.mask, regions={**record.regions, shown.name: shown.labels})
