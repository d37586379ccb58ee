"""Which scans each fold of a study tests and tunes on, with their labels, from the study's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.cohort.records import scan_name
from datamodules.cohort.splits import LabelledScan, Splits, load_splits
from datamodules.cohort.target import Target
from experiments.study.record import read_record
from experiments.study.run_folder import ResultsError, Rows
from experiments.study.scan_table import read_scans

Key = tuple[str, str]


@dataclass(frozen=True)
class Parts:
    """The study's split and what is predicted of each scan, by (patient, session): its class, its step or its value."""

    splits: Splits
    labels: Mapping[Key, float]
    target: Target = field(default_factory=Target)

    def check(self, path: Path, rows: Rows, fold: int) -> None:
        """Look that predictions are those of the fold's tuning and internal test scans, each once, with the cohort's labels.

        Args:
            path: The file that the rows were read from.
            rows: What it holds.
            fold: Which fold.

        Raises:
            ResultsError: naming the first scan that is missing, too many, or has another label.
        """
        patients = [patient for patient, _ in self.labels]
        keys = list(self.labels)
        again = "the file is not of this study; restore it, or train the run again with --restart"
        parts = self.splits.partitions(fold, patients)
        for name in ("tuning", "internal_test"):
            part = rows.of(name)
            listed = list(zip(part.patient.tolist(), part.session.tolist(), strict=True))
            expected = {keys[row] for row in parts[name]}
            if odd := sorted(expected.symmetric_difference(listed)):
                relation = "is missing from" if odd[0] in expected else "does not belong to"
                raise ResultsError(f"{path}: scan {scan_name(*odd[0])} {relation} the {name} scans of fold {fold}; {again}")
            if len(listed) != len(expected):
                raise ResultsError(f"{path}: a {name} scan of fold {fold} is listed twice; {again}")
            for key, label in zip(listed, part.y.tolist(), strict=True):
                if self.labels[key] != label:
                    raise ResultsError(
                        f"{path}: scan {scan_name(*key)} has label {label:g}, in the cohort {self.labels[key]:g}; {again}"
                    )


def read_parts(study: Path) -> Parts:
    """Read splits.tsv and cohort.tsv of a study.

    Raises:
        SplitError: if the split is damaged or is not the cohort's.
        CohortError: if a file is not what the study was begun with.
    """
    record = read_record(study)
    if record is not None:
        record.check_files(study)
    scans = read_scans(study)
    target = scans.target
    keys = list(zip(scans.patient.tolist(), scans.session.tolist(), strict=True))
    listed = [LabelledScan(*key, label) for key, label in zip(keys, scans.label.tolist(), strict=True)]
    truth = scans.value if target.kind == "regression" else scans.label
    return Parts(load_splits(study / "splits.tsv", listed, target), dict(zip(keys, truth.tolist(), strict=True)), target)
