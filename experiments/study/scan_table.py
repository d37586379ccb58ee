"""Covariates of a study's scans, from its cohort.tsv: numbers and classes under one name, however the column was called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.cohort.covariates import columns_of, number_of, usual_spelling
from datamodules.cohort.target import Target
from datamodules.files.tables import MISSING, read_rows, require_columns
from experiments.statistics.predictions import Predictions
from experiments.study.record import read_record
from experiments.study.run_folder import ResultsError

UNKNOWN = ""


@dataclass(frozen=True)
class ScanTable:
    """The scans of a study in the order of cohort.tsv.

    Attributes:
        patient: (n,) names.
        session: (n,) names, empty where there is none.
        value: (n,) float64 of the target.
        days: (n,) float64 days from scan to assessment, NaN where unknown.
        label: (n,) 0 or 1.
        columns: Every column as text.
        target: What is told from the images; under its name there is no covariate.
    """

    patient: npt.NDArray[np.str_]
    session: npt.NDArray[np.str_]
    value: npt.NDArray[np.float64]
    days: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.str_]]
    target: Target = field(default_factory=Target)

    def text(self, covariate: str) -> npt.NDArray[np.str_]:
        """(n,) values of a covariate in their usual spelling, empty where unknown.

        Where no column names scanners, the vendor is the scanner.
        """
        columns = [] if self.target.owns(covariate) else columns_of(self.columns, covariate)
        if covariate == "scanner" and not columns:
            columns = columns_of(self.columns, "vendor")
        texts = np.full(self.patient.size, UNKNOWN, dtype=np.str_)
        for column in columns:
            usual = np.array([usual_spelling(covariate, value) for value in column.tolist()], dtype=np.str_)
            texts = np.where(texts == UNKNOWN, usual, texts)
        return texts

    def number(self, covariate: str) -> npt.NDArray[np.float64]:
        """(n,) float64 values of a covariate, NaN where unknown; a unit behind the number is dropped."""
        return np.array([number_of(value) for value in self.text(covariate).tolist()], dtype=np.float64)

    def has(self, covariate: str) -> bool:
        """Whether any scan has the covariate."""
        return bool(np.any(self.text(covariate) != UNKNOWN))


def read_scans(study: Path, target: Target | None = None) -> ScanTable:
    """Read a study's cohort.tsv; a cell that says that it is missing is empty.

    Args:
        study: The study's folder.
        target: What is told from the images; by default that of its record, and without one the EDSS.

    Raises:
        ResultsError: if the file is not there.
        CohortError: if it is not what the study was begun with.
    """
    path, record = study / "cohort.tsv", read_record(study)
    if not path.is_file():
        raise ResultsError(f"{path} is missing; restore it, or use another STUDY")
    if record is not None:
        record.check_files(study, path.name)
    rows = read_rows(path)
    target = target or (record.label if record else Target())
    require_columns(path, rows, ("patient", "session", target.column, "days", "label"))
    columns = {
        name: np.array(["" if row[name].lower() in MISSING else row[name] for row in rows], dtype=np.str_)
        for name in rows[0]
        if name != "#"
    }
    values = [target.value_of(part) for part in columns[target.column].tolist()]
    value = np.array([np.nan if number is None else number for number in values], dtype=np.float64)
    days = np.array([number_of(text) for text in columns["days"].tolist()])
    return ScanTable(columns["patient"], columns["session"], value, days, columns["label"].astype(np.int64), columns, target)


def rows_in(scans: ScanTable, pred: Predictions) -> npt.NDArray[np.int64]:
    """(n,) row of each prediction in the table.

    Raises:
        ResultsError: if a prediction has no row.
    """
    row_of = {key: row for row, key in enumerate(zip(scans.patient.tolist(), scans.session.tolist(), strict=True))}
    sessions: Sequence[str] = [""] * pred.y.size if pred.session is None else [str(session) for session in pred.session]
    keys = list(zip([str(patient) for patient in pred.patient], sessions, strict=True))
    strangers = [key for key in keys if key not in row_of]
    if strangers:
        patient, session = strangers[0]
        raise ResultsError(f"scan {patient} {session} was predicted and is not in the study's cohort.tsv; train it again")
    return np.array([row_of[key] for key in keys], dtype=np.int64)
