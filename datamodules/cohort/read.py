"""Read a cohort: a BIDS-like folder or a plain table, without the scans that quality control holds back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.cohort.bids import read_bids
from datamodules.cohort.eligibility import select_scans
from datamodules.cohort.flagged_scans import excluded_by_qc
from datamodules.cohort.records import Candidate, Cohort, LabelRule
from datamodules.cohort.table import read_table
from datamodules.files.tables import CohortError


def read_cohort(source: Path, rule: LabelRule, with_flagged: bool = False) -> Cohort:
    """Read a BIDS-like folder or a plain table, without the scans that quality control holds back.

    Args:
        source: A folder (see ``datamodules.cohort.bids``, or one that holds a ``cohort.tsv``) or a .tsv, .csv or .xlsx file
            (see ``datamodules.cohort.table``).
        rule: How scores become labels.
        with_flagged: Keep the scans that ``datamodules.cohort.flagged_scans`` holds back.

    Raises:
        CohortError: if the source is missing, ambiguous or holds contradicting rows, or if nothing usable is left.
    """
    table = source / "cohort.tsv" if source.is_dir() and not (source / "participants.tsv").exists() else source
    remarks: tuple[str, ...] = ()
    if table.is_file():
        candidates: Sequence[Candidate] = read_table(table)
    elif source.is_dir():
        candidates, remarks = read_bids(source, rule)
    else:
        wrong = "is neither a folder nor a file" if source.exists() else "does not exist"
        raise CohortError(f"cohort {source} {wrong}; give a BIDS folder or a table (.tsv, .csv, .xlsx)")
    cohort = select_scans(source, candidates, rule, remarks)
    return cohort if with_flagged else excluded_by_qc(cohort)
