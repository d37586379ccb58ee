"""Ensembles of the seeds: mean log odds, a threshold of their own, and comparisons among themselves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, write_study
from rich.console import Console
from scipy.special import expit, logit

from experiments.analysis.compare import compared
from experiments.analysis.comparison import ENSEMBLE_FAMILIES, StudyComparison, read_comparison, write_comparison
from experiments.analysis.ensembles import ensemble, mean_log_odds
from experiments.analysis.pooling import Pooled
from experiments.analysis.view import show
from experiments.reporting.chapter import interval
from experiments.reporting.results_chapters import differences, part, scores
from experiments.reporting.sources import read_sources
from experiments.reporting.spread_chapters import folds
from experiments.statistics.predictions import Predictions, PredictionsError
from experiments.statistics.scores import point_values
from experiments.study.record import OLDEST_DECISION

INPUTS = ["global", "ventricles", "brainstem"]
Y = np.array([0, 1, 0, 1])
KEYS = [("t1", "1"), ("t2", "1"), ("t3", "1"), ("t4", "1")]


def pooled(tuning: list[float], test: list[float], threshold: float = 0.5, keys: list[tuple[str, str]] = KEYS) -> Pooled:
    p = np.array(test)
    names = np.array(["a", "b", "c", "d"])
    rows = Predictions(names, np.zeros(4, dtype=int), Y, p, (p >= threshold).astype(int), np.array(["1"] * 4))
    y = np.array([Y[KEYS.index(key)] for key in keys])
    return Pooled(rows, {0: (y, np.array(tuning))}, {0: threshold}, {0: keys})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles") / "made"
    skill = {"brainstem": 0.0, "global": 1.0, "ventricles": 1.0}
    write_study(folder, Made(patients=120, scans=140, inputs=INPUTS, seeds=(0, 1, 2), baselines=("age_sex",), skill=skill))
    return folder


@pytest.fixture(scope="module")
def found(study: Path) -> tuple[dict[str, list[Pooled]], StudyComparison]:
    return compared(study, INPUTS, [0, 1, 2], draws=300)


def printed(comparison: StudyComparison, folder: Path) -> str:
    stream = io.StringIO()
    show(comparison, folder, Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("networks", "mean"),
    [((0.5, 0.8), 2 / 3), ((0.2, 0.5, 0.8), 0.5), ((0.9, 0.9), 0.9), ((0.0, 1.0), 0.5), ((1.0, 0.5), 1 / (1 + 1e-3))],
)
def test_log_odds_are_averaged(networks: tuple[float, ...], mean: float) -> None:
    averaged = mean_log_odds([np.array([p]) for p in networks])
    assert averaged == pytest.approx([mean], abs=1e-6)


def test_the_threshold_comes_from_the_averaged_tuning_rows() -> None:
    first, second = (
        pooled([0.1, 0.4, 0.2, 0.9], [0.3, 0.6, 0.2, 0.7], 0.3),
        pooled([0.3, 0.7, 0.5, 0.8], [0.4, 0.3, 0.1, 0.9], 0.6),
    )
    own = ensemble([first, second], "balanced_accuracy")
    tuned = expit((logit([0.1, 0.4, 0.2, 0.9]) + logit([0.3, 0.7, 0.5, 0.8])) / 2)
    np.testing.assert_allclose(own.tuning[0][1], tuned)
    assert own.thresholds[0] == pytest.approx((tuned[2] + tuned[1]) / 2)  # between the highest negative and the lowest positive
    p = expit((logit([0.3, 0.6, 0.2, 0.7]) + logit([0.4, 0.3, 0.1, 0.9])) / 2)
    np.testing.assert_allclose(own.test.p, p)
    assert own.test.decision.tolist() == (p >= own.thresholds[0]).astype(int).tolist()
    turned = replace(first, test=replace(first.test, y=1 - Y)), replace(second, test=replace(second.test, y=1 - Y))
    assert ensemble(turned, "balanced_accuracy").thresholds == own.thresholds


def test_the_study_s_rule_decides() -> None:
    seeds = [pooled([0.1, 0.4, 0.2, 0.9], [0.3, 0.6, 0.2, 0.7], 0.3), pooled([0.3, 0.7, 0.5, 0.8], [0.4, 0.3, 0.1, 0.9], 0.3)]
    y, p = ensemble(seeds, "midpoint").tuning[0]
    middle = expit((logit(p[y == 1]).mean() + logit(p[y == 0]).mean()) / 2)
    assert ensemble(seeds, "midpoint").thresholds[0] == pytest.approx(middle)
    assert ensemble(seeds, "prior").thresholds[0] == 0.3


def test_tuning_rows_are_matched_by_scan_not_by_position() -> None:
    first, second = pooled([0.1, 0.4, 0.2, 0.9], [0.1, 0.6, 0.2, 0.7]), pooled([0.3, 0.7, 0.5, 0.8], [0.1, 0.6, 0.2, 0.7])
    other_order = pooled([0.8, 0.5, 0.7, 0.3], [0.1, 0.6, 0.2, 0.7], keys=KEYS[::-1])
    np.testing.assert_array_equal(
        ensemble([first, other_order], "balanced_accuracy").tuning[0][1],
        ensemble([first, second], "balanced_accuracy").tuning[0][1],
    )


def test_seeds_with_other_test_scans_are_refused() -> None:
    first = pooled([0.1, 0.4, 0.2, 0.9], [0.1, 0.6, 0.2, 0.7])
    other = replace(first, test=replace(first.test, patient=np.array(["a", "b", "c", "x"])))
    with pytest.raises(PredictionsError, match="patient is d in seed table 0, x in seed table 1"):
        ensemble([first, other], "balanced_accuracy")


def test_equal_seeds_give_the_run_itself() -> None:
    run = pooled([0.1, 0.4, 0.2, 0.9], [0.35, 0.6, 0.2, 0.25], 0.3)
    own = ensemble([run, run, run], "balanced_accuracy")
    np.testing.assert_allclose(own.test.p, run.test.p, rtol=1e-12)
    assert own.thresholds[0] == pytest.approx(0.3)
    assert own.test.decision.tolist() == run.test.decision.tolist()
    assert point_values(own.test) == point_values(run.test)


def test_averaging_independent_noise_raises_the_auc(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    tables, comparison = found
    for name in ("global", "ventricles"):
        auc = comparison.ensembles[name]["auc"]
        assert auc.value == point_values(ensemble(tables[name], OLDEST_DECISION).test)["auc"]
        assert auc.value > comparison.estimates[name]["auc"].value + 0.02
        assert auc.low < auc.value < auc.high
    assert set(comparison.ensembles) == set(INPUTS)


def test_ensembles_are_compared_with_ensembles(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    tables, comparison = found
    for family, metric, role in zip(ENSEMBLE_FAMILIES, ("balanced_accuracy", "auc"), ("", ", secondary"), strict=True):
        pairs = getattr(comparison, family)
        assert [(pair.first, pair.second, pair.metric) for pair in pairs] == [(name, "global", metric) for name in INPUTS[1:]]
        for pair in pairs:
            assert pair.verdict.endswith(f" (ensembles{role})")
            values = [point_values(ensemble(tables[name], OLDEST_DECISION).test)[metric] for name in (pair.first, pair.second)]
            assert pair.difference.value == pytest.approx(values[0] - values[1])
        smallest = min(pair.p for pair in pairs)
        assert min(pair.p_holm for pair in pairs) == pytest.approx(min(1, 2 * smallest))


def test_ensembles_do_not_move_the_single_networks(
    study: Path, found: tuple[dict[str, list[Pooled]], StudyComparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.analysis.compare.compare_ensembles", lambda *_: {})
    alone = compared(study, INPUTS, [0, 1, 2], draws=300)[1]
    for name in ("estimates", "baselines", "paired", "paired_auc", "paired_all", "paired_baselines", "details", "notes"):
        assert getattr(alone, name) == getattr(found[1], name)


def test_the_file_keeps_the_ensembles_in_rows_of_their_own(
    found: tuple[dict[str, list[Pooled]], StudyComparison], tmp_path: Path
) -> None:
    comparison = found[1]
    write_comparison(tmp_path, comparison)
    again = read_comparison(tmp_path)
    for name in ("ensembles", "estimates", *ENSEMBLE_FAMILIES):
        assert getattr(again, name) == getattr(comparison, name)
    head, *rows = [line.split("\t") for line in (tmp_path / "comparison.tsv").read_text().splitlines()]
    kinds = ["network"] * 3 + ["baseline"] + ["ensemble"] * 3 + ["stacked"] * 4
    assert [row[1] for row in rows] == kinds
    assert float(rows[4][head.index("auc")]) == comparison.ensembles["global"]["auc"].value
    assert rows[5][head.index("verdict")] == comparison.paired_ensembles[0].verdict


def test_every_table_says_whether_it_is_of_networks_or_of_ensembles(
    study: Path, found: tuple[dict[str, list[Pooled]], StudyComparison]
) -> None:
    text = printed(found[1], study)
    assert "single networks, mean over seeds 0, 1, 2" in text
    assert "single networks: balanced accuracy minus that of global, on the same patients" in text
    assert "ensembles: mean log odds of 3 networks a scan, threshold by the same rule" in text
    assert "ensembles: balanced accuracy minus that of global's ensemble" in text
    assert "SD of AUC between 3 seeds" in text


def test_one_seed_has_no_ensemble_in_any_file(study: Path, tmp_path: Path) -> None:
    comparison = compared(study, INPUTS, [1], draws=100)[1]
    write_comparison(tmp_path, comparison)
    names = list(json.loads((tmp_path / "comparison.json").read_text()))
    assert "ensemble" not in (tmp_path / "comparison.tsv").read_text() + " ".join(names)
    assert "ensembles:" not in printed(comparison, study)
    assert "single network" not in printed(comparison, study)
    assert read_comparison(tmp_path).ensembles == {}


def test_ensembles_without_global_are_scored_and_not_compared(study: Path) -> None:
    comparison = compared(study, INPUTS[1:], [0, 1], draws=100)[1]
    assert set(comparison.ensembles) == set(INPUTS[1:])
    assert (comparison.paired_ensembles, comparison.paired_ensembles_auc) == ((), ())


def test_the_report_shows_the_ensembles_apart_from_the_networks(tmp_path: Path) -> None:
    made = Made(inputs=INPUTS[:2], seeds=(0, 1))
    sources = read_sources(write_reportable(tmp_path / "made", made, draws=100))
    headline = "".join(block for block in scores(sources).blocks if isinstance(block, str))
    assert "single networks, mean over 2 seeds" in headline
    text = "".join(block for block in folds(sources).blocks if isinstance(block, str))
    shown = text[text.index("<h3>Ensembles of the seeds</h3>") :]
    row = next(row for row in sources.comparison["ensembles"] if row["input"] == "ventricles")
    assert interval(part(row, "auc")) in shown
    assert interval(sources.comparison["paired_ensembles"][0]["difference"], sign=True) in shown
    assert "mean log odds of 2 networks" in shown
    families = {line[0] for sheet in differences(sources).sheets for line in sheet.rows}
    assert {"paired", "paired_ensembles", "paired_ensembles_auc"} <= families
