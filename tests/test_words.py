"""Numbers as people read them: figures without an exponent, and labels made of them."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.analysis.subgroups import _tertiles
from experiments.analysis.table1 import _cell
from experiments.runtime.words import rounded
from experiments.study.covariates import Covariate


@pytest.mark.parametrize(
    ("value", "figures", "text"),
    [
        (1234.0, 3, "1,230"), (999.6, 3, "1,000"), (9.996, 3, "10"), (12.3456, 3, "12.3"), (44.0, 3, "44"),
        (1.5e6, 6, "1,500,000"), (-1234.5, 2, "-1,200"), (2.5e13, 3, "25,000,000,000,000"), (0.0, 3, "0"), (-0.0, 3, "0"),
        (0.0012346, 3, "0.00123"), (4e-7, 3, "0.0000004"), (float("inf"), 3, "inf"),
    ],
)  # fmt: skip
def test_a_number_has_so_many_figures_and_no_exponent(value: float, figures: int, text: str) -> None:
    assert rounded(value, figures) == text


def test_labels_of_tertiles_have_no_exponent() -> None:
    labels = [label for _, label, _ in _tertiles("days", np.arange(0.0, 9001.0, 100.0))]
    assert labels == ["up to 3,000", "above 3,000 to 6,000", "above 6,000"]


def test_cells_of_the_table_of_scans_have_no_exponent() -> None:
    cell = {"n": 5, "median": 1_450_000.0, "q1": 1_390_120.0, "q3": 1_510_000.0}
    assert _cell(cell, 0) == "1,450,000 (1,390,000 to 1,510,000)"


def test_what_a_scan_without_a_covariate_gets_has_no_exponent() -> None:
    filled = Covariate("icv", (), 1_450_120.0, (1.4e6,), (1e5,), {"train": 1})
    assert filled.message.endswith("get the training part's 1,450,120")
