"""The three rules of the threshold: values, edges, who uses them, and what each loses against the best one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from datamodules.cohort.target import Target
from experiments.analysis.baseline_models import Design, fit_baseline
from lightning_modules.decision import DECISIONS, Decision, best_threshold, choose_threshold, midpoint

Y = np.array([0, 0, 1, 1, 1])
P = expit(np.array([-3.0, -1.0, 0.0, 1.0, 5.0]))


def test_the_rules_have_one_list_of_names() -> None:
    assert tuple(DECISIONS) == get_args(Decision) == get_args(get_type_hints(Target)["decision"])
    with pytest.raises(ValueError, match="decision is 'youden'; it can be 'midpoint', 'balanced_accuracy', 'prior'"):
        choose_threshold("youden", Y, P, 0.5)  # type: ignore[arg-type]


def test_choosing_a_threshold_loads_no_torch() -> None:
    code = "import sys, lightning_modules.decision, experiments.study.record; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("fold", "wanted"), [(0, 0.5141935), (1, 0.571836), (2, 0.430077), (3, 0.740557), (None, 0.532733)])
def test_the_highest_balanced_accuracy_is_youdens_threshold_of_proc(fold: int | None, wanted: float) -> None:
    """R 4.2.2 with pROC 1.18.0: coords(roc(y, p), "best", best.method = "youden"), on each fold and all of cvauc_rows.tsv."""
    t = np.genfromtxt(
        Path(__file__).parent / "data" / "cvauc_rows.tsv", delimiter="\t", names=True, dtype=None, encoding="utf-8"
    )
    rows = np.ones(t.size, dtype=bool) if fold is None else t["fold"] == fold
    assert best_threshold(t["y"][rows], t["p"][rows]) == pytest.approx(wanted, abs=1e-12)


def test_the_midpoint_lies_between_the_mean_log_odds() -> None:
    assert logit(midpoint(Y, P)) == pytest.approx((2.0 - 2.0) / 2, abs=1e-8)
    assert choose_threshold("midpoint", Y, P, 0.9) == midpoint(Y, P)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 2.0), (0.3, -1.0), (2.0, 0.0)])
def test_the_midpoint_follows_log_odds_that_are_shifted_or_stretched(scale: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    y, odds = rng.integers(0, 2, 30), rng.normal(size=30)
    before, after = (logit(midpoint(y, expit(values))) for values in (odds, scale * odds + shift))
    assert after == pytest.approx(scale * before + shift, abs=1e-7)


def test_the_midpoint_stays_where_the_classes_are_in_the_wrong_order() -> None:
    assert midpoint(1 - Y, P) == pytest.approx(midpoint(Y, P), abs=1e-12)


def test_certain_scans_do_not_decide_alone() -> None:
    """Probabilities of exactly 0 and 1 count as 1e-6 and 1 - 1e-6."""
    p = np.array([0.0, 0.5, 0.5, 1.0])
    assert midpoint(np.array([0, 0, 1, 1]), p) == pytest.approx(0.5, abs=1e-8)
    assert logit(midpoint(np.array([0, 0, 1]), p[:3])) == pytest.approx(logit(1e-6) / 4, abs=1e-6)


@pytest.mark.parametrize("rule", [midpoint, best_threshold])
@pytest.mark.parametrize("value", [0, 1])
def test_one_class_or_no_number_gives_one_half(rule: object, value: int) -> None:
    assert callable(rule)
    assert rule(np.full(3, value), np.array([0.1, 0.2, 0.3])) == 0.5
    assert rule(np.array([0, 1, value]), np.array([0.1, np.nan, 0.3])) == 0.5


def test_one_probability_for_all_scans_gets_one_decision() -> None:
    assert best_threshold(np.array([0, 1, 0]), np.full(3, 0.3)) == pytest.approx(0.65)
    for p in (0.3, 0.7):
        shaken = p + np.random.default_rng(0).uniform(-1e-9, 1e-9, 9)
        assert midpoint(np.arange(9) % 2, shaken) == 0.5


def test_rounding_moves_no_scan_across_the_midpoint() -> None:
    """Probabilities on few steps, as of one covariate, may lie on the midpoint itself."""
    p = expit(np.array([-0.7, 0.1, 0.1, 0.9]))
    for rng in map(np.random.default_rng, range(20)):
        threshold = midpoint(np.array([0, 0, 1, 1]), p + rng.uniform(-1e-12, 1e-12, 4))
        assert (p >= threshold).tolist() == [False, True, True, True]


def test_the_prior_is_the_prevalence_of_the_training_part_and_looks_at_no_tuning_scan() -> None:
    assert choose_threshold("prior", Y, P, 0.29) == choose_threshold("prior", 1 - Y, P[::-1], 0.29) == 0.29
    assert choose_threshold("prior", np.ones(2, dtype=int), np.full(2, np.nan), 0.29) == 0.29


@pytest.mark.parametrize("decision", DECISIONS)
def test_baselines_decide_by_the_same_rules(decision: Decision) -> None:
    rng = np.random.default_rng(0)
    y, values = (np.arange(60) % 3 == 0).astype(np.int64), rng.normal(size=(60, 1))
    train, tuning = np.arange(40), np.arange(40, 60)
    fit = fit_baseline(Design(("x",), values), y, train, tuning, decision)
    seen = StandardScaler().fit(values[train]).transform(values)
    p = LogisticRegression(C=fit.penalty, max_iter=1000).fit(seen[train], y[train]).predict_proba(seen)[:, 1]
    assert fit.threshold == pytest.approx(choose_threshold(decision, y[tuning], p[tuning], y[train].mean()), abs=1e-9)
    assert choose_threshold("prior", y[tuning], p[tuning], y[train].mean()) == 14 / 40


def losses(auc: float, scans: int, prevalence: float, repeats: int = 2000) -> dict[str, float]:
    """Mean loss of balanced accuracy on new patients, in points, against the best threshold, where scores are binormal.

    The log odds are those of a calibrated model; the positive scans' spread is that of the negative ones.
    """
    shift, rng = 2**0.5 * norm.ppf(auc), np.random.default_rng(scans)
    y = (np.arange(scans) < round(prevalence * scans)).astype(int)
    odds = shift * (rng.normal(shift * y, 1.0, (repeats, scans)) - shift / 2) + logit(prevalence)
    lost = {}
    for decision in DECISIONS:
        chosen = np.array([choose_threshold(decision, y, expit(row), prevalence) for row in odds])  # type: ignore[arg-type]
        cut = (logit(chosen) - logit(prevalence)) / shift + shift / 2
        lost[decision] = 100 * float(norm.cdf(shift / 2) - np.mean(norm.sf(cut - shift) + norm.cdf(cut)) / 2)
    return lost


@pytest.mark.parametrize("prevalence", [0.3, 0.5])
def test_the_midpoint_loses_little_against_the_best_threshold_and_less_than_the_highest_balanced_accuracy(
    prevalence: float,
) -> None:
    many, few = losses(0.75, 46, prevalence), losses(0.75, 14, prevalence)
    assert 0 < many["midpoint"] < 1
    assert few["midpoint"] < 3
    assert few["midpoint"] < few["balanced_accuracy"]
    assert many["midpoint"] < many["balanced_accuracy"]
    assert abs(few["prior"]) < 0.05  # a calibrated model needs no tuning scan
