"""The pairs of scans of a study that look like one: looked for once, and in the way of every training until they are explained.

::

    studies/<name>/duplicates.json    the pairs, and what they were found in; "accepted" once ``--doubles keep`` was said
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from datamodules.cohort.flagged_scans import SAME_PERSON
from datamodules.cohort.records import Scan
from datamodules.files.atomic import content_sha256
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.files.tables import CohortError
from datamodules.store.duplicates import Duplicate, duplicates_of
from datamodules.store.prepared import PreparedCohort
from experiments.runtime.console import bar, print_note
from experiments.study.study import Study

Doubles = Literal["refuse", "keep"]
"""What happens to two patients who look like one person."""
RECORD = "duplicates.json"
VERSION = 1
"""Raised whenever other pairs would be found, so that a study is looked through again."""


def known_duplicates(
    folder: Path, scans: Sequence[Scan], prepared: PreparedCohort, workers: int, console: Console
) -> list[Duplicate]:
    """The pairs of the study's record; looked for, and written down, where that is missing or of other scans."""
    return [Duplicate(**pair) for pair in _record(folder, scans, prepared, workers, console)["pairs"]]


def _record(folder: Path, scans: Sequence[Scan], prepared: PreparedCohort, workers: int, console: Console) -> dict[str, Any]:
    made_of = content_sha256([VERSION, [(scan.patient, scan.session) for scan in scans], prepared.hash])
    try:
        content = read_sealed(folder / RECORD, "look again")
    except (FileNotFoundError, DamagedError):
        content = {}
    if content.get("made_of") != made_of:
        with bar(console, "comparing scans") as on_scan:
            pairs = duplicates_of(scans, prepared, workers, on_scan)
        content = {"made_of": made_of, "accepted": False, "pairs": [asdict(pair) for pair in pairs]}
        write_sealed(folder / RECORD, content)
    return dict(content)


def refuse_doubles(study: Study, doubles: Doubles, workers: int, console: Console) -> None:
    """Stop where two patients look like one person, unless this was accepted, now or before.

    Raises:
        CohortError: naming the first pair and what to do.
    """
    content = _record(study.folder, study.cohort.scans, study.prepared, workers, console)
    pairs = [Duplicate(**pair) for pair in content["pairs"] if not pair["same_patient"]]
    if not pairs or content["accepted"]:
        return
    more = f", and {len(pairs) - 1} more: make check" if len(pairs) > 1 else ""
    if doubles == "refuse":
        raise CohortError(
            f"two patients look like one person: {pairs[0]}{more}; name them in {SAME_PERSON} beside the cohort and begin "
            "another STUDY, or keep them as two people with --doubles keep"
        )
    write_sealed(study.folder / RECORD, content | {"accepted": True})
    print_note(console, f"two patients who look like one person are kept apart: {pairs[0]}{more}")
