"""Raw scans with their skulls from a BIDS dataset: T1w, FLAIR or other images of each session, with date and sidecars.

Read are::

    participants.tsv                                    only for participants that have no folder
    sub-X/[ses-Y/]anat/sub-X[_ses-Y][_...]_T1w.nii[.gz], ..._FLAIR.nii[.gz], and their .json, also inherited from folders above
    dates                                               see ``datamodules.cohort.dates``
    label maps of other programs                        see ``datamodules.intake.segmentations``

Where a session has several images of one kind, the first in this order is taken and the others are named: without contrast
agent (``ce``), without reconstruction (``rec``), with the fewest further entities, with the lowest ``run``, by name. Images
of another part than the magnitude (``part-phase``, ``part-real``, ``part-imag``) or in another space (``space``, ``desc``) are
not raw scans. Only the folders above are looked into, so links that lead in circles do no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from datamodules.cohort.bids import bids_ids
from datamodules.cohort.dates import ScanDates
from datamodules.cohort.identity import AlikeIds, refuse_alike
from datamodules.cohort.images import DEFAULT_IMAGES, is_named, title, titles
from datamodules.cohort.records import SessionRecord, scan_name
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError, bids_id, read_object, read_rows, require_columns
from datamodules.intake.segmentations import find_label_map

NOT_RAW = ("space", "desc")
"""Entities of files that are not raw scans."""
MAGNITUDE = "mag"
"""The one ``part`` of a complex image that is a scan; the others are phase, real and imag."""


@dataclass(frozen=True)
class RawSession(SessionRecord):
    """One session's scans as they came from the scanner; ``images`` and ``sidecars`` by name, the T1w first."""

    images: Mapping[str, Path]
    acquired: date | None
    sidecars: Mapping[str, Mapping[str, Any]]
    labels: Path | None = None
    dialect: str = ""

    @property
    def t1w(self) -> Path:
        """The image onto which the others are laid."""
        return self.images["t1w"]


@dataclass(frozen=True)
class RawDataset:
    """Sessions that can be prepared, those that cannot as (patient, session, reason), and what was not taken, in words."""

    folder: Path
    sessions: tuple[RawSession, ...]
    excluded: tuple[tuple[str, str, str], ...] = ()
    remarks: tuple[str, ...] = field(default=())


def read_raw(
    folder: Path,
    segmentation: str = "",
    alike_ids: AlikeIds = "refuse",
    images: Sequence[str] = DEFAULT_IMAGES,
    optional: Collection[str] = (),
) -> RawDataset:
    """Find the sessions of a raw BIDS dataset.

    Args:
        folder: The dataset's root.
        segmentation: Name of the program whose label maps are taken, needed if several programs left some; or a table of ids.
        alike_ids: What happens to ids that differ in writing alone, see ``datamodules.cohort.identity``.
        images: What is read of each session, the T1w among it.
        optional: Those that a session may lack.

    Raises:
        CohortError: if the folder holds no session with these images, or a name, a table or a sidecar is at fault.
    """
    if not folder.is_dir():
        raise CohortError(f"{folder} is not a folder; give the root of a BIDS dataset, which holds sub-*/anat/*_T1w.nii.gz")
    refuse_alike(bids_ids(folder), alike_ids)
    sessions: list[RawSession] = []
    excluded = [
        (patient, "", "no folder in the dataset") for patient in _participants(folder) if not (folder / patient).is_dir()
    ]
    remarks: list[str] = []
    unused: dict[str, list[str]] = {}
    dates = ScanDates(folder)
    for patient, session, anat in _anat_folders(folder):
        chosen, reason, notes = _choose(anat, (patient, session), images, optional)
        remarks += notes
        if reason:
            excluded.append((patient, session, reason))
            continue
        label_map = find_label_map(folder, patient, session, segmentation)
        for why, path in label_map.unused.items():
            unused.setdefault(why, []).append(path.name)
        sidecars = {kind: read_sidecar(path, folder) for kind, path in chosen.items()}
        acquired = dates.of(patient, session, chosen["t1w"])
        sessions.append(RawSession(patient, session, chosen, acquired, sidecars, label_map.path, label_map.dialect))
    remarks += [f"label maps that are not used: {len(names)}, as {names[0]}: {why}" for why, names in unused.items()]
    if not sessions:
        missing = f"{folder} holds no session with {titles(images)}{_first_excluded(excluded)}"
        raise CohortError(f"{missing}; expected is sub-X/[ses-Y/]anat/sub-X[_ses-Y]_T1w.nii.gz")
    return RawDataset(folder, tuple(sessions), tuple(excluded), tuple(remarks))


def _first_excluded(excluded: Sequence[tuple[str, str, str]]) -> str:
    if not excluded:
        return ""
    patient, session, reason = excluded[0]
    return f" ({len(excluded)} without, as {scan_name(patient, session)}: {reason})"


def _participants(folder: Path) -> list[str]:
    path = folder / "participants.tsv"
    if not path.is_file():
        return []
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id",))
    return [patient for row in rows if (patient := bids_id(row, "participant_id", "sub-"))]


def _anat_folders(folder: Path) -> list[tuple[str, str, Path]]:
    """Patient, session and folder of each session, also of those without images."""
    folders = []
    for subject in (path for path in list_folder(folder, "sub-*") if path.is_dir()):
        sessions = [path for path in list_folder(subject, "ses-*") if path.is_dir()]
        if (subject / "anat").is_dir() or not sessions:
            folders.append((subject.name, "", subject / "anat"))
        folders += [(subject.name, session.name, session / "anat") for session in sessions]
    return folders


def _choose(
    anat: Path, name: tuple[str, str], wanted: Sequence[str], optional: Collection[str]
) -> tuple[dict[str, Path], str, list[str]]:
    """The images of a session, the reason why it cannot be used, and what was not taken."""
    chosen: dict[str, Path] = {}
    remarks: list[str] = []
    for kind in wanted:
        images = sorted(_images(anat, kind, *name), key=_rank)
        if not images and kind in optional:
            continue
        if not images:
            return {}, f"no {title(kind)}", remarks
        chosen[kind], *others = images
        if others:
            names = ", ".join(path.name for path in others)
            remarks.append(f"{scan_name(*name)}: {chosen[kind].name} is taken, not {names}")
        if not chosen[kind].is_file():
            where = " (a link to a file that was not fetched)" if chosen[kind].is_symlink() else ""
            return {}, f"{title(kind)} file missing: {chosen[kind].name}{where}", remarks
    return chosen, "", remarks


def _images(anat: Path, kind: str, patient: str, session: str) -> list[Path]:
    images = []
    for path in list_folder(anat, "*_*.nii*"):
        if not path.name.endswith((".nii", ".nii.gz")) or not is_named(path, kind):
            continue
        entities = parse_name(path)
        if entities.get("sub") != patient[4:] or entities.get("ses", "") != session[4:]:
            raise CohortError(f"{path} does not start with {patient}{'_' if session else ''}{session}_; move or rename it")
        if not any(key in entities for key in NOT_RAW) and entities.get("part", MAGNITUDE) == MAGNITUDE:
            images.append(path)
    return images


def parse_name(path: Path) -> dict[str, str]:
    """Entities of a BIDS file name, such as ``{"sub": "01", "ses": "1", "run": "2"}``, without suffix and extension.

    Raises:
        CohortError: if a part is not written as key-value.
    """
    *parts, _ = path.name.split(".")[0].split("_")
    pairs = [part.partition("-") for part in parts]
    wrong = [
        part for part, (key, dash, value) in zip(parts, pairs, strict=True) if not (key.isalnum() and dash and value.isalnum())
    ]
    if wrong:
        raise CohortError(f"{path}: {wrong[0]!r} is not a BIDS entity such as ses-1 or run-2; rename the file")
    return {key: value for key, _, value in pairs}


def _rank(path: Path) -> tuple[bool, bool, int, int, str]:
    entities = parse_name(path)
    run = entities.get("run", "0")
    return "ce" in entities, "rec" in entities, len(entities), int(run) if run.isdigit() else 0, path.name


def read_sidecar(image: Path, root: Path) -> dict[str, Any]:
    """Fields of all sidecars that describe an image; the file nearest to the image overrides those of folders above.

    Raises:
        CohortError: if a sidecar is not a JSON object.
    """
    suffix, entities = image.name.split(".")[0].rsplit("_", 1)[-1], set(parse_name(image).items())
    content: dict[str, Any] = {}
    for folder in reversed(
        [image.parent, *(parent for parent in image.parents[1:] if parent == root or root in parent.parents)]
    ):
        fitting = [path for path in list_folder(folder, f"*{suffix}.json") if _describes(path, suffix, entities)]
        for path in sorted(fitting, key=lambda path: len(path.name.split("_"))):
            content |= read_object(path)
    return content


def _describes(path: Path, suffix: str, entities: set[tuple[str, str]]) -> bool:
    """Whether a sidecar describes an image with this suffix and these entities (BIDS inheritance)."""
    stem = path.name.split(".")[0]
    return stem.rsplit("_", 1)[-1] == suffix and set(parse_name(path).items()) <= entities
