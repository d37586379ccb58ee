"""What a public dataset is, and what all readers of one need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.cohort.records import Candidate
from datamodules.files.listing import list_folder
from datamodules.files.tables import CohortError


@dataclass(frozen=True)
class PublicDataset:
    """One dataset: its names, licence and notes, and the function that lists its scans."""

    name: str
    title: str
    licence: str
    citation: str
    prepared: bool
    """Whether the scans lie in MNI152 space; otherwise they are raw."""
    note: str
    """What a user must know of the dates."""
    read: Callable[[Path], list[Candidate]]


def only_file(folder: Path, pattern: str, what: str) -> Path:
    """The one file below a folder whose name fits; links to folders are not followed.

    Raises:
        CohortError: if there is none, or more than one.
    """
    matches = [path for path in list_folder(folder, f"**/{pattern}") if path.is_file()]
    if len(matches) != 1:
        listed = f"{len(matches)}: {', '.join(str(path.relative_to(folder)) for path in matches[:4])}" if matches else "none"
        raise CohortError(f"{folder} should hold one {what} ({pattern}), found {listed}; give the dataset's unpacked folder")
    return matches[0]


def unmatched(scans: Sequence[Candidate], rows: Mapping[tuple[str, str], str]) -> list[Candidate]:
    """Rows of a clinical table that have no scan, as candidates without files; ``rows`` says where each stands."""
    there = {(scan.patient, scan.session) for scan in scans}
    lost = {name: where for name, where in rows.items() if name not in there}
    return [Candidate(patient, session, {}, None, where) for (patient, session), where in lost.items()]
