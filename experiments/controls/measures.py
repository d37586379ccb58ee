"""How controls are scored: by the AUC within folds, or, where a number is predicted, by Spearman's correlation within folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datamodules.cohort.target import Target
from experiments.controls.rules import METRIC, RULES, Verdict
from experiments.statistics.constant import LEAST_PATIENTS, has_few_patients
from experiments.statistics.numeric import Numbers, has_few
from experiments.statistics.numeric_pairs import SECONDARY, numeric_estimates, numeric_gap, numeric_values
from experiments.statistics.paired import paired_differences
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import Estimate, Runs, Values, mean_values, percentile_interval

Table = Predictions | Numbers
Scores = Mapping[str, Estimate]
WORDS = {
    "labels dealt out": "values dealt out",
    "the label": "the {name}",
    "the AUC": "Spearman's correlation",
    "excludes 0.5": "excludes 0",
    "above 0.5": "above 0",
    "logistic regression": "ridge regression",
    "one probability": "one number",
    "no fold holds both classes": "all scans of each fold have one value",
    f"{LEAST_PATIENTS} patients of a class": f"{2 * LEAST_PATIENTS} patients",
}
"""What the rules and verdicts of two classes say otherwise of a number."""


def metric_of(target: Target) -> str:
    """The score that the rules look at."""
    return SECONDARY if target.is_number else METRIC


def measured(table: Table, weights: WeightArray) -> Scores:
    """Metric -> value and interval."""
    return estimated(table, values_of(table, weights))


def estimated(table: Table, values: Values) -> Scores:
    """Metric -> value and interval, from values of such a table."""
    if isinstance(table, Numbers):
        return numeric_estimates(values)
    ends = {metric: (None, None) if value is None else percentile_interval(draws) for metric, (value, draws) in values.items()}
    return {metric: Estimate(value, *ends[metric]) for metric, (value, _) in values.items()}


def values_of(table: Table, weights: WeightArray) -> Values:
    """Metric -> value and its draws."""
    return numeric_values({"": [table]}, weights)[""] if isinstance(table, Numbers) else mean_values(table, weights)


def differences(first: Table, second: Table, weights: WeightArray) -> Scores:
    """First minus second on every metric, on the same draws of patients."""
    if isinstance(first, Numbers) or isinstance(second, Numbers):
        return numeric_gap(values_of(first, weights), values_of(second, weights))
    return paired_differences(first, second, weights)


def is_small(tables: Sequence[Table]) -> bool:
    """Whether there are too few patients for a word."""
    first = tables[0]
    if isinstance(first, Numbers):
        return has_few(first)
    rest: Runs = [table for table in tables if isinstance(table, Predictions)]
    return has_few_patients(rest)


def on_scale(estimate: Estimate | None) -> Estimate | None:
    """A correlation on the scale of an AUC, (r + 1) / 2: the rules, all about 0.5 and order, then hold as they are."""
    if estimate is None or estimate.value is None:
        return estimate
    ends = [None if end is None else (end + 1) / 2 for end in (estimate.low, estimate.high)]
    return replace(estimate, value=(estimate.value + 1) / 2, low=ends[0], high=ends[1])


def worded(text: str, target: Target) -> str:
    """A rule or a verdict as it is said of a target."""
    for usual, other in WORDS.items() if target.is_number else ():
        text = text.replace(usual, other.format(name=target.name))
    return text


def reworded(verdict: Verdict, target: Target) -> Verdict:
    """A verdict as it is said of a target."""
    return replace(verdict, text=worded(verdict.text, target))


def rules_of(target: Target, chosen: Sequence[str]) -> dict[str, Any]:
    """Rules behind the verdicts; sex and field strength are classes in any study."""
    other = ("sex", "field_strength")
    return {name: RULES[name] if name in other else worded(RULES[name], target) for name in chosen}
