"""DeLong and McNemar on one scan for each patient.

Frozen values, on the first scan of each patient of data/significance_rows.tsv: R 4.2.2 with pROC 1.18.0, roc.test(roc(y, p),
roc(y, p_other), method = "delong", paired = TRUE), with which MLstatkit 0.1.91 agrees; statsmodels 0.15.0, mcnemar(table,
exact=True), with which R's binom.test agrees.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from significance_rows import load

from experiments.statistics.predictions import Predictions, PredictionsError
from experiments.statistics.unclustered import delong, mcnemar


def in_one_fold(p: str, decision: str) -> Predictions:
    rows = load(p, decision)
    return replace(rows, fold=np.zeros_like(rows.fold))


def first_scans(pred: Predictions) -> Predictions:
    rows = np.unique(pred.patient, return_index=True)[1]
    return Predictions(pred.patient[rows], pred.fold[rows], pred.y[rows], pred.p[rows], pred.decision[rows])


@pytest.fixture(scope="module")
def clustered() -> tuple[Predictions, Predictions]:
    return in_one_fold("p", "decision"), in_one_fold("p_other", "decision_other")


@pytest.fixture(scope="module")
def pair(clustered: tuple[Predictions, Predictions]) -> tuple[Predictions, Predictions]:
    return first_scans(clustered[0]), first_scans(clustered[1])


def test_delong_equals_proc(pair: tuple[Predictions, Predictions]) -> None:
    found = delong(*pair)
    assert found.first == pytest.approx(0.8054545454545454, abs=1e-9)
    assert found.second == pytest.approx(0.7672727272727273, abs=1e-9)
    assert found.error**2 == pytest.approx(0.007873388429752064, abs=1e-9)
    assert found.z == pytest.approx(0.43030437968514557, abs=1e-9)
    assert found.p == pytest.approx(0.6669742416210696, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((-0.13572993367015460, 0.21209357003379078), abs=1e-9)


def test_delong_is_antisymmetric(pair: tuple[Predictions, Predictions]) -> None:
    one, two = delong(*pair), delong(pair[1], pair[0])
    assert (one.difference, one.z, one.p, one.low) == pytest.approx((-two.difference, -two.z, two.p, -two.high))


def test_mcnemar_equals_statsmodels(pair: tuple[Predictions, Predictions]) -> None:
    found = mcnemar(*pair)
    assert (found["sensitivity"].only_first, found["sensitivity"].only_second) == (2, 1)
    assert (found["specificity"].only_first, found["specificity"].only_second) == (3, 1)
    assert found["sensitivity"].p == pytest.approx(1.0, abs=1e-12)
    assert found["specificity"].p == pytest.approx(0.625, abs=1e-12)


def test_mcnemar_of_equal_decisions_is_one(pair: tuple[Predictions, Predictions]) -> None:
    assert {part.p for part in mcnemar(pair[0], pair[0]).values()} == {1.0}


def test_repeated_scans_are_refused(clustered: tuple[Predictions, Predictions]) -> None:
    for test in (delong, mcnemar):
        with pytest.raises(PredictionsError, match="repeated scans of patients: 13; this test assumes independent"):
            test(*clustered)


def test_scores_of_several_folds_are_refused(pair: tuple[Predictions, Predictions]) -> None:
    fold = np.arange(36) % 2
    with pytest.raises(PredictionsError, match=r"scores of folds \[0, 1\] have no common scale"):
        delong(replace(pair[0], fold=fold), replace(pair[1], fold=fold))


def test_delong_refuses_what_has_no_variance(pair: tuple[Predictions, Predictions]) -> None:
    with pytest.raises(PredictionsError, match="both inputs order the scans identically"):
        delong(pair[0], replace(pair[0], p=pair[0].p / 2))
    y = np.zeros(36, dtype=int)
    y[0] = 1
    with pytest.raises(PredictionsError, match="two scans of each class"):
        delong(replace(pair[0], y=y), replace(pair[1], y=y))
