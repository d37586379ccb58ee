"""Predictions of 49 scans whose statistics foreign programs gave too (tests/data/significance_rows.md), and of four."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.statistics.predictions import Predictions

ROWS = Path(__file__).parent / "data" / "significance_rows.tsv"


def load(p: str = "p", decision: str = "decision") -> Predictions:
    """The rows, with one of their columns of probabilities and of decisions."""
    t = np.genfromtxt(ROWS, delimiter="\t", names=True, dtype=None, encoding="utf-8")
    return Predictions(t["patient"], t["fold"], t["y"], t[p], t[decision], t["session"])


def take(pred: Predictions, rows: Any) -> Predictions:
    """Some of the scans, in an order."""
    session = None if pred.session is None else pred.session[rows]
    return Predictions(pred.patient[rows], pred.fold[rows], pred.y[rows], pred.p[rows], pred.decision[rows], session)


def four(**changes: Any) -> Predictions:
    """Four scans of three patients in two folds, with some columns changed."""
    columns: dict[str, Any] = {
        "patient": np.array(["a", "a", "b", "c"]),
        "fold": np.array([0, 0, 1, 1]),
        "y": np.array([1, 1, 0, 1]),
        "p": np.array([0.9, 0.4, 0.2, 0.6]),
        "decision": np.array([1, 0, 0, 1]),
    }
    return Predictions(**{**columns, **changes})
