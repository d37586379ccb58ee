"""What bundles, sites and predictions say of numbers, whatever their scale; nothing is trained."""

from __future__ import annotations

import io
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.bundles.card import _table
from experiments.bundles.merging import merged, show
from experiments.bundles.site import _number_metrics
from experiments.predicting.chart import WIDE, chart
from experiments.predicting.records import InputOutcome, NumberPrediction
from experiments.predicting.view import prediction_text
from experiments.statistics.number_aggregates import aggregate_numbers


def site_of(scale: float, name: str) -> dict[str, Any]:
    rng = np.random.default_rng(len(name))
    y = scale * rng.normal(1, 0.3, 30)
    p, patient = y + scale * rng.normal(0, 0.1, 30), np.arange(30)
    sums = aggregate_numbers(patient, y, p, scale, 5)
    metrics = _number_metrics(patient, y, p, scale, 0, sums, 200)
    return {"site": name, "least": 5, "kind": "number", "counts": asdict(sums), "metrics": metrics} | {
        "bundle": {"input": "global", "study": "mine"}, "target": "volume",
    }  # fmt: skip


def printed(scale: float) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(merged([site_of(scale, "oslo"), site_of(scale, "graz2")]), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("scale", [1e-8, 1e-3])
def test_sites_have_intervals_and_figures_on_every_scale(scale: float) -> None:
    shown, usual = printed(scale), printed(1.0)
    assert "not estimable" not in shown
    zeros = re.compile(r"\b0\.0*(?=[1-9])")
    assert "0.00 [0.00, 0.00]" not in shown
    maes = [zeros.sub("", line.split()[2]) for line in shown.splitlines() if line.split()[:1] in (["oslo"], ["graz2"])]
    assert maes == [
        zeros.sub("", line.split()[2])[:2] for line in usual.splitlines() if line.split()[:1] in (["oslo"], ["graz2"])
    ]


def test_a_card_shows_two_figures_of_an_error() -> None:
    score = {"title": "MAE, l", "value": 1.234e-6, "low": 1.1e-6, "high": 1.4e-6}
    r2 = {"title": "R2", "value": 0.512, "low": 0.4, "high": 0.6}
    row = _table([("global", {"mae": score, "r2": r2})]).splitlines()[-1]
    assert row == "| global | 0.0000012 [0.0000011, 0.0000014] | 0.51 [0.40, 0.60] |"
    area = {"title": "AUC", "value": 0.8123, "low": 0.7, "high": 0.9}
    assert "0.81 [0.70, 0.90]" in _table([("global", {"auc": area})])


@pytest.mark.parametrize(
    ("number", "half", "text"),
    [(2019.4, 1.5, "2019.40 [2017.90, 2020.90]"), (1.234e-6, 2e-7, "0.00000123 [0.00000103, 0.00000143]"),
     (1_523_456.0, 1e5, "1523456.00 [1423456.00, 1623456.00]"), (41.3, np.inf, "41.30 [-inf, inf]")],
)  # fmt: skip
def test_a_predicted_number_is_shown_with_the_figures_of_its_interval(number: float, half: float, text: str) -> None:
    prediction = NumberPrediction(number, (number, number), 0.0, number - half, number + half)
    assert prediction_text(InputOutcome("global", prediction=prediction)) == text


def test_a_chart_spreads_small_numbers_and_writes_no_exponent() -> None:
    for scale in (1e-9, 1e7):
        prediction = NumberPrediction(2.5 * scale, (2 * scale, 3 * scale), 0.7 * scale, 1.6 * scale, 3.4 * scale)
        drawn = chart([InputOutcome("global", prediction=prediction)], ["global"], WIDE).decode()
        dots = [float(x) for x in re.findall(r'cx="([0-9.]+)"', drawn)]
        assert max(dots) - min(dots) > WIDE / 4
        assert not re.search(r">[^<]*[0-9]e[-+][0-9]", drawn)
