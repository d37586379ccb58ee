"""Sites that tell counts alone give the numbers of their pooled rows: equal where nothing is withheld, else within the ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import expit

from experiments.statistics.aggregates import CELLS, Aggregate, Decided, aggregate, cells_of, pooled
from experiments.statistics.number_aggregates import NUMBER_SCORES, NumberAggregate, aggregate_numbers, pooled_numbers
from experiments.statistics.numeric import Numbers, point_scores
from experiments.statistics.predictions import Predictions
from experiments.statistics.scores import point_values


def site(number: int, patients: int, repeats: int, rng: np.random.Generator, share: float = 0.4) -> Decided:
    who = np.concatenate([np.arange(patients), rng.integers(0, patients, repeats)])
    label = (rng.random(patients) < share).astype(np.int64)
    label[:2] = (0, 1)
    y = label[who]
    p = expit(rng.normal(0, 0.7, who.size) + 1.1 * (y - 0.5) + 0.3 * rng.normal())
    names = np.array([f"{number}-{patient}" for patient in who])
    return Predictions(
        names, np.zeros(who.size, dtype=np.int64), y, p, (p >= 0.47).astype(np.int64), np.arange(who.size).astype(str)
    )


def joined(sites: Sequence[Decided]) -> Predictions:
    columns = {name: np.concatenate([getattr(table, name) for table in sites]) for name in ("patient", "y", "p", "decision")}
    return Predictions(**columns, fold=np.zeros(columns["y"].size, dtype=np.int64))


def truth(sites: Sequence[Decided]) -> dict[str, float]:
    whole = joined(sites)
    in_cells = replace(whole, p=cells_of(whole.p) / CELLS)
    return {**point_values(whole), "auc": point_values(in_cells)["auc"], "brier": float(np.square(whole.p - whole.y).mean())}


def told(table: Decided, least: int) -> Aggregate:
    """What a site tells, through a file."""
    return Aggregate.of(json.loads(json.dumps(asdict(aggregate(table, least)))))


@pytest.mark.parametrize("seed", range(5))
def test_with_nothing_withheld_the_pooled_numbers_are_those_of_the_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = [site(number, int(rng.integers(2, 60)), int(rng.integers(0, 9)), rng) for number in range(4)]
    ours, theirs = pooled([told(table, 1) for table in sites]), truth(sites)
    for name, value in theirs.items():
        assert ours[name].value == pytest.approx(value, abs=1e-9)
    assert abs(theirs["auc"] - point_values(joined(sites))["auc"]) < 1e-3


@pytest.mark.parametrize("least", [2, 5, 10])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_withheld_leaves_a_range_that_holds_the_number_of_the_rows(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    sites = [site(number, int(rng.integers(2, 70)), int(rng.integers(0, 9)), rng) for number in range(4)]
    ours, theirs = pooled([told(table, least) for table in sites]), truth(sites)
    for name, value in theirs.items():
        assert ours[name].low - 1e-12 <= value <= ours[name].high + 1e-12, name


def test_large_sites_leave_a_narrow_range() -> None:
    rng = np.random.default_rng(3)
    sites = [site(number, 150, 20, rng) for number in range(3)]
    ours, theirs = pooled([told(table, 5) for table in sites]), truth(sites)
    for name in ("sensitivity", "specificity", "balanced_accuracy", "brier"):
        assert ours[name].value == pytest.approx(theirs[name], abs=1e-9)
    assert ours["auc"].high - ours["auc"].low < 0.09


@pytest.mark.parametrize("least", [2, 5, 10])
def test_nothing_is_told_of_few_patients(least: int) -> None:
    rng = np.random.default_rng(least)
    for patients in (3, 8, 25, 90):
        table = site(0, patients, 12, rng)
        for label, counts in ((0, aggregate(table, least).negative), (1, aggregate(table, least).positive)):
            rows = table.y == label
            people = np.unique(table.patient[rows]).size
            assert (counts.scans is None) == (people < least)
            if counts.scans is None:
                assert (counts.patients, counts.brier_sum, counts.bins, counts.most % least) == (None, None, (), 0)
                continue
            cells = cells_of(table.p)
            for first, last, scans in counts.bins:
                inside = rows & (cells >= first) & (cells <= last)
                assert (inside.sum(), np.unique(table.patient[inside]).size >= least) == (scans, True)
            for right in (True, False):
                some = np.unique(table.patient[rows & ((table.decision == table.y) == right)]).size
                if 0 < some < least:
                    assert counts.right_low < counts.right_high
            assert counts.right_low <= (table.decision == table.y)[rows].sum() <= counts.right_high


def test_the_ends_of_a_bin_are_nobody_s_score() -> None:
    rng = np.random.default_rng(0)
    table = site(0, 200, 0, rng)
    edges = {end for first, last, _ in aggregate(table, 5).negative.bins for end in (first, last)} - {0, CELLS}
    assert len(edges) > 20
    scores = set(cells_of(table.p)[table.y == 0].tolist())
    assert len(edges & scores) <= len(edges) // 4


def test_a_site_without_a_class_adds_to_the_other() -> None:
    rng = np.random.default_rng(5)
    table = site(0, 40, 0, rng)
    rows = table.y == 0
    alone = Decided(table.patient[rows], table.y[rows], table.p[rows], table.decision[rows])
    other = site(1, 30, 0, rng)
    ours = pooled([told(alone, 1), told(other, 1)])
    for name, value in truth([alone, other]).items():
        assert ours[name].value == pytest.approx(value, abs=1e-9)
    assert pooled([told(alone, 1)])["auc"].value is None
    assert pooled([told(alone, 1)])["sensitivity"].value is None
    assert {value.low for value in pooled([]).values()} == {None}


@pytest.mark.parametrize(
    "change",
    [
        {"right_high": 99}, {"right_low": -1}, {"most": 3}, {"bins": [[5, 3, 20]]}, {"bins": [[0, CELLS + 1, 20]]},
        {"bins": [[0, 5, 19]]}, {"bins": [[0, 5, 21], [6, 7, -1]]}, {"scans": None},
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other_are_refused(change: dict[str, object]) -> None:
    good = {"scans": 20, "patients": 20, "most": 20, "right_low": 9, "right_high": 9, "brier_sum": 3.0, "bins": [[0, 9, 20]]}
    assert Aggregate.of({"least": 5, "negative": good, "positive": good, "concordant": 200.5})
    with pytest.raises(ValueError, match=r"cannot be right|at most|not in order"):
        Aggregate.of({"least": 5, "negative": good, "positive": {**good, **change}, "concordant": 0})
    with pytest.raises(ValueError, match="cannot be concordant"):
        Aggregate.of({"least": 5, "negative": good, "positive": good, "concordant": 401})


def numbers(seed: int) -> list[Numbers]:
    rng = np.random.default_rng(seed)
    tables = []
    for number in range(4):
        who = rng.integers(0, 30, int(rng.integers(20, 60)))
        y = 45 + 11 * rng.normal(size=who.size)
        names = np.array([f"{number}-{patient}" for patient in who])
        p = 44 + 0.6 * (y - 45) + 6 * rng.normal(size=who.size)
        tables.append(Numbers(names, np.zeros(who.size, int), y, p, np.full(who.size, 43.7)))
    return tables


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_sites_give_the_scores_of_all_predicted_numbers(seed: int) -> None:
    tables = numbers(seed)
    names = ("patient", "fold", "y", "p", "mean")
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
    theirs = point_scores(Numbers(**columns))
    told = [aggregate_numbers(table.patient, table.y, table.p, 43.7, 5) for table in tables]
    read = [NumberAggregate.of(json.loads(json.dumps(asdict(site)))) for site in told]
    ours = pooled_numbers(read)
    for name in NUMBER_SCORES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


def test_numbers_of_few_patients_are_withheld() -> None:
    table = numbers(0)[0]
    few = np.isin(table.patient, np.unique(table.patient)[:4])
    told = aggregate_numbers(table.patient[few], table.y[few], table.p[few], 43.7, 5)
    assert (told.scans, told.patients, told.sums, told.most % 5) == (None, None, {}, 0)
    assert told.most >= few.sum()
    whole = aggregate_numbers(table.patient, table.y, table.p, 43.7, 5)
    assert pooled_numbers([told, whole]) == pooled_numbers([whole])
    assert set(pooled_numbers([told]).values()) == {None}
    for change in ({"sums": {}}, {"most": 1}, {"sums": {**whole.sums, "y": float("inf")}}):
        with pytest.raises(ValueError, match="scans"):
            NumberAggregate.of({**asdict(whole), **change})
