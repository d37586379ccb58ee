"""Predictions of 49 scans whose statistics foreign programs gave too: tests/data/significance_rows.md says which."""

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
