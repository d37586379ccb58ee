"""Metrics against scikit-learn, undefined values, and the threshold against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from lightning_modules import decision
from lightning_modules.metrics import METRICS, evaluate


def sample(seed: int, scans: int = 40, digits: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and labels with both classes; few digits make ties."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(scans) % 3 == 0).astype(int)
    return torch.from_numpy(np.clip(rng.normal(0.3 + 0.2 * label, 0.2), 0, 1).round(digits)), torch.from_numpy(label)


@pytest.mark.parametrize("digits", [17, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scikit_learn(seed: int, digits: int) -> None:
    probability, label = sample(seed, digits=digits)
    positive = (probability >= 0.4).int().numpy()
    found = evaluate(probability, label, 0.4)
    expected = {
        "balanced_accuracy": balanced_accuracy_score(label.numpy(), positive),
        "sensitivity": recall_score(label.numpy(), positive),
        "specificity": recall_score(label.numpy(), positive, pos_label=0),
        "auroc": roc_auc_score(label.numpy(), probability.numpy()),
    }
    assert tuple(found) == METRICS
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_probability_at_the_threshold_counts_as_positive() -> None:
    found = evaluate(torch.tensor([0.25, 0.75], dtype=torch.float64), torch.tensor([0, 1]), 0.75)
    assert found["sensitivity"] == 1.0
    assert evaluate(torch.tensor([0.1], dtype=torch.float32), torch.tensor([1]), float(torch.tensor(0.1)))["sensitivity"] == 1.0


@pytest.mark.parametrize(
    ("value", "defined", "undefined"), [(1, "sensitivity", "specificity"), (0, "specificity", "sensitivity")]
)
def test_one_class_leaves_metrics_undefined_not_zero(value: int, defined: str, undefined: str) -> None:
    found = evaluate(torch.tensor([0.9, 0.2]), torch.full((2,), value), 0.5)
    assert found[defined] == 0.5
    assert [found[undefined], found["auroc"], found["balanced_accuracy"]] == [None, None, None]


def test_probabilities_that_are_no_numbers_leave_all_undefined() -> None:
    assert set(evaluate(torch.tensor([0.2, float("nan")]), torch.tensor([0, 1]), 0.5).values()) == {None}


def test_equal_probabilities_order_nothing() -> None:
    assert evaluate(torch.full((6,), 0.3), torch.tensor([0, 1, 0, 1, 1, 0]), 0.5)["auroc"] == 0.5


def best_threshold(probability: torch.Tensor, label: torch.Tensor) -> float:
    return decision.best_threshold(label.numpy(), probability.numpy())


def balanced(probability: torch.Tensor, label: torch.Tensor, threshold: float) -> float:
    return float(balanced_accuracy_score(label.numpy(), (probability >= threshold).numpy()))


@pytest.mark.parametrize("digits", [17, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_separates_the_tuning_part_better(seed: int, digits: int) -> None:
    probability, label = sample(seed, 25, digits)
    best = max(balanced(probability, label, value) for value in [*probability.tolist(), -1.0, 2.0])
    assert balanced(probability, label, best_threshold(probability, label)) == pytest.approx(best)


def test_a_part_in_the_wrong_order_gets_chance_and_not_less() -> None:
    probability, label = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([1, 0])
    assert balanced(probability, label, best_threshold(probability, label)) == 0.5


def test_among_equal_thresholds_the_nearest_to_one_half_wins() -> None:
    probability = torch.tensor([0.05, 0.15, 0.35, 0.65, 0.8, 0.9], dtype=torch.float64)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    equal = [value for value in (0.1, 0.5) if balanced(probability, label, value) == pytest.approx(2 / 3)]
    assert equal == [0.1, 0.5]
    assert best_threshold(probability, label) == pytest.approx(0.5)


def test_the_choice_stays_exact_in_large_parts() -> None:
    scans = 6000
    probability = torch.linspace(0.1, 0.9, scans, dtype=torch.float64)
    label = (torch.arange(scans) >= 1000).long()
    label[999] = 1
    threshold = best_threshold(probability, label)
    assert float(probability[998]) < threshold < float(probability[999])


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_gives_one_half(value: int) -> None:
    assert best_threshold(torch.tensor([0.9, 0.8]), torch.full((2,), value)) == 0.5


def test_probabilities_that_are_no_numbers_give_one_half() -> None:
    assert best_threshold(torch.tensor([0.9, float("nan")]), torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_rounding_moves_no_scan_across_the_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.integers(0, 2, 30))
    probability = torch.from_numpy(0.5 + 1e-4 * rng.integers(-3, 4, 30) + 0.01 * label.numpy())
    threshold = best_threshold(probability, label)
    shaken = probability + torch.from_numpy(rng.uniform(-1e-6, 1e-6, 30))
    assert torch.equal(probability >= threshold, shaken >= threshold)
