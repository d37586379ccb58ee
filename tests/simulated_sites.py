"""Simulated cohorts of several sites: what splits by patient and by site, ComBat and the heterogeneity of sites do there.

    python tests/simulated_sites.py splits 500           # rates of "above chance" and of false differences
    python tests/simulated_sites.py heterogeneity 2000   # rates of Q, coverage of mean and prediction interval

Values of a scan are signal x label + location of its site + scale of its site x noise; sites differ in location, scale and,
where they are confounded, in the share of positive patients. Models are ridge discriminants, trained and decided in every fold
as in ``simulated_levels``. docs/statistics.md has the tables.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import expit, ndtri

from datamodules.cohort.records import Scan
from datamodules.cohort.site_splits import make_site_splits
from datamodules.cohort.splits import Splits, make_splits, test_to_train
from experiments.statistics.chance import DECISION_OVERLAP, against_chance
from experiments.statistics.combat import fit_combat
from experiments.statistics.heterogeneity import Heterogeneity, of_areas
from experiments.statistics.paired import corrected_t
from experiments.statistics.permutation import permutation_test
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.scores import fold_summary, point_values
from experiments.statistics.significance import bootstrap_interval
from lightning_modules.decision import choose_threshold

SITES, PATIENTS, FEATURES, DRAWS = 5, 30, 8, 300
NONE = np.empty((SITES * PATIENTS, 0))


@dataclass(frozen=True)
class Cohort:
    """One simulated cohort: (patients,) label and site, and the values (2 equally good inputs, patients, features)."""

    label: np.ndarray
    site: np.ndarray
    values: np.ndarray

    @property
    def patients(self) -> list[str]:
        """A name for each patient."""
        return [f"p{number:04d}" for number in range(self.label.size)]

    def scans(self) -> list[Scan]:
        """One scan for each patient, for the product's own splits."""
        rows = zip(self.patients, self.label.tolist(), self.site.tolist(), strict=True)
        return [Scan(name, "", {}, 0.0, 0, label, covariates={"site": site}) for name, label, site in rows]


def cohort(shift: float, signal: float, confounded: bool, rng: np.random.Generator) -> Cohort:
    """Sites whose locations have the SD ``shift`` and whose scales lie between 1 / (1 + shift / 2) and 1 + shift / 2."""
    code = np.repeat(np.arange(SITES), PATIENTS)
    share = np.linspace(0.15, 0.65, SITES) if confounded else np.full(SITES, 0.4)
    label = np.concatenate([np.arange(PATIENTS) < round(PATIENTS * of_site) for of_site in share]).astype(int)
    location = rng.normal(0, shift, (SITES, FEATURES))
    scale = np.exp(rng.uniform(-1, 1, (SITES, FEATURES)) * np.log1p(shift / 2))
    noise = rng.normal(size=(2, code.size, FEATURES))
    values = signal / FEATURES**0.5 * label[:, None] + location[code] + scale[code] * noise
    return Cohort(label, np.array([f"site-{number}" for number in code]), values)


def predicted(made: Cohort, number: int, splits: Splits, combat: bool) -> Predictions:
    """Internal test predictions of one input under a split, decided at the midpoint of each fold's tuning part."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("patient", "fold", "y", "p", "decision")}
    names, y = np.array(made.patients), made.label
    for fold in range(splits.folds):
        parts = splits.partitions(fold, made.patients)
        train, tuning, test = (parts[name] for name in ("train", "tuning", "internal_test"))
        x = made.values[number]
        if combat:
            x = fit_combat(x[train], made.site[train], NONE[train]).apply(x, made.site, NONE)
        means = np.stack([x[train][y[train] == value].mean(axis=0) for value in (0, 1)])
        centred = x[train] - means[y[train]]
        spread = centred.T @ centred / train.size + 0.5 * np.eye(FEATURES)
        score = x @ np.linalg.solve(spread, means[1] - means[0])
        p = expit((score - score[train].mean()) / score[train].std())
        cut = choose_threshold("midpoint", y[tuning], p[tuning], float(y[train].mean()))
        found = (names[test], np.full(test.size, fold), y[test], p[test], (p[test] >= cut).astype(int))
        for name, values in zip(columns, found, strict=True):
            columns[name].append(values)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Predictions(**joined)


def over_folds(first: Predictions, second: Predictions, by: str) -> bool:
    """Whether the corrected t test on the folds' differences of balanced accuracy rejects too."""
    a, b = (np.array(list(fold_summary(test)["balanced_accuracy"].values.values())) for test in (first, second))
    ratio = test_to_train(len(a), by == "site")
    return bool(np.ptp(a - b)) and corrected_t((a - b).tolist(), ratio).p <= 0.05


def split_row(shift: float, signal: float, confounded: bool, studies: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Split and ComBat -> mean AUC and balanced accuracy, "above chance", false differences, those over folds too; percent."""
    rows: dict[str, list[list[float]]] = {}
    for study in range(studies):
        made = cohort(shift, signal, confounded, rng)
        scans = made.scans()
        for by, splits in (("patient", make_splits(scans, study)), ("site", make_site_splits(scans, study))):
            for combat in (False, True):
                tests = [predicted(made, number, splits, combat) for number in (0, 1)]
                weights = draw_patient_weights(tests[0], DRAWS, rng)
                area = bootstrap_interval(tests[0], weights)["auc"]
                p = permutation_test(tests[0], tests[1], "balanced_accuracy", 499, rng, DECISION_OVERLAP)
                values = [[point_values(test)["auc"], point_values(test)["balanced_accuracy"]] for test in tests]
                found = [*values[0], against_chance(area) == "above chance", p <= 0.05, p <= 0.05 and over_folds(*tests, by)]
                rows.setdefault(f"{by}{' ComBat' if combat else ''}", []).append([float(value) for value in found])
    return {name: (100 * np.mean(values, axis=0)).tolist() for name, values in rows.items()}


def split_table(studies: int) -> None:
    """Print one row for each setting, split and ComBat."""
    print("shift  signal  confounded  split  AUC  balanced_accuracy  above_chance  different  over_folds", flush=True)
    for shift, signal, confounded in product((0.0, 1.0), (0.0, 1.0), (False, True)):
        for name, found in split_row(shift, signal, confounded, studies, np.random.default_rng(1)).items():
            print(shift, signal, confounded, name, *(f"{value:.1f}" for value in found), sep="  ", flush=True)


def sites_of(sites: int, size: int, spread: float, rng: np.random.Generator) -> tuple[Heterogeneity, float, float]:
    """Sites whose true AUCs have log odds about that of 0.75 with an SD: summary, the AUC of a further site, the middle one."""
    odds = np.log(3) + spread * rng.normal(size=sites + 1)
    areas, errors = [], []
    for of_site in odds[:-1]:
        positive = rng.normal(2**0.5 * ndtri(expit(of_site)), 1, max(5, round(0.4 * size)))
        negative = rng.normal(0, 1, size - positive.size)
        wins = positive[:, None] > negative
        area = wins.mean()
        if 0 < area < 1:  # DeLong's variance in place of the bootstrap's
            areas.append(float(area))
            parts = (wins.mean(axis=1).var(ddof=1) / positive.size, wins.mean(axis=0).var(ddof=1) / negative.size)
            errors.append(float(np.sqrt(sum(parts))))
    return of_areas(areas, errors), float(expit(odds[-1])), 0.75


def heterogeneity_row(sites: int, size: int, spread: float, studies: int, rng: np.random.Generator) -> list[float]:
    """Shares, in percent: Q below 5 %, the mean's interval holds the middle AUC, the prediction interval a further site's."""
    found = []
    for _ in range(studies):
        over, further, middle = sites_of(sites, size, spread, rng)
        assert over.predicted_low is not None
        assert over.predicted_high is not None
        held = over.low <= middle <= over.high, over.predicted_low <= further <= over.predicted_high
        found.append([over.p <= 0.05, *held, over.i2])
    return (100 * np.mean(found, axis=0)).tolist()


def heterogeneity_table(studies: int) -> None:
    """Print one row for each number and size of sites, and SD of the true log odds."""
    print("sites  patients  SD  Q_rejects  mean_covered  further_covered  I2", flush=True)
    for sites, size, spread in product((3, 5, 10, 20), (40, 150), (0.0, 0.5)):
        found = heterogeneity_row(sites, size, spread, studies, np.random.default_rng(1))
        print(sites, size, spread, *(f"{value:.1f}" for value in found), sep="  ", flush=True)


if __name__ == "__main__":
    {"splits": split_table, "heterogeneity": heterogeneity_table}[sys.argv[1]](int(sys.argv[2]))
