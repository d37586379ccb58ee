"""Labels dealt out again between patients: what is left then for a network to learn is accident."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits


def permuted(scans: Sequence[Scan], splits: Splits, rng: np.random.Generator) -> tuple[Scan, ...]:
    """For each scan the one whose label and score it gets: dealt out again between the patients of a part.

    A patient passes on the last scan, to all scans of another, so each part keeps its number of positive patients.
    """
    last = {scan.patient: scan for scan in sorted(scans, key=lambda s: (s.patient, len(s.session), s.session))}
    dealt: dict[str, Scan] = {}
    for part in range(splits.folds):
        members = [patient for patient in sorted(last) if splits.part[patient] == part]
        order = rng.permutation(len(members))
        dealt |= {patient: last[members[position]] for patient, position in zip(members, order, strict=True)}
    return tuple(dealt[scan.patient] for scan in scans)
