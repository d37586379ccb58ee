"""One person under two ids: ``same_person.tsv`` names them, beside participants.tsv or the cohort's table, written by hand.

::

    same_person.tsv   patient same_as reason      the scans of ``patient`` are those of ``same_as``

Every command then takes the scans of both as one patient's, who keeps the id ``same_as``; a session of the other id gets that
id in front (``P2/ses-1`` becomes ``P1/P2_ses-1``). Files of quality control go on naming scans by their own ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from datamodules.cohort.flagged_scans import JOINED, SAME_PERSON, quality_folder
from datamodules.cohort.identity import identity
from datamodules.cohort.records import Cohort, Exclusion, Scan
from datamodules.files.tables import CohortError, read_rows, require_columns

Record = TypeVar("Record", Scan, Exclusion)


class Kept(NamedTuple):
    """The id that a person keeps: what identifies it, and how same_person.tsv writes it where it first stands."""

    key: str
    text: str


def read_same_person(folder: Path) -> dict[str, Kept]:
    """Identity of each id -> the id that the person keeps, links followed to their end; empty without such a file.

    Raises:
        CohortError: if the file cannot be read, a row lacks an id, an id is given to two people, or links form a circle.
    """
    path = folder / SAME_PERSON
    rows = read_rows(path) if path.is_file() else []
    if not rows:
        return {}
    require_columns(path, rows, JOINED[SAME_PERSON][:2])
    links: dict[str, Kept] = {}
    texts: dict[str, str] = {}
    for row in rows:
        if not row["patient"] or not row["same_as"]:
            raise CohortError(f"{path} line {row['#']}: each row needs two ids of one person, patient and same_as")
        key = identity(row["same_as"])
        end = Kept(key, texts.setdefault(key, row["same_as"]))
        if links.setdefault(identity(row["patient"]), end).key != end.key:
            raise CohortError(f"{path} line {row['#']}: {row['patient']} is the same as two others; write one row for each id")
    kept = {}
    for start, end in links.items():
        passed = {start}
        while end.key in links:
            if end.key in passed:
                raise CohortError(f"{path}: {end.text} is the same as others in a circle; keep one id of each person")
            passed.add(end.key)
            end = links[end.key]
        kept[start] = end
    return kept


def as_one_person(cohort: Cohort) -> Cohort:
    """The cohort with the ids that same_person.tsv names made one; who was joined, and rows without effect, become remarks.

    Raises:
        CohortError: if the file cannot be read, or two scans would get one name.
    """
    kept = read_same_person(quality_folder(cohort.source))
    if not kept:
        return cohort
    spelled = {identity(record.patient): record.patient for record in (*cohort.exclusions, *cohort.scans)}
    scans = sorted((_joined(scan, kept, spelled) for scan in cohort.scans), key=lambda scan: (scan.patient, scan.session))
    names = [scan.name for scan in scans]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CohortError(f"{SAME_PERSON} makes two scans {twice[0]}; give one of them another session")
    listed = ", ".join(f"{spelled[key]} is {spelled.get(*end)}" for key, end in kept.items() if key in spelled)
    remarks = [f"{SAME_PERSON}: {listed}"] if listed else []
    if odd := sorted({name for key, end in kept.items() for name in (key, end.key)} - set(spelled)):
        remarks.append(f"{SAME_PERSON} names patients who are not in the cohort: {', '.join(odd)}")
    exclusions = tuple(_joined(exclusion, kept, spelled) for exclusion in cohort.exclusions)
    return replace(cohort, scans=tuple(scans), exclusions=exclusions, remarks=(*cohort.remarks, *remarks))


def _joined(record: Record, kept: Mapping[str, Kept], spelled: Mapping[str, str]) -> Record:
    end = kept.get(identity(record.patient))
    if end is None:
        return record
    session = "_".join(filter(None, (record.patient, record.session)))
    return replace(record, patient=spelled.get(*end), session=session)
