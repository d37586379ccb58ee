"""What a table of predictions refuses, and tables that must list the same scans."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from significance_rows import four, load, take

from experiments.statistics.significance import (
    Predictions,
    PredictionsError,
    check_same_scans,
)


@pytest.fixture(scope="module")
def pred() -> Predictions:
    return load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": np.array([0.9, 0.4, 0.2, 1.6])}, "column p holds 1.6; probabilities must be finite and within 0 ... 1"),
        ({"p": np.array([0.9, np.nan, 0.2, 0.6])}, "column p holds nan; probabilities must be finite"),
        ({"y": np.array([1, 2, 0, 1])}, "column y holds 2; only 0 and 1 are allowed"),
        ({"y": np.array([1, 0.5, 0, 1])}, "column y must hold whole numbers"),
        ({"decision": np.array([1, -1, 0, 1])}, "column decision holds -1; only 0 and 1 are allowed"),
        ({"y": np.array([1, 1, 1, 1])}, "all 4 scans have label 1; scoring needs both classes"),
        ({"fold": np.array([0, 1, 1, 1])}, "patient a is in folds [0, 1]; a patient must be tested in one fold only"),
        ({"p": np.array([0.9, 0.4, 0.2])}, "column p has shape (3,), column y has 4 scans"),
        ({"fold": np.array(["0", "0", "1", "1"])}, "column fold must hold whole numbers"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PredictionsError, match=re.escape(message)):
        four(**changes)


def test_the_table_does_not_change_with_the_callers_array() -> None:
    p = np.array([0.9, 0.4, 0.2, 0.6])
    pred = four(p=p)
    p[0] = 0.0
    assert pred.p[0] == 0.9
    with pytest.raises(ValueError, match="read-only"):
        pred.p[0] = 0.5


def test_inputs_on_other_scans_are_refused(pred: Predictions) -> None:
    check_same_scans({"global": pred, "brainstem": replace(pred, p=1 - pred.p)})
    order = np.arange(pred.y.size)
    order[[0, 1]] = [1, 0]
    with pytest.raises(PredictionsError, match="row 0: session is ses-1 in global, ses-2 in brainstem; sort both alike"):
        check_same_scans({"global": pred, "brainstem": take(pred, order)})
    with pytest.raises(PredictionsError, match="brainstem has 48 scans, global has 49"):
        check_same_scans({"global": pred, "brainstem": take(pred, order[:-1])})
    with pytest.raises(PredictionsError, match="only one of global and brainstem has a session column"):
        check_same_scans({"global": pred, "brainstem": replace(pred, session=None)})
