"""Stored scans measured, and the reference of a training cohort from its stored scans."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datamodules.quality.reference import MeasuredScan, QualityReference, measure_scan, quality_reference
from datamodules.store.prepared import PreparedCohort


def measure_stored(prepared: PreparedCohort, row: int, optional: Collection[str] = ()) -> MeasuredScan:
    """Measure one scan of a store, on the voxels that it has there.

    Args:
        prepared: The store's volumes.
        row: Which scan.
        optional: Images that scans of the training cohort lack.

    Raises:
        ScanError: if a file is gone or not what was written.
    """
    labels = np.asarray(prepared.labels(row)) if prepared.has_labels(row) else None
    return measure_scan(prepared.contrasts(row), prepared.grid, labels, optional)


def reference_of_stored(
    prepared: PreparedCohort, workers: int = 1, on_scan: Callable[[int, int], None] | None = None
) -> QualityReference:
    """The reference of a training cohort.

    Args:
        prepared: Its scans, in the cohort's order, on their own voxels.
        workers: Threads that measure.
        on_scan: Called with (done, to do) after each scan.
    """
    optional, measured = prepared.lacked, []
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for scan in pool.map(lambda row: measure_stored(prepared, row, optional), range(len(prepared.scans))):
            measured.append(scan)
            if on_scan:
                on_scan(len(measured), len(prepared.scans))
    return quality_reference(measured)
