"""Read a cohort: a BIDS-like folder or a plain table, without flagged scans, one patient for each person."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from datamodules.cohort.bids import image_names, read_bids
from datamodules.cohort.eligibility import select_scans
from datamodules.cohort.flagged_scans import excluded_by_qc
from datamodules.cohort.identity import AlikeIds, Written
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.records import Candidate, Cohort
from datamodules.cohort.same_person import as_one_person
from datamodules.cohort.table import read_table
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError


def read_cohort(
    source: Path,
    rule: Target,
    with_flagged: bool = False,
    alike_ids: AlikeIds = "refuse",
    known: Sequence[Written] = (),
    images: Sequence[str] = DEFAULT_IMAGES,
    optional: Collection[str] = (),
) -> Cohort:
    """Read a BIDS-like folder or a plain table, without the scans that quality control holds back.

    Args:
        source: A folder (see ``datamodules.cohort.bids``, or one that holds a ``cohort.tsv``) or a .tsv, .csv or .xlsx file
            (see ``datamodules.cohort.table``).
        rule: How scores become labels.
        with_flagged: Keep the scans that ``datamodules.cohort.flagged_scans`` holds back, and all ids as they are.
        alike_ids: What happens to ids that differ in writing alone, see ``datamodules.cohort.identity``.
        known: Patients of another cohort, whose ids may not occur here in another writing.
        images: What is read of each scan.
        optional: Those that a scan may lack.

    Raises:
        CohortError: if the source is missing, ambiguous or holds contradicting rows, or if nothing usable is left.
    """
    candidates, remarks = read_candidates(source, rule, alike_ids, images)
    cohort = select_scans(source, candidates, rule, remarks, alike_ids, known, images, optional)
    return cohort if with_flagged else as_one_person(excluded_by_qc(cohort))


def read_candidates(
    source: Path, rule: Target, alike_ids: AlikeIds = "refuse", images: Sequence[str] | None = DEFAULT_IMAGES
) -> tuple[list[Candidate], tuple[str, ...]]:
    """All scans of a folder or a table, usable or not, and remarks on its tables; with all images that are there for None.

    Raises:
        CohortError: if the source is missing, ambiguous or cannot be understood.
    """
    table = source / "cohort.tsv" if source.is_dir() and not (source / "participants.tsv").exists() else source
    if table.is_file():
        return read_table(table, rule, images or ()), ()
    require_source(source)
    return read_bids(source, rule, alike_ids, images or image_names(source))


def require_source(source: Path) -> None:
    """Look that there is something to read.

    Raises:
        CohortError: if it is neither a folder nor a file.
    """
    if not source.is_dir() and not source.is_file():
        wrong = "is neither a folder nor a file" if source.exists() else "does not exist"
        raise CohortError(f"cohort {source} {wrong}; give a BIDS folder or a table (.tsv, .csv, .xlsx)")
