"""ComBat: neuroCombat's numbers, what it may not see, sites that are new, and the baselines that are made of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from made_study import Made, write_study

from experiments.analysis.baseline_files import BASELINES, COMBAT, read_baselines
from experiments.analysis.baseline_models import Design, fit_baseline
from experiments.analysis.baselines import make_baselines
from experiments.analysis.harmonised import harmonised
from experiments.statistics.combat import LEAST_SCANS, fit_combat
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.scan_table import read_scans
from experiments.study.study import StudyOptions, open_study

ROWS = Path(__file__).parent / "data" / "combat_rows.tsv"


def columns(prefix: str) -> np.ndarray:
    with ROWS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = [prefix] if prefix in rows[0] else [name for name in rows[0] if name.startswith(prefix)]
    return np.array([[row[name] for name in names] for row in rows])


SITE = columns("site")[:, 0]
VALUES = columns("v").astype(float)
PERSON = np.concatenate([columns("age"), columns("male")], axis=1).astype(float)


@pytest.mark.parametrize(("kept", "expected"), [(PERSON, "age_sex"), (np.empty((24, 0)), "plain")])
def test_the_numbers_are_those_of_neurocombat(kept: np.ndarray, expected: str) -> None:
    """Columns age_sex* and plain* are the output of neuroCombat 0.2.12, with age and sex and without covariates."""
    assert fit_combat(VALUES, SITE, kept).apply(VALUES, SITE, kept) == pytest.approx(columns(expected).astype(float), abs=1e-6)


def test_scans_that_are_not_fitted_on_change_nothing_and_are_harmonised_by_the_fit() -> None:
    train = np.arange(24) % 4 != 3
    fit = fit_combat(VALUES[train], SITE[train], PERSON[train])
    assert np.sum(train & (SITE == "c")) == LEAST_SCANS - 1
    alone, together = (fit.apply(VALUES[rows], SITE[rows], PERSON[rows]) for rows in (train, np.ones(24, dtype=bool)))
    assert together[SITE == "c"] == pytest.approx(VALUES[SITE == "c"])
    assert together[train] == pytest.approx(alone)
    one = fit.apply(VALUES[3:4], SITE[3:4], PERSON[3:4])
    assert one == pytest.approx(together[3:4])


def cohort(sites: int, scans: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of six features, their sites, whose locations and scales differ, and two covariates that count."""
    site = np.repeat([f"site-{number}" for number in range(sites)], scans)
    person = rng.normal(size=(site.size, 2))
    location, scale = rng.normal(0, 2, (sites, 6)), rng.uniform(0.5, 2, (sites, 6))
    code = np.repeat(np.arange(sites), scans)
    errors = rng.normal(size=(site.size, 6))
    return 10 + person @ rng.normal(size=(2, 6)) + location[code] + scale[code] * errors, site, person


def test_a_new_site_is_brought_to_the_others_from_its_own_scans_and_a_small_one_is_left() -> None:
    values, site, person = cohort(5, 60, np.random.default_rng(0))
    train = site != "site-4"
    fit = fit_combat(values[train], site[train], person[train])
    out = fit.apply(values, site, person) - fit.expected(person)
    new = out[~train]
    assert np.abs(new.mean(axis=0)).max() < 0.1
    assert new.std(axis=0) == pytest.approx(fit.spread, rel=0.15)
    few = np.flatnonzero(~train)[: LEAST_SCANS - 1]
    assert fit.apply(values[few], site[few], person[few]) == pytest.approx(values[few])
    nameless = np.array([""] * 9)
    assert fit.apply(values[:9], nameless, person[:9]) == pytest.approx(values[:9])


def test_effects_of_covariates_are_kept() -> None:
    values, site, person = cohort(4, 200, np.random.default_rng(1))
    out = fit_combat(values, site, person).apply(values, site, person)
    dummies = np.stack([site == name for name in np.unique(site)], axis=1)

    def slopes(y: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(np.concatenate([dummies, person], axis=1), y, rcond=None)[0][-2:]

    assert slopes(out) == pytest.approx(slopes(values), abs=0.15)


def test_a_constant_feature_and_one_site_stay_as_they_are() -> None:
    values, site, person = cohort(2, 20, np.random.default_rng(2))
    values[:, 2] = 7.0
    out = fit_combat(values, site, person).apply(values, site, person)
    assert np.all(out[:, 2] == 7.0)
    assert np.isfinite(out).all()
    alone = fit_combat(values[:20], site[:20], person[:20]).apply(values[:20], site[:20], person[:20])
    assert np.abs(alone - values[:20]).max() < 1.0


@pytest.fixture
def table(tmp_path: Path):
    write_study(tmp_path / "study", Made(inputs=("global",)))
    return read_scans(tmp_path / "study")


def test_a_design_is_harmonised_in_its_training_part_alone_and_without_the_label(table) -> None:
    rng = np.random.default_rng(0)
    size = table.patient.size
    values = rng.normal(size=(size, 4)) + 3.0 * (table.text("site") == "site-1")[:, None]
    values[:, 0] = table.number("age")
    values[5, 2] = np.nan
    design, train = Design(("age", "a_ml", "b_ml", "c_ml"), values), np.arange(size) % 2 == 0
    out = harmonised(design, table, np.flatnonzero(train))
    assert np.array_equal(out.values[:, 0], values[:, 0])
    assert np.array_equal(np.isnan(out.values), np.isnan(values))
    ours = table.text("site") == "site-1"
    assert np.abs(np.nanmean(values[ours, 1:]) - np.nanmean(values[~ours, 1:])) > 2.5
    assert np.abs(np.nanmean(out.values[ours, 1:]) - np.nanmean(out.values[~ours, 1:])) < 0.4
    elsewhere = design.values.copy()
    elsewhere[~train, 1:] += 100 * rng.normal(size=(int((~train).sum()), 3))
    changed = harmonised(Design(design.names, elsewhere), table, np.flatnonzero(train))
    assert np.array_equal(changed.values[train], out.values[train], equal_nan=True)


def test_a_site_difference_that_follows_the_label_in_training_does_not_help_and_a_real_one_stays(table) -> None:
    rng = np.random.default_rng(1)
    y, site = table.label, table.text("site")
    signal = rng.normal(size=(y.size, 3)) + 2.0 * y[:, None]
    design = Design(("a_ml", "b_ml", "c_ml"), signal + 4.0 * (site == "site-1")[:, None])
    train, tuning = np.arange(0, y.size, 2), np.arange(1, y.size, 2)
    raw = fit_baseline(design, y, train, tuning, "midpoint").tuning_log_loss
    assert fit_baseline(harmonised(design, table, train), y, train, tuning, "midpoint").tuning_log_loss < raw


def test_the_rows_stand_beside_the_others_where_there_are_several_sites(
    phantom_copy: Path, store_folder: Path, tmp_path: Path
) -> None:
    path = phantom_copy / "participants.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    for number, row in enumerate(rows[1:]):
        row[rows[0].index("site")] = f"site-{number % 2}"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    study = open_study(StudyOptions(phantom_copy, tmp_path / "study", store_folder))
    made = make_baselines(study)["baselines"]
    assert set(COMBAT) == {"age_sex_volumes (ComBat)", "region_means (ComBat)"}
    assert list(made) == [*BASELINES, *COMBAT]
    for name in COMBAT:
        raw = made[name.removesuffix(" (ComBat)")]
        assert made[name]["features"] == raw["features"]
        assert made[name]["folds"]["0"]["coefficients"] != raw["folds"]["0"]["coefficients"]
    prints = {"split": study.splits.hash, "cohort": study.cohort_hash, "decision": study.cohort.rule.decision}
    run = study.folder / "global/fold-0/seed-0"
    run.mkdir(parents=True)
    RunFolder(run).write_complete({"fingerprint": prints})
    assert list(read_baselines(study.folder, [Run("global", 0)])[0]) == [*BASELINES, *COMBAT]
