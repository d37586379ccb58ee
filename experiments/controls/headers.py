"""What acquisition alone says about the label: a logistic regression on site, scanner, sequence, voxel size and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.cohort.covariates import text_of
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.cohort.target import Target
from experiments.controls.cases import NotRunError
from experiments.statistics.numeric import Numbers
from experiments.statistics.predictions import FloatArray, Predictions
from lightning_modules.decision import Decision, choose_threshold

COLUMNS = (
    "site", "field_strength", "vendor", "model", "software", "coil", "protocol", "sequence",
    "voxel_size", "slice_thickness", "echo_time", "repetition_time", "inversion_time", "flip_angle",
)  # fmt: skip
"""Covariates that describe how a scan was made, where the cohort's table or the images' sidecars have them."""


def header_columns(scans: Sequence[Scan]) -> list[str]:
    """Those of `COLUMNS` that are not the same for all scans."""
    return [name for name in COLUMNS if len({text_of(scan.covariates, name) for scan in scans}) > 1]


def header_predictions(scans: Sequence[Scan], splits: Splits, decision: Decision) -> Predictions:
    """Internal test predictions of the acquisition alone: fitted on each fold's training part, decided by the study's rule.

    Numbers are standardised, texts become one column a level; a missing value is a level of its own. L2 penalty of strength 1.

    Raises:
        NotRunError: if nothing that is known of the acquisition differs between the scans.
    """
    from sklearn.linear_model import LogisticRegression

    names = _differing(scans)
    patients = [scan.patient for scan in scans]
    y = np.array([scan.label for scan in scans])
    columns: dict[str, list[Any]] = {name: [] for name in ("rows", "fold", "p", "decision")}
    for fold in range(splits.folds):
        parts = splits.partitions(fold, patients)
        design = np.concatenate([_design(scans, name, parts["train"]) for name in names], axis=1)
        model = LogisticRegression(C=1.0, max_iter=1000).fit(design[parts["train"]], y[parts["train"]])
        p = model.predict_proba(design)[:, 1]
        tuning, test = parts["tuning"], parts["internal_test"]
        threshold = choose_threshold(decision, y[tuning], p[tuning], y[parts["train"]].mean())
        for name, value in (("rows", test), ("p", p[test]), ("decision", p[test] >= threshold)):
            columns[name].append(value)
        columns["fold"].append(np.full(len(test), fold))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    rows = joined.pop("rows")
    patient, session = (np.array([getattr(scans[row], name) for row in rows]) for name in ("patient", "session"))
    order = np.lexsort((session, patient, joined["fold"]))
    return Predictions(
        patient=patient[order],
        session=session[order],
        y=y[rows][order],
        **{name: value[order] for name, value in joined.items()},
    )


def header_numbers(scans: Sequence[Scan], splits: Splits, target: Target) -> Numbers:
    """The same, where a number is predicted: a ridge regression of strength 1 on each fold's training part.

    Raises:
        NotRunError: if nothing that is known of the acquisition differs between the scans.
    """
    from sklearn.linear_model import Ridge

    names = _differing(scans)
    patient, y = np.array([scan.patient for scan in scans]), np.array([target.number_of(scan) for scan in scans])
    fold, p, mean = np.zeros(len(scans), dtype=np.int64), np.zeros(len(scans)), np.zeros(len(scans))
    for number in range(splits.folds):
        parts = splits.partitions(number, patient.tolist())
        design = np.concatenate([_design(scans, name, parts["train"]) for name in names], axis=1)
        test = parts["internal_test"]
        fold[test], mean[test] = number, y[parts["train"]].mean()
        p[test] = Ridge(alpha=1.0).fit(design[parts["train"]], y[parts["train"]]).predict(design[test])
    session = np.array([scan.session for scan in scans])
    order = np.lexsort((session, patient, fold))
    p = np.clip(p, 0, target.steps) if target.steps else p
    return Numbers(patient[order], fold[order], y[order], p[order], mean[order], session[order], target.steps)


def _differing(scans: Sequence[Scan]) -> list[str]:
    names = header_columns(scans)
    if not names:
        raise NotRunError("no scan has a field strength, vendor, voxel size or site that differs from the others'")
    return names


def _design(scans: Sequence[Scan], name: str, train: Any) -> FloatArray:
    """Columns (scans, k) of one covariate: standardised by the training part, or one for each of its levels there."""
    texts = [text_of(scan.covariates, name) for scan in scans]
    try:
        numbers = np.array([float(text.replace(",", ".")) if text else np.nan for text in texts])
    except ValueError:
        levels = sorted({texts[row] for row in train})
        return np.array([[float(text == level) for level in levels] for text in texts])
    missing = ~np.isfinite(numbers)
    known = numbers[train][~missing[train]]
    mean, sd = (known.mean(), known.std()) if known.size else (0.0, 1.0)
    values = np.where(missing, 0.0, (numbers - mean) / (sd or 1.0))
    return np.column_stack([values, missing.astype(np.float64)])
