"""Simulated studies whose truth is known: how often do stacked networks, and what an image adds to age and sex, err?

    python tests/simulated_stacking.py 200     # all rows of docs/statistics.md, 200 studies each; ten minutes

Every network is a logistic regression on 16 features, trained by gradient descent in every fold of every study; the epoch with
the lowest tuning log loss predicts, so that tuning rows flatter it as they flatter a network. The clinical model is a logistic
regression on age and sex; the stacks, tests and sentences are the product's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from simulated_levels import FOLDS, Design, design

from experiments.analysis.pooling import Pooled
from experiments.analysis.stacking import (
    CLINICAL,
    TOGETHER,
    added_sentence,
    compare_stacks,
    regions_together,
    together_sentence,
)
from experiments.statistics.chance import against_chance
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions
from experiments.statistics.significance import draw_patient_weights, family_values
from lightning_modules.decision import choose_threshold

REGIONS = ("white_matter", "gray_matter", "subcortical_gray_matter", "ventricles", "brainstem")
SIZE, EPOCHS, RATE = 16, 30, 0.3
DRAWS = 500
DECISION = "midpoint"


@dataclass(frozen=True)
class Truth:
    """What a study holds. Shifts between the classes are in SDs.

    Attributes:
        clinical: Shift of age; sex holds nothing.
        images: Input -> shift along one direction of its features.
        reads_age: Whether the images show age along that direction, and of the label nothing beyond it.
    """

    clinical: float = 1.0
    images: tuple[float, ...] = (0.0,) * 6
    reads_age: bool = False


def pooled(plan: Design, p_of: dict[int, np.ndarray], prevalence: float) -> Pooled:
    """Probabilities (scans,) of each fold's model as the product's record."""
    p, decided = np.empty(plan.label.size), np.empty(plan.label.size, dtype=int)
    tuning, thresholds, keys = {}, {}, {}
    for fold, of_fold in p_of.items():
        test, tuned = plan.fold == fold, np.flatnonzero(plan.fold == (fold + 1) % FOLDS)
        tuning[fold] = (plan.label[tuned], of_fold[tuned])
        thresholds[fold] = choose_threshold(DECISION, *tuning[fold], prevalence)
        p[test], decided[test] = of_fold[test], of_fold[test] >= thresholds[fold]
        keys[fold] = [(str(row), "1") for row in tuned]
    return Pooled(Predictions(plan.patient, plan.fold, plan.label, p, decided), tuning, thresholds, keys)


def network(plan: Design, values: np.ndarray) -> Pooled:
    """A model of features (scans, size), stopped in each fold where its tuning log loss is lowest."""
    p_of = {}
    for fold in range(FOLDS):
        tuning = plan.fold == (fold + 1) % FOLDS
        train = ~tuning & (plan.fold != fold)
        weights, shift, best = np.zeros(values.shape[1]), 0.0, np.inf
        for _ in range(EPOCHS):
            gap = expit(values[train] @ weights + shift) - plan.label[train]
            weights, shift = weights - RATE * gap @ values[train] / gap.size, shift - RATE * gap.mean()
            odds = values @ weights + shift
            loss = np.logaddexp(0, np.where(plan.label == 1, -odds, odds))[tuning].mean()
            if loss < best:
                best, p_of[fold] = loss, expit(odds)
    return pooled(plan, p_of, float(plan.label.mean()))


def clinical(plan: Design, seen: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Probabilities (scans,) of a logistic regression on columns (scans, k), by Newton's method."""
    weights = np.zeros(seen.shape[1])
    for _ in range(6):
        p = expit(seen[train] @ weights)
        slope = seen[train].T @ (plan.label[train] - p)
        weights = weights + np.linalg.solve((seen[train].T * (p * (1 - p))) @ seen[train] + 0.1 * np.eye(weights.size), slope)
    return expit(seen @ weights)


def study(plan: Design, truth: Truth, rng: np.random.Generator) -> tuple[dict[str, list[Pooled]], Pooled]:
    """Networks of global and of five regions, and the clinical model, all trained in this study."""
    of_patient = plan.patient
    people = of_patient[-1] + 1
    age = rng.normal(size=people)[of_patient] + truth.clinical * plan.label
    sex = rng.integers(0, 2, people)[of_patient].astype(float)
    networks = {}
    for name, shift in zip(("global", *REGIONS), truth.images, strict=True):
        values = 0.9 * rng.normal(size=(people, SIZE))[of_patient] + 0.45 * rng.normal(size=(of_patient.size, SIZE))
        values[:, 0] += age if truth.reads_age else shift * plan.label
        networks[name] = [network(plan, values)]
    seen = np.stack([np.ones(age.size), age, sex], axis=1)
    p_of = {fold: clinical(plan, seen, (plan.fold != fold) & (plan.fold != (fold + 1) % FOLDS)) for fold in range(FOLDS)}
    return networks, pooled(plan, p_of, float(plan.label.mean()))


def judged(plan: Design, truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    """What the product says of one study: its sentences, differences of AUC and Brier score, and the regions together."""
    networks, age_sex = study(plan, truth, rng)
    weights = draw_patient_weights(age_sex.test, DRAWS, rng)
    known = family_values({"global": networks["global"][0].test, CLINICAL: age_sex.test}, weights)
    together = regions_together(networks, "global", DECISION)
    content = compare_stacks(networks, {CLINICAL: age_sex}, weights, known, "global", DECISION, together)
    tests = {name: pooled.test for name, (pooled,) in networks.items()}
    regions = compare_family(tests, weights, np.random.default_rng(0), permutations=DRAWS)
    added = list(zip(content["paired_added"], content["paired_added_brier"], strict=True))
    return {
        "added": [added_sentence(*pairs) for pairs in added],
        "gaps": [pair.difference.value for pair in added[0]],
        "together": together_sentence(content["paired_stacked"][0], regions),
        "chance": against_chance(content["stacked"][TOGETHER]["auc"]),
        "auc": content["stacked"][TOGETHER]["auc"].value,
    }


TRUTHS = {
    "no image holds anything": Truth(),
    "the images show age, and nothing beyond it": Truth(reads_age=True),
    "all images hold it, shift 1.5": Truth(images=(1.5,) * 6),
    "the brainstem alone holds it": Truth(images=(1.5, 0, 0, 0, 0, 1.5)),
    "global alone holds it": Truth(images=(1.5, 0, 0, 0, 0, 0)),
    "each region holds a part of its own": Truth(images=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
}


def main(studies: int, sizes: tuple[int, ...] = (140, 320)) -> None:
    """Print one row for each size and truth, in percent of the studies or, for single inputs, of the inputs."""
    print("patients | truth | any input betters | global adds | betters probabilities alone | mean AUC difference | mean Brier")
    print("difference | regions know more | global knows more | regions above chance | AUC of regions")
    for patients in sizes:
        plan = design(patients, 0.3)
        for name, truth in TRUTHS.items():
            rng = np.random.default_rng(patients)
            said = [judged(plan, truth, rng) for _ in range(studies)]
            texts = [[words.partition(": ")[2] for words in one["added"]] for one in said]
            better = [[words.startswith(("adds", "betters")) for words in row] for row in texts]
            shares = {
                "any": [any(row) for row in better],
                "adds": [row[0].startswith("adds") for row in texts],
                "betters": [row[0].startswith("betters") for row in texts],
                "regions": [one["together"].startswith("the regions together know more") for one in said],
                "global": [one["together"].startswith("global knows more") for one in said],
                "chance": [one["chance"] == "above chance" for one in said],
            }
            rates = {key: f"{100 * np.mean(values):.1f}" for key, values in shares.items()}
            gaps = [f"{np.mean([one['gaps'][at] for one in said]):+.3f}" for at in (0, 1)]
            row = [rates[key] for key in ("any", "adds", "betters")] + gaps
            row += [rates[key] for key in ("regions", "global", "chance")]
            print(" | ".join([str(patients), name, *row, f"{np.mean([one['auc'] for one in said]):.2f}"]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
