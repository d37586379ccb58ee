"""Patients are split once, into a file with a hash; every load checks it.

Fold k tests part k, tunes on part (k + 1) mod K and trains on the rest. Parts are balanced by the patient's label and, within it,
by the number of scans. A patient's label is that of the latest session.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.atomic import write_text
from datamodules.cohort import Scan
from datamodules.tables import read_rows, require_columns

FOLDS = 7
PARTITIONS = ("train", "tuning", "internal_test")


class SplitError(ValueError):
    """A split that would let a patient leak, or that does not belong to the cohort."""


@dataclass(frozen=True)
class Splits:
    """Which part each patient belongs to."""

    part: dict[str, int]
    folds: int
    seed: int

    @property
    def hash(self) -> str:
        """SHA-256 of the number of folds and of every patient's part."""
        text = f"{self.folds}\n" + "".join(f"{patient}\t{part}\n" for patient, part in sorted(self.part.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def partitions(self, fold: int, patients: Sequence[str]) -> dict[str, np.ndarray]:
        """Rows of the scans of each partition.

        Args:
            fold: The test part, 0 ... folds - 1.
            patients: The patient of each scan, in cohort order.

        Returns:
            Rows (int64, ascending) for ``train``, ``tuning`` and ``internal_test``.

        Raises:
            SplitError: if the fold does not exist.
        """
        if not 0 <= fold < self.folds:
            raise SplitError(f"fold {fold} does not exist; folds are 0 to {self.folds - 1}")
        part = np.array([self.part[patient] for patient in patients])
        test, tuning = part == fold, part == (fold + 1) % self.folds
        chosen = {"train": ~test & ~tuning, "tuning": tuning, "internal_test": test}
        return {name: np.flatnonzero(chosen[name]) for name in PARTITIONS}


def make_splits(scans: Sequence[Scan], seed: int, folds: int = FOLDS) -> Splits:
    """Deal patients out to the parts: shuffled by seed, label by label, those with more scans first.

    Raises:
        SplitError: if a class has fewer patients than there are folds.
    """
    label, count = _patient_labels(scans)
    for value in (0, 1):
        patients = sum(one == value for one in label.values())
        if patients < folds:
            name = "positive" if value else "negative"
            raise SplitError(f"{patients} {name} patients cannot fill {folds} folds; each fold needs one at least")
    rng = np.random.default_rng(seed)
    order = [sorted(label)[i] for i in rng.permutation(len(label))]
    order.sort(key=lambda patient: (label[patient], -count[patient]))
    shuffled_parts = rng.permutation(folds)
    return Splits({patient: int(shuffled_parts[i % folds]) for i, patient in enumerate(order)}, folds, seed)


def _patient_labels(scans: Sequence[Scan]) -> tuple[dict[str, int], Counter[str]]:
    latest = {scan.patient: scan.label for scan in sorted(scans, key=lambda s: (s.patient, s.session))}
    return latest, Counter(scan.patient for scan in scans)


def write_splits(path: Path, splits: Splits, scans: Sequence[Scan], cohort_hash: str) -> None:
    """Write ``splits.tsv`` (one row a scan) and, beside it, ``splits.json`` (seed, folds, hashes)."""
    rows = "".join(f"{s.patient}\t{s.session}\t{s.label}\t{splits.part[s.patient]}\n" for s in scans)
    facts = {"folds": splits.folds, "seed": splits.seed, "cohort_hash": cohort_hash, "split_hash": splits.hash}
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    write_text(path, "patient\tsession\tlabel\tpart\n" + rows)


def load_splits(path: Path, scans: Sequence[Scan]) -> Splits:
    """Read a split and check all that must hold.

    Each patient stands in one part only, each scan of the cohort stands in the table and no other does, each part holds both
    classes, and the hash is the one that was written.

    Raises:
        SplitError: naming the patient, scan or part at fault.
    """
    rows = read_rows(path)
    require_columns(path, rows, ("patient", "session", "label", "part"))
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        parts[row["patient"]].add(row["part"])
    for patient, where in parts.items():
        if len(where) > 1:
            raise SplitError(f"{path}: patient {patient} stands in parts {' and '.join(sorted(where))}: a leak; restore the file")
    _check_scans(path, rows, scans)
    splits = Splits({patient: int(next(iter(where))) for patient, where in parts.items()}, facts["folds"], facts["seed"])
    _check_parts(path, splits, scans)
    if splits.hash != facts["split_hash"]:
        raise SplitError(f"{path} is not the split that was made (hash {splits.hash[:12]}, made {facts['split_hash'][:12]}); restore it")
    return splits


def _check_scans(path: Path, rows: Sequence[dict[str, str]], scans: Sequence[Scan]) -> None:
    listed = Counter((row["patient"], row["session"]) for row in rows)
    twice = [key for key, count in listed.items() if count > 1]
    if twice:
        raise SplitError(f"{path}: scan {'/'.join(twice[0])} stands there twice")
    ours = {(scan.patient, scan.session) for scan in scans}
    for keys, told in ((ours - set(listed), "is in the cohort but not in"), (set(listed) - ours, "is not in the cohort but in")):
        if keys:
            raise SplitError(f"scan {'/'.join(min(keys))} {told} {path} ({len(keys)} such scans); the cohort changed: use another STUDY")


def _check_parts(path: Path, splits: Splits, scans: Sequence[Scan]) -> None:
    label, _ = _patient_labels(scans)
    for part in range(splits.folds):
        classes = {label[patient] for patient, where in splits.part.items() if where == part}
        if classes != {0, 1}:
            raise SplitError(f"{path}: part {part} holds {len(classes)} class(es) of patients; each part needs both")
    odd = {part for part in splits.part.values() if not 0 <= part < splits.folds}
    if odd:
        raise SplitError(f"{path}: part {min(odd)} does not exist; parts are 0 to {splits.folds - 1}")
