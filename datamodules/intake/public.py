"""Public datasets with brain MRI and EDSS: what each is called, whose it is, and how its scans are listed.

Nothing is downloaded and no image is copied. The layouts are those of the published archives, unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.cohort import Candidate, CohortError


@dataclass(frozen=True)
class PublicDataset:
    """One dataset: its words, and the function that lists its scans."""

    name: str
    title: str
    licence: str
    citation: str
    prepared: bool
    """Whether the scans lie in MNI152 space; otherwise they are raw."""
    note: str
    """What a user must know of the dates."""
    read: Callable[[Path], list[Candidate]]


def public_datasets() -> Mapping[str, PublicDataset]:
    """The datasets that can be adopted, by name."""
    from datamodules.intake import ljubljana, msleseg, muslim

    return {one.name: one for one in (msleseg.DATASET, muslim.DATASET, ljubljana.DATASET)}


def find_dataset(name: str) -> PublicDataset:
    """One dataset by its name or title, in any case.

    Raises:
        CohortError: naming those that are known.
    """
    known = public_datasets()
    found = next((one for one in known.values() if name.casefold() in (one.name, one.title.casefold())), None)
    if found is None:
        listed = ", ".join(f"{one.name} ({one.title})" for one in known.values())
        raise CohortError(f"dataset {name!r} is not known; known are {listed}")
    return found


def only_file(folder: Path, pattern: str, what: str) -> Path:
    """The one file below a folder whose name fits; links to folders are not followed.

    Raises:
        CohortError: if there is none, or more than one.
    """
    found = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if len(found) != 1:
        listed = f"{len(found)}: {', '.join(str(path.relative_to(folder)) for path in found[:4])}" if found else "none"
        raise CohortError(f"{folder} should hold one {what} ({pattern}), found {listed}; give the dataset's unpacked folder")
    return found[0]


def unmatched(scans: Sequence[Candidate], rows: Mapping[tuple[str, str], str]) -> list[Candidate]:
    """Rows of a clinical table that have no scan, as candidates without files; ``rows`` says where each stands."""
    there = {(one.patient, one.session) for one in scans}
    lost = {name: where for name, where in rows.items() if name not in there}
    return [Candidate(patient, session, None, None, None, where) for (patient, session), where in lost.items()]
